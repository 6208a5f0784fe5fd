"""Reads a folder per class, with or without a folder per split above them."""

import collections
import contextlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator

from datasets import splits
from datasets.findings import Effect, Finding
from datasets.schema import LabeledImage
from datasets.sources import image_folder, voc_xml
from datasets.sources.image_folder import ImageFolder
from foundation import labels
from foundation.errors import InputError

# Folders that hold all photographs, or what belongs to them, and are no classes.
_NO_CLASSES = set(
    "images image imgs img jpegimages photos photographs pictures labels label annotations "
    "annotation xml xmls data imagesets evaluation eval dev".split()
)
# With a folder `images` these are no classes, whatever lies next to them.
_NOT_NEXT_TO_IMAGES = {"labels", "annotations"}
# Hidden folders of tools and desktops, which may hold pictures and are never meant as classes.
_OF_TOOLS = re.compile(
    r"\.(git|github|hg|svn|dvc|idea|vscode|venv|cache|ipynb_checkpoints|ds_store|appledouble|"
    r"spotlight-v100|fseventsd|temporaryitems|documentrevisions-v100|trash.*|thumbnails|thumb.*|"
    r"comments|picasaoriginals|stfolder|stversions|sync|dropbox.*|huggingface)",
    re.IGNORECASE,
)
_SUFFIXES = set(".jpg .jpeg .png .gif .bmp .webp .tif .tiff .ppm .pgm".split())
_REMEDY = (
    "Give the labels by --annotations_dir or --csv_file, or sort the photographs into folders, one "
    "for each class."
)


def read(
    images: ImageFolder, say: Callable[[str], None] = print, one_is_enough: bool = False
) -> Iterator[LabeledImage | Finding]:
    """Yields every file under the class folders, at any depth, in the order of their names.

    The folders are splits where they are called train, validation (also valid, val) or test, and
    hold folders themselves; so a class may be called `train`. An annotation file next to a
    photograph, of its name and with .xml, gives it boxes. Photographs next to the class folders are
    findings.

    Args:
      images: the folder of the photographs.
      say: gets a line where there are such annotations, and for folders that are one class.
      one_is_enough: whether a single class makes sense, as part of others.

    Raises:
      InputError: see `layout`; or a class for training is empty.
    """
    annotated = False
    found = layout(images, one_is_enough)
    for folder in sorted({"", *(within for within, _, _ in found)}):
        yield from _strays(images, folder)
        _say_hidden(images, folder, say)
    for within, names, split in found:
        _say_joined(images.path, within, names, say)
        for name in names:
            label, path = _label(images.path, within, name), None
            for path in images.photographs(posixpath.join(within, name)):
                image = LabeledImage(path, label, split=split)
                if not voc_xml.annotation_of(image.path, images):
                    yield image
                    continue
                if not annotated:
                    say("Boxes come from the .xml files next to the photographs.")
                annotated = True
                yield from voc_xml.with_boxes(image, images)
            if path is None and split in ("", splits.TRAIN):
                raise InputError(
                    f"The class folder {os.path.join(images.path, within, name)} holds no "
                    "photograph.",
                    remedy="Fill it or remove it.",
                )


def layout(images: ImageFolder, one_is_enough: bool = False) -> list[tuple[str, list[str], str]]:
    """The folders of the classes: for each split its folder, the names in it, and its name.

    Raises:
      InputError: no folder can be a class, they are splits or hold all photographs, there is only
        one, or split folders and others lie side by side.
    """
    top = images.path
    folders = _folders(images, "")
    found = [("", folders, "")]
    if split_folders := [name for name in folders if splits.named(name) and _folders(images, name)]:
        if others := sorted(set(folders) - set(split_folders)):
            raise InputError(
                f"it holds the split {split_folders[0]!r} and, next to it, the folder "
                f"{others[0]!r} that is none.",
                option="image_dir",
                value=top,
                remedy="Move one of them away.",
            )
        found = [(name, _folders(images, name), splits.named(name)) for name in split_folders]
    names = sorted({name for _, within, _ in found for name in within})
    problem = ""
    if not names:
        problem = "it has no folder per class."
    elif all(map(splits.named, names)):
        problem = f"its folders are splits that hold no folder per class: {', '.join(names)}."
    elif _NOT_NEXT_TO_IMAGES & (lower := {name.lower() for name in names}) and "images" in lower:
        problem = f"its folders are no classes: {', '.join(names)}."
    elif all(name.lower() in _NO_CLASSES or splits.named(name) for name in names):
        problem = f"its folders are no classes: {', '.join(names)}."
    elif len(names) == 1 and not one_is_enough:
        problem = f"it has a folder for one class only: {names[0]}."
    if problem:
        raise InputError(problem, option="image_dir", value=top, remedy=_remedy(top, names))
    return found


def _remedy(top: str, names: list[str]) -> str:
    """What to do about folders that are no classes; names the one that may hold all of them."""
    inner = os.path.join(top, *names)
    if len(names) == 1 and os.path.isdir(inner):
        with contextlib.suppress(InputError):
            layout(ImageFolder(inner))
            return f"If the folders of the classes lie in it: --image_dir={inner}. Else g" + (
                _REMEDY.removeprefix("G")
            )
    return _REMEDY


def label_of(path: str) -> tuple[str, str]:
    """Label and split of a photograph by the folders it lies in; "" for none."""
    *folders, _ = path.split("/")
    split = splits.named(folders[0]) if folders[1:] else ""
    folders = folders[1:] if split else folders
    is_class = folders and folders[0].lower() not in _NO_CLASSES and not splits.named(folders[0])
    return labels.clean(folders[0]) if is_class else "", split


def _strays(images: ImageFolder, folder: str) -> Iterator[Finding]:
    """Yields the photographs that are next to the class folders."""
    _, names = images.entries(folder)
    for name in names:
        if _is_photograph(name) and not image_folder.is_clutter(name):
            yield Finding(posixpath.join(folder, name), "in no class folder", Effect.LEFT_OUT)


def _say_hidden(images: ImageFolder, within: str, say: Callable[[str], None]) -> None:
    """Says which folders would be classes but for the dot that their names begin with."""
    found = []
    for name in images.entries(within)[0]:
        if name.startswith(".") and not _OF_TOOLS.fullmatch(name):
            folder = posixpath.join(within, name)
            if any(map(_is_photograph, images.photographs(folder))):
                found.append(folder)
    if found:
        say(
            "Warning: hidden folders are passed over, with their photographs: "
            f"{labels.shortened(found)}. Rename those that are classes."
        )


def _is_photograph(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in _SUFFIXES


def _say_joined(top: str, within: str, names: list[str], say: Callable[[str], None]) -> None:
    """Says which folders have names that are one class's but for blanks or Unicode's form."""
    folders = collections.defaultdict(list)
    for name in names:
        folders[_label(top, within, name)].append(posixpath.join(within, name))
    for label, alike in folders.items():
        if len(alike) > 1:
            say(f"The folders {labels.one_class(alike, label)}.")


def _label(top: str, within: str, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The name of the class folder {os.path.join(top, within, name)} is not in UTF-8.",
            remedy="Rename it.",
        ) from error
    return labels.clean(name)


def _folders(images: ImageFolder, within: str) -> list[str]:
    folders, _ = images.entries(within)
    return [name for name in folders if not image_folder.is_clutter(name)]
