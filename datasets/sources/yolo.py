"""Reads YOLO's labels, a text file for each photograph, into labelled images.

A line is an object: the number of its class, then centre and size of its box (`0 0.5 0.5 0.2 0.3`),
or the corners of a polygon, all in fractions of the photograph's width and height. The names of the
classes stand in a file of their own: data.yaml, classes.txt or obj.names.
"""

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from datasets import splits
from datasets.findings import Effect, Finding
from datasets.schema import FRACTIONS, Box, LabeledImage
from datasets.sources import class_list, image_folder, objects, statements
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject
from datasets.sources.statements import Rest, Statement
from foundation import files
from foundation.errors import InputError
from foundation.labels import shortened

_LINE = re.compile(r"\d{1,9}(?:\.0*)?(?:\s+[-+.\deE]+){4,}")
# A photograph's labels have a few kilobytes, polygons included.
_MAX_FILE_BYTES = 4 << 20
_DATA_FIELD = re.compile(
    r"^(path|train|val|valid|test)[ \t]*[:=][ \t]*([^\s#][^#\n]*)", re.MULTILINE
)
_SPLIT_NAMES = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}


class _Names(NamedTuple):
    """Class names in the order of their numbers, and the file that gives them."""

    names: Sequence[str]
    file: str


def are_in(top: str) -> bool:
    """Whether YOLO's label files lie in a folder, at any depth."""
    return any(_has_objects(_lines(os.path.join(top, path))) for path in _texts(top))


def read(
    labels_dir: str,
    images: ImageFolder,
    rule: str,
    classes: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    rest: Rest | None = None,
) -> Iterator[LabeledImage | Finding]:
    """Yields the labelled photographs, in the order of the label files.

    Args:
      labels_dir: folder with `.txt` files at any depth. A photograph of the same name lies next to
        its file, or in the folder `images` that is where the file's folder `labels` is. Folders
        that are called train, validation or test are the splits; else those of data.yaml are.
      images: where the photographs are.
      rule: see `objects.examples`.
      classes: class names in the order of YOLO's numbers, for where no file has them.
      say: gets a line on where class names and splits come from.
      rest: see `statements.gather`.

    Raises:
      InputError: no file says what the classes are called, or two contradict each other.
    """
    found = _class_names(labels_dir, images, classes)
    say(f"The labels are YOLO's; class names come from {found.file}: {shortened(found.names)}.")
    split_of = _splits(found.file, images, say)
    yield from statements.gather(_statements(labels_dir, images, found, split_of), rule, rest)


def _statements(
    top: str, images: ImageFolder, classes: _Names, split_of: Callable[[str], str]
) -> Iterator[Statement | Finding]:
    for path in _texts(top):
        folder, name = posixpath.split(path)
        stem = posixpath.splitext(name)[0]
        near = "/".join("images" if part == "labels" else part for part in folder.split("/"))
        lines = _lines(os.path.join(top, path))
        try:
            photograph = images.find(stem, near)
            if not photograph:
                if _has_objects(lines):
                    yield Finding(path, f"missing photograph: {stem}")
                continue  # any other text
        except ValueError as error:
            yield Finding(path, str(error))
            continue
        things = []
        for i, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                label, box = _object(line, classes)
            except ValueError as error:
                yield Finding(path, f"{error} (line {i})")
                continue
            if isinstance(box, str):
                yield Finding(path, f"{box} (line {i})", Effect.CORRECTED)
                box = None
            things.append(LabeledObject(label, box))
        if things:
            split = split_of(photograph.path)
            yield Statement(photograph.path, tuple(things), split, FRACTIONS, path)
        elif not any(lines):
            yield Finding(path, "no object in the annotation", Effect.LEFT_OUT)


def _object(line: str, classes: _Names) -> tuple[str, Box | str]:
    """Class name and box of a line, in fractions; or what is wrong with the box.

    Raises:
      ValueError: the line is none of YOLO's, or its class has no name.
    """
    if not _LINE.fullmatch(line):
        raise ValueError(f"malformed line: {line[:40]!r}")
    first, *numbers = line.split()
    number = int(float(first))
    if number >= len(classes.names):
        last = len(classes.names) - 1
        raise ValueError(f"no label: class {number}, and {classes.file} has names for 0 to {last}")
    label = classes.names[number]
    try:
        values = [float(value) for value in numbers]
        if len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[::2], values[1::2]
            sides = min(ys), min(xs), max(ys), max(xs)
        else:  # a detector writes its confidence behind the box
            x, y, width, height = values[:4]
            sides = y - height / 2, x - width / 2, y + height / 2, x + width / 2
        box = objects.parse_box(*map(str, sides))
    except ValueError as error:
        return label, f"{error}" if str(error).startswith("box") else f"box: {error}"
    if not box.is_fraction:
        return label, f"box: {' '.join(numbers)} are no fractions of the photograph"
    return label, box


def _class_names(labels_dir: str, images: ImageFolder, classes: Sequence[str]) -> _Names:
    """The class names by the files that lie with the labels or above them, else `classes`.

    Raises:
      InputError: there is no such file, or two contradict each other.
    """

    def beside(*ways: str) -> list[str]:
        tops = dict.fromkeys(
            os.path.normpath(os.path.join(os.path.abspath(top), way))
            for way in ways
            for top in (labels_dir, images.path)
        )
        return [os.path.join(top, name) for top in tops for name in sorted(os.listdir(top))]

    below = [os.path.join(os.path.abspath(labels_dir), path) for path in _texts(labels_dir)]
    # Two folders above may be the place of other datasets: looked at where nothing is nearer.
    for paths in (beside(".", "..") + below, beside("../..")):
        if found := [_read_names(path) for path in paths if _has_names(path)]:
            break
    for other in found:
        if other.names != found[0].names:
            raise InputError(
                f"{found[0].file} and {other.file} name YOLO's classes differently.",
                remedy="Remove the wrong one.",
            )
    if found:
        return found[0]
    if classes:
        return _Names(classes, "--classes")
    raise InputError(
        "it has YOLO's labels, and no data.yaml, classes.txt or obj.names that says what their "
        "numbers mean.",
        option="annotations_dir",
        value=labels_dir,
        remedy="Put one there, or give the names in the order of the numbers by --classes.",
    )


def _read_names(path: str) -> _Names:
    try:
        return _Names(class_list.read(path).names, path)
    except InputError as error:  # of --classes, which nobody gave
        problem = error.problem if path in error.problem else f"{path}: {error.problem}"
        raise InputError(problem, remedy=error.remedy) from error


def _has_names(path: str) -> bool:
    name = os.path.basename(path).lower()
    if not files.is_file(path):
        return False
    if name.endswith((".yaml", ".yml")):
        with files.opened(path, encoding="utf-8", errors="replace") as file:
            return any(re.match(r"names\s*:", line) for line in file)
    return name == "classes.txt" or name.endswith(".names")


def _splits(file: str, images: ImageFolder, say: Callable[[str], None]) -> Callable[[str], str]:
    """The function that gives a photograph's split, by its folders, else by a data file."""
    file = _data_file(file)
    stated = _stated_splits(file) if file else {}
    listed: dict[str, str] = {}
    for place, split in list(stated.items()):
        if not place.endswith(".txt"):
            continue
        del stated[place]
        # Darknet's paths begin at the folder above that of its data file.
        folder = os.path.dirname(file)
        places = (os.path.join(top, place) for top in (folder, os.path.dirname(folder)))
        if not (path := next(filter(os.path.isfile, places), "")):
            say(f"{file}: the {split} split is the list {place}, which is not there.")
            continue
        for name in filter(None, _lines(path, limit=1 << 30)):
            if photograph := images.find(name):
                listed.setdefault(photograph.path, split)
    top = os.path.abspath(images.path).replace(os.sep, "/")

    def split_of(path: str) -> str:
        if named := splits.of_folders(path):
            return named
        place = f"{top}/{posixpath.dirname(path)}/"
        by_folder = (split for stem, split in stated.items() if f"/{stem}/" in place)
        return listed.get(path) or next(by_folder, "")

    return split_of


def _data_file(names: str) -> str:
    """The file that may say the splits: the data.yaml with the names, or the .data next to them."""
    if names.lower().endswith((".yaml", ".yml")):
        return names
    if not os.path.isfile(names):  # but of --classes
        return ""
    folder = os.path.dirname(names)
    found = [name for name in sorted(os.listdir(folder or ".")) if name.lower().endswith(".data")]
    return os.path.join(folder, found[0]) if len(found) == 1 else ""


def _stated_splits(path: str) -> Mapping[str, str]:
    """Folders and lists of photographs by what a data file says, each with its split."""
    with files.opened(path, encoding="utf-8", errors="replace") as file:
        fields = dict(_DATA_FIELD.findall(file.read()))
    stated = {}
    for key, value in fields.items():
        for place in value.strip().strip("[]").split(",") if key in _SPLIT_NAMES else ():
            place = posixpath.normpath(place.strip().strip("'\"")).lstrip("./")
            if place:
                stated.setdefault(place, _SPLIT_NAMES[key])
    return stated


def _texts(top: str) -> Iterable[str]:
    return image_folder.walk(top, (".txt").__eq__)


def _lines(path: str, limit: int = _MAX_FILE_BYTES) -> list[str]:
    """The lines of a text file; none of what is no file or larger than `limit` bytes."""
    if not files.is_file(path) or os.path.getsize(path) > limit:  # a pipe would wait for ever
        return []
    with files.opened(path, encoding="utf-8-sig", errors="replace") as file:
        return [line.strip() for line in file]


def _has_objects(lines: list[str]) -> bool:
    return any(_LINE.fullmatch(line) for line in lines)
