"""One photograph to a record: read, checked, cropped, encoded. Worker threads do this.

TensorFlow is not imported.
"""

import dataclasses
import difflib
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from datasets import schema
from datasets.conversion.depth import STRETCHED, Depth
from datasets.conversion.image_bytes import Changes, Encoded, Photograph, Rectangle
from datasets.options import ConversionOptions
from datasets.schema import Box, LabeledImage
from datasets.sources.image_folder import ImageFolder


class Whitening(Protocol):
    """What is fitted to the training photographs while they are converted."""

    def shrunk(self, encoded: bytes) -> bytes:
        """The small copy of an image that `add` takes; any exception if it does not decode."""

    def add(self, image: bytes) -> None: ...

    def save(self, path: str) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An example as it goes into a shard, and what the summary needs of it.

    Attributes:
      framed: the record with its length and checksums.
      digest: SHA-256 of the photograph's file.
      source_format, stored_format: such as JPEG, and jpeg.
      change: why the bytes are not those of the file, "" where they are.
      height, width: as stored, in pixels.
      remarks: what was corrected in its boxes; each begins with its kind, up to a colon.
      boxes: its objects, as fractions of the stored picture.
      small: see `Whitening.shrunk`; empty where nothing is fitted.
    """

    framed: bytes
    digest: bytes
    source_format: str
    stored_format: str
    change: str
    height: int
    width: int
    remarks: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    small: bytes = b""


@dataclasses.dataclass(frozen=True)
class RecordMaker:
    """Makes records of labelled photographs.

    Attributes:
      folder: where the photographs are.
      class_numbers: the label of each class name.
      options: what is stored of a photograph.
      depth: how 16-bit photographs are scaled.
      whitening: gets a small copy of each image; None where nothing is fitted.
    """

    folder: ImageFolder
    class_numbers: Mapping[str, int]
    options: ConversionOptions
    depth: Depth
    whitening: Whitening | None = None

    def make(self, image: LabeledImage) -> Record:
        """Makes the record of a labelled photograph.

        Raises:
          ValueError: it is not usable; the text gives the reason, its kind before a colon.
        """
        if image.label not in self.class_numbers:
            raise ValueError(_unknown_label(image.label, tuple(self.class_numbers)))
        data = self.folder.read(image.path)
        photograph = Photograph(data)
        boxes, remarks = _fractions(image.boxes, image.size, photograph)
        crop = None
        if self.options.crop_to_box:
            if not boxes or boxes[0] is None:
                raise ValueError("; ".join(("no box: nothing to crop to", *remarks)))
            crop = _crop_rectangle(boxes[0], self.options.box_margin, photograph.size)
            boxes = _within(filter(None, boxes), crop, photograph.size)
            if crop == (0, 0, *photograph.size):
                crop = None
        bits = None
        if photograph.is_deep:
            bits = (self.options.sixteen_bit == "auto" and photograph.stated_bits) or (
                self.depth.bits()
            )
        changes = Changes(crop, self.options.max_side, self._filters(), bits)
        encoded = photograph.encode(changes, verify=self.options.verify == "full")
        if photograph.is_deep:
            remarks = (*remarks, *self._remarks_on_depth(bits, photograph))
        digest = hashlib.sha256(data)
        record = schema.Example(
            encoded=encoded.data,
            image_format=encoded.format,
            height=encoded.height,
            width=encoded.width,
            label=self.class_numbers[image.label],
            text=image.label,
            filename=image.path,
            boxes=(boxes := tuple(filter(None, boxes))),
            sha256=digest.hexdigest(),
        ).serialize()
        return Record(
            framed=schema.frame(record),
            digest=digest.digest(),
            source_format=photograph.format,
            stored_format=encoded.format,
            change=encoded.change,
            height=encoded.height,
            width=encoded.width,
            remarks=remarks,
            boxes=boxes,
            small=self._small(encoded),
        )

    def _filters(self) -> tuple[str, ...]:
        denoise = ("denoise",) if self.options.denoise == "nlm" else ()
        return denoise + (("equalize",) if self.options.equalize else ())

    def _remarks_on_depth(self, bits: int, photograph: Photograph) -> Sequence[str]:
        if bits == 16:  # all that there are: nothing is lost but precision
            return ()
        if bits == STRETCHED:
            return ("16-bit pixels: stretched between percentiles of its own",)
        if self.options.sixteen_bit.isdecimal() and (used := photograph.bits_used()) > bits:
            return (f"16-bit pixels: scaled by {bits} bits and cut off, since it uses {used}",)
        return (f"16-bit pixels: scaled by the {bits} bits in use",)

    def _small(self, encoded: Encoded) -> bytes:
        if self.whitening is None:
            return b""
        try:
            return self.whitening.shrunk(encoded.data)
        except Exception as error:  # not seen before where only headers are verified
            raise ValueError(f"damaged image: {error}") from error


@functools.lru_cache
def _unknown_label(label: str, classes: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(label, classes, n=1)
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    return f"label not in --classes: {label}{hint}"


def _fractions(
    boxes: Sequence[Box], stated_size: tuple[int, int] | None, photograph: Photograph
) -> tuple[tuple[Box | None, ...], tuple[str, ...]]:
    """Boxes in fractions of the photograph as it should be seen, and remarks on them.

    A box is None where it lies outside. Boxes that are fractions already are no boxes of a single
    pixel, and are understood.
    """
    (width, height), turned = photograph.size, False
    if stated_size and stated_size != schema.FRACTIONS:
        stated_width, stated_height = stated_size
        if photograph.size != photograph.stored_size == stated_size:
            # A tool that ignores EXIF drew the boxes on the picture as it lies in the file.
            width, height, turned = stated_width, stated_height, True
        elif abs(stated_width * height - stated_height * width) <= max(stated_size):
            # The same picture in another size: it was shrunk after it had been annotated.
            width, height = stated_size
    fractions, remarks = [], []
    for box in boxes:
        scale = (1, 1)
        if box.is_fraction and min(width, height) > 1:
            if stated_size != schema.FRACTIONS:
                remarks.append(f"box in fractions: {_text(box)}, understood as such")
            scale = (height, width)
        fraction, remark = _inside(box.scaled(*scale), width, height)
        if remark:
            remarks.append(remark)
        if fraction and turned:
            fraction = _turned(fraction, photograph.orientation)
        fractions.append(fraction)
    return tuple(fractions), tuple(remarks)


def _inside(box: Box, width: int, height: int) -> tuple[Box | None, str]:
    """The part of a box in pixels that is in the image, in fractions of it; and a remark."""
    inside = Box(
        max(box.ymin, 0.0), max(box.xmin, 0.0), min(box.ymax, height), min(box.xmax, width)
    )
    if inside.ymin >= inside.ymax or inside.xmin >= inside.xmax:
        return None, f"box outside the image: {_text(box)} in {width} x {height}"
    remark = ""
    # Tools count pixels from 0 or from 1: a single one over the edge means nothing.
    if max(abs(a - b) for a, b in zip(inside, box, strict=True)) > 1:
        remark = f"box clipped: {_text(box)} in {width} x {height}"
    ymin, xmin, ymax, xmax = inside
    return Box(ymin / height, xmin / width, ymax / height, xmax / width), remark


def _turned(box: Box, orientation: int) -> Box:
    """A box in fractions after EXIF orientation 5 to 8 is applied."""
    ymin, xmin, ymax, xmax = box
    if orientation in (7, 8):  # left and right change places before rows become columns
        xmin, xmax = 1 - xmax, 1 - xmin
    if orientation in (6, 7):  # as do top and bottom
        ymin, ymax = 1 - ymax, 1 - ymin
    return Box(xmin, ymin, xmax, ymax)


def _crop_rectangle(box: Box, margin: float, size: tuple[int, int]) -> Rectangle:
    """The whole pixels that a box and its margin touch, within the image."""
    width, height = size
    more_x = margin * (box.xmax - box.xmin)
    more_y = margin * (box.ymax - box.ymin)
    left = math.floor(max(box.xmin - more_x, 0.0) * width)
    upper = math.floor(max(box.ymin - more_y, 0.0) * height)
    right = math.ceil(min(box.xmax + more_x, 1.0) * width)
    lower = math.ceil(min(box.ymax + more_y, 1.0) * height)
    left, upper = min(left, width - 1), min(upper, height - 1)
    return left, upper, max(right, left + 1), max(lower, upper + 1)


def _within(boxes: Iterable[Box], crop: Rectangle, size: tuple[int, int]) -> tuple[Box, ...]:
    """The boxes, in fractions of the image, in fractions of a crop of it; those outside go."""
    left, upper, right, lower = crop
    width, height = size

    def fraction(value: float, start: int, end: int) -> float:
        return min(max((value - start) / (end - start), 0.0), 1.0)

    inside = (
        Box(
            fraction(box.ymin * height, upper, lower),
            fraction(box.xmin * width, left, right),
            fraction(box.ymax * height, upper, lower),
            fraction(box.xmax * width, left, right),
        )
        for box in boxes
    )
    return tuple(box for box in inside if box.area > 0)


def _text(box: Box) -> str:
    return f"xmin {box.xmin:g}, ymin {box.ymin:g}, xmax {box.xmax:g}, ymax {box.ymax:g}"
