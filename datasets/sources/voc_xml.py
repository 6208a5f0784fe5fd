"""Reads Pascal-VOC annotations, XML files that each describe a photograph, into labelled images.

Stanford Dogs' annotations are such files without extension, in a folder per class. `path` and
`folder` in them are never used: they are nearly always wrong.
"""

import contextlib
import dataclasses
import math
import os
import posixpath
from collections.abc import Iterator

from lxml import etree

from datasets import splits
from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from datasets.sources import image_folder, objects, statements
from datasets.sources.bucket_folder import required
from datasets.sources.image_folder import Found, ImageFolder
from datasets.sources.objects import LabeledObject
from datasets.sources.statements import Rest, Statement
from foundation import files
from foundation.errors import InputError, Unreadable
from foundation.labels import Spellings

EXPORT = "export it as Pascal VOC or YOLO, or write a table for --csv_file."
# An annotation has a few kilobytes.
_MAX_FILE_BYTES = 4 << 20


def read(
    annotations_dir: str, images: ImageFolder, rule: str, rest: Rest | None = None
) -> Iterator[LabeledImage | Finding]:
    """Yields the annotated photographs, in the order of the annotation files.

    Args:
      annotations_dir: folder with `.xml` files, or files without extension, at any depth; where
        its folders are called train, validation or test, these are taken as the splits.
      images: where the photographs are.
      rule: see `objects.examples`.
      rest: see `statements.gather`.

    Raises:
      InputError: there is no such folder, or no annotation in it.
    """
    if not os.path.isdir(annotations_dir):
        raise InputError(
            "there is no such folder.", option="annotations_dir", value=annotations_dir
        )
    yield from statements.gather(_statements(annotations_dir, images), rule, rest)


def are_in(top: str) -> bool:
    """Whether annotations lie in a folder, at any depth."""
    return any(image_folder.walk(top, (".xml").__eq__))


def annotation_of(path: str, images: ImageFolder) -> str:
    """The annotation next to a photograph, by its path in the folder; "" where there is none."""
    annotation = f"{posixpath.splitext(path)[0]}.xml"
    return annotation if images.is_file(annotation) else ""


def with_boxes(image: LabeledImage, images: ImageFolder) -> Iterator[LabeledImage | Finding]:
    """A photograph of known label with the boxes of the annotation next to it.

    Where objects bear the label these are taken, else all of them; the largest goes first.
    """
    path = annotation_of(image.path, images)
    things, size = [], None
    top = required(images, f"{path}, an annotation")
    for item in _read_file(top, path, images, Spellings()):
        if isinstance(item, Finding):
            yield item
        elif item.path == image.path:
            things, size = item.objects, item.size
    if things and not (same := [thing for thing in things if thing.label == image.label]):
        reason = f"label by the folder: {image.label}, not {things[0].label}"
        yield Finding(path, reason, Effect.CORRECTED)
        same = things
    boxes = sorted((thing.box for thing in same if thing.box), key=lambda box: -box.area)
    yield dataclasses.replace(image, boxes=tuple(boxes), size=size)


def largest_box(path: str) -> tuple[Box, tuple[int, int] | None]:
    """The box of the largest object in an annotation, and the size of the picture it refers to.

    Returns:
      the box in pixels, and (width, height) as the annotation states them; None where it doesn't.

    Raises:
      ValueError: it is no annotation, or has no box that can be used.
    """
    root, boxes = _parse(path), []
    for element in root.iterchildren("object"):
        with contextlib.suppress(ValueError):
            boxes.append(_box(element))
    largest = max(filter(None, boxes), key=lambda box: box.area, default=None)
    if largest is None:
        raise ValueError(f"no box: nothing to crop to in {path}")
    return largest, _size(root)


def _statements(annotations_dir: str, images: ImageFolder) -> Iterator[Statement | Finding]:
    found, spellings = False, Spellings()
    for path in image_folder.walk(annotations_dir, ("", ".xml").__contains__):
        found = True
        yield from _read_file(annotations_dir, path, images, spellings)
    if not found:
        json = next(image_folder.walk(annotations_dir, (".json").__eq__), "")
        raise InputError(
            "it has no .xml files, nor files without extension.",
            option="annotations_dir",
            value=annotations_dir,
            remedy=f"{json} may be COCO's, which is not read: {EXPORT}" if json else "",
        )


def _read_file(
    top: str, path: str, images: ImageFolder, spellings: Spellings
) -> Iterator[Statement | Finding]:
    try:
        root = _parse(os.path.join(top, path))
        photograph = _photograph(root, path, images)
    except ValueError as error:
        yield Finding(path, str(error))
        return
    if photograph.remark:
        yield Finding(path, photograph.remark, Effect.CORRECTED)
    things = []
    for i, element in enumerate(root.iterchildren("object"), start=1):
        label, remark = spellings.read(_text(element, "name"))
        if not label:
            yield Finding(path, f"no label: an object without name (object {i})")
            continue
        if remark:
            yield Finding(path, remark, Effect.CORRECTED)
        try:
            box = _box(element)
        except ValueError as error:
            yield Finding(path, f"{error} (object {i})", Effect.CORRECTED)
            box = None
        things.append(LabeledObject(label, box))
    if things:
        split = splits.of_folders(path)
        yield Statement(photograph.path, tuple(things), split, _size(root), path)
    elif root.find("object") is None:
        yield Finding(path, "no object in the annotation")


def _parse(path: str):
    """The root of an annotation; ValueError for what is not one, hostile files included.

    Raises Unreadable where the disk or the connection failed.
    """
    if not files.is_file(path):
        raise ValueError("annotation unreadable: not a file")
    try:
        if os.path.getsize(path) > _MAX_FILE_BYTES:
            raise ValueError(f"annotation too large: {os.path.getsize(path)} bytes")
        with files.opened(path, "rb") as file:
            data = file.read()
    except Unreadable:
        raise
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


def _photograph(root, path: str, images: ImageFolder) -> Found:
    """The photograph: by <filename>, else by the annotation's own name.

    The own name goes first where both have a photograph of another name: tiles that were cut from a
    picture often still name that picture.
    """
    stem, suffix = posixpath.splitext(path)
    stem = posixpath.basename(stem if suffix.lower() == ".xml" else path)
    name = _text(root, "filename")
    near = posixpath.dirname(path)
    stated = problem = None
    try:
        stated = images.find(name, near) if name else None
    except ValueError as error:
        problem = error
    if stated and posixpath.splitext(posixpath.basename(stated.path))[0] == stem:
        return stated
    own = images.find(stem, near)
    if stated and own and own != stated:
        return Found(own.path, f"photograph by the annotation's own name: {own.path}, not {name}")
    if not (stated or own):
        raise problem or ValueError(f"missing photograph: {name or stem}")
    return stated or own


def _box(element) -> Box | None:
    """The box of an object, in pixels; raises ValueError where it can't be used."""
    box = element.find("bndbox")
    if box is None:
        return None
    return objects.parse_box(*(_text(box, side) for side in ("ymin", "xmin", "ymax", "xmax")))


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
