"""Finds the pictures that words on a command line mean."""

import glob
import os
from collections.abc import Sequence

from foundation.errors import InputError


def find(words: Sequence[str]) -> list[str]:
    """The files that the values of --image mean, each once, in their order.

    A folder means the pictures in it and below, by their extensions, sorted. Names of files that
    are not there are returned too, to be reported with the unreadable ones.

    Raises:
      InputError: a folder or a glob without a picture.
    """
    found = {}
    for word in words:
        if os.path.isdir(word):
            pictures = _in_folder(word)
        elif os.path.exists(word):
            pictures = [word]
        elif glob.has_magic(word):
            pictures = sorted(glob.glob(word, recursive=True))
        else:
            pictures = [part.strip() for part in word.split(",") if part.strip()]
        if not pictures:
            raise InputError("no picture there.", option="image", value=word)
        found.update(dict.fromkeys(pictures))
    return list(found)


def _in_folder(folder: str) -> list[str]:
    from PIL import Image  # here, so that --help does without

    from datasets.conversion import image_bytes

    extensions = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in image_bytes.FORMATS
    }
    return sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in extensions
    )
