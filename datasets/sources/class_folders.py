"""Reads a folder per class, with or without a folder per split above them."""

import os
import posixpath
from collections.abc import Iterator

from datasets import splits
from datasets.schema import LabeledImage
from datasets.sources import image_folder
from datasets.sources.image_folder import ImageFolder
from foundation import labels
from foundation.errors import InputError


def read(images: ImageFolder) -> Iterator[LabeledImage]:
    """Yields every file under the class folders, at any depth, in the order of their names.

    The folders are splits where they are called train, validation (also valid, val) or test, and
    hold folders themselves; so a class may be called `train`.

    Raises:
      InputError: no folder can be a class, one for training is empty, the name of one is not
        UTF-8, or split folders and others lie side by side.
    """
    top = images.path
    folders = _folders(top)
    split_folders = [name for name in folders if splits.named(name) and _folders(top, name)]
    if not split_folders:
        if not folders:
            raise InputError(
                "it has no folder per class.",
                option="image_dir",
                value=top,
                remedy="Give the labels by --annotations_dir or --csv_file, or sort the "
                "photographs into folders.",
            )
        yield from _read_classes(top, "", folders, "")
        return
    if others := sorted(set(folders) - set(split_folders)):
        raise InputError(
            f"it holds the split {split_folders[0]!r} and, beside it, the folder {others[0]!r} "
            "that is none.",
            option="image_dir",
            value=top,
            remedy="Move one of them away.",
        )
    for folder in split_folders:
        yield from _read_classes(top, folder, _folders(top, folder), splits.named(folder))


def _read_classes(top: str, within: str, names: list[str], split: str) -> Iterator[LabeledImage]:
    for name in names:
        label, path = _label(top, within, name), None
        for path in image_folder.photographs(os.path.join(top, within, name)):
            yield LabeledImage(posixpath.join(within, name, path), label, split=split)
        if path is None and split in ("", splits.TRAIN):
            raise InputError(
                f"The class folder {os.path.join(top, within, name)} holds no photograph.",
                remedy="Fill it or remove it.",
            )


def _label(top: str, within: str, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The name of the class folder {os.path.join(top, within, name)} is not in UTF-8.",
            remedy="Rename it.",
        ) from error
    return labels.clean(name)


def _folders(*path: str) -> list[str]:
    with os.scandir(os.path.join(*path)) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not image_folder.is_clutter(e.name))
