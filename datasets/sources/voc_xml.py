"""Reads Pascal-VOC annotations, one XML file a photograph, into labelled images.

Stanford Dogs' annotations are such files without extension, in a folder per class. What the files
say of where the photograph lies, in `path` and `folder`, is never used: it is nearly always wrong.
"""

import math
import os
import posixpath
from collections.abc import Iterator

from lxml import etree

from datasets import splits
from datasets.findings import Finding
from datasets.schema import LabeledImage
from datasets.sources import image_folder, objects
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject
from foundation.errors import InputError

# An annotation has a few kilobytes.
_MAX_FILE_BYTES = 4 << 20


def read(annotations_dir: str, images: ImageFolder, rule: str) -> Iterator[LabeledImage | Finding]:
    """Yields what each annotation file under a folder says, in the order of their names.

    Args:
      annotations_dir: folder with `.xml` files, or files without extension, at any depth; where
        its folders are called train, validation or test, these are taken as the splits.
      images: where the photographs are.
      rule: see `objects.examples`.

    Raises:
      InputError: there is no such folder, or no annotation in it.
    """
    if not os.path.isdir(annotations_dir):
        raise InputError(
            "there is no such folder.", option="annotations_dir", value=annotations_dir
        )
    found = False
    for path in image_folder.walk(annotations_dir, ("", ".xml").__contains__):
        found = True
        yield from _read_file(annotations_dir, path, images, rule)
    if not found:
        raise InputError(
            "it has no .xml files, nor files without extension.",
            option="annotations_dir",
            value=annotations_dir,
        )


def _read_file(
    top: str, path: str, images: ImageFolder, rule: str
) -> Iterator[LabeledImage | Finding]:
    try:
        root = _parse(os.path.join(top, path))
        photograph = _photograph(root, path, images)
    except ValueError as error:
        yield Finding(path, str(error))
        return
    things = []
    for i, element in enumerate(root.iterchildren("object"), start=1):
        try:
            things.append(_object(element))
        except ValueError as error:
            yield Finding(path, f"{error} (object {i})")
    if things:
        split = splits.named(path.split("/")[0]) if "/" in path else ""
        yield from objects.examples(photograph, things, rule, split, _size(root))
    elif root.find("object") is None:
        yield Finding(path, "no object in the annotation")


def _parse(path: str):
    """The root of an annotation; ValueError for what is not one, hostile files included."""
    if not os.path.isfile(path):
        raise ValueError("annotation unreadable: not a file")
    try:
        if os.path.getsize(path) > _MAX_FILE_BYTES:
            raise ValueError(f"annotation too large: {os.path.getsize(path)} bytes")
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"annotation unreadable: {error.strerror}") from error
    if not data.strip():
        raise ValueError("empty annotation")
    # The defaults differ between versions of lxml. A file from elsewhere gets none of these.
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ValueError(f"malformed annotation: {error}") from error
    if root.getroottree().docinfo.doctype:
        # Entities, internal or external, are declared in one; no annotation tool writes it.
        raise ValueError("hostile annotation: it holds a document type declaration")
    if root.tag != "annotation":
        raise ValueError(f"malformed annotation: its root is <{root.tag}>, not <annotation>")
    return root


def _photograph(root, path: str, images: ImageFolder) -> str:
    """The path of the photograph: by <filename>, else by the annotation's own name."""
    stem, suffix = posixpath.splitext(path)
    stem = posixpath.basename(stem if suffix.lower() == ".xml" else path)
    name = _text(root, "filename")
    near = posixpath.dirname(path)
    found = (name and images.find(name, near)) or images.find(stem, near)
    if not found:
        raise ValueError(f"missing photograph: {name or stem}")
    return found


def _object(element) -> LabeledObject:
    label = " ".join(_text(element, "name").split())
    if not label:
        raise ValueError("no label: an object without name")
    box = element.find("bndbox")
    if box is None:
        return LabeledObject(label, None)
    sides = (_text(box, side) for side in ("ymin", "xmin", "ymax", "xmax"))
    return LabeledObject(label, objects.parse_box(*sides))


def _size(root) -> tuple[int, int] | None:
    """What the annotation says of the photograph's width and height; tools often write 0."""
    try:
        width, height = (float(_text(root, f"size/{side}")) for side in ("width", "height"))
    except ValueError:
        return None
    usable = math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1
    return (int(width), int(height)) if usable else None


def _text(element, path: str) -> str:
    return (element.findtext(path) or "").strip()
