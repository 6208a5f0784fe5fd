"""Finds the pictures that words on a command line mean."""

import dataclasses
import glob
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from foundation import picture_formats
from foundation.errors import InputError

_NUM_SHOWN = 5
# Stands for what is piped in.
PIPED = "-"


@dataclasses.dataclass(frozen=True)
class Found:
    """What words on a command line mean.

    Attributes:
      pictures: paths, each once, in their order. Names of files that are not there are among them,
        to be reported with the unreadable ones.
      left_out: paths of files in folders that are no pictures by their first bytes.
      contents: a picture that was piped in, by its name in `pictures`.
    """

    pictures: list[str]
    left_out: list[str]
    contents: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def described(self) -> Iterator[str]:
        """Lines for the screen on what is left out."""
        if self.left_out:
            count, names = len(self.left_out), ", ".join(self.left_out[:_NUM_SHOWN])
            more = ", …" if count > _NUM_SHOWN else ""
            files = "file that is no picture" if count == 1 else "files that are no pictures"
            yield f"Left out: {count} {files} ({names}{more})"


def find(words: Sequence[str], option: str = "image") -> Found:
    """Finds the files that the values of an option mean.

    A folder means the pictures in it and below, sorted, by their first bytes or their names. Hidden
    files are passed over. `PIPED` means standard input: a picture, or a list of names.

    Raises:
      InputError: a folder or a glob without a picture.
    """
    found, left_out, contents = {}, {}, {}
    for word in words:
        if word == PIPED:
            pictures, contents = _piped(sys.stdin.buffer.read())
        elif os.path.isdir(word):
            pictures, others = _in_folder(word)
            left_out.update(dict.fromkeys(others))
        elif os.path.exists(word):
            pictures = [word]
        elif glob.has_magic(word):
            pictures = sorted(glob.glob(word, recursive=True))
        else:
            pictures = [part.strip() for part in word.split(",") if part.strip()]
        if not pictures:
            raise InputError("no picture there.", option=option, value=word)
        found.update(dict.fromkeys(pictures))
    return Found(list(found), list(left_out), contents)


def _piped(data: bytes) -> tuple[list[str], dict[str, bytes]]:
    """The pictures that standard input means: it is one, or a list of names.

    Names stand in lines, or as `find -print0` writes them.
    """
    if picture_formats.name(data):
        return [PIPED], {PIPED: data}
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(name) for name in names if name.strip()], {}


def _in_folder(folder: str) -> tuple[list[str], list[str]]:
    """The files below a folder that are pictures, and those that are none, sorted."""
    pictures, others = [], []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = os.path.join(place, name)
                (pictures if _is_picture(path) else others).append(path)
    return sorted(pictures), sorted(others)


def _is_picture(path: str) -> bool:
    """Whether a file is to be classified; one that can't be read is reported then."""
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return not os.path.exists(path) and picture_formats.is_picture(path, b"")  # a broken link
    try:
        with open(path, "rb") as file:
            return picture_formats.is_picture(path, file.read(picture_formats.NUM_BYTES))
    except OSError:
        return True
