"""Boxes in fractions of the photograph that they are of, and the crop around one of them."""

import math
from collections.abc import Iterable, Sequence

from datasets import schema
from datasets.conversion.image_bytes import Photograph, Rectangle
from datasets.schema import Box


def fractions(
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


def rectangle(box: Box, margin: float, size: tuple[int, int]) -> Rectangle:
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


def within(boxes: Iterable[Box], crop: Rectangle, size: tuple[int, int]) -> tuple[Box, ...]:
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


def _text(box: Box) -> str:
    return f"xmin {box.xmin:g}, ymin {box.ymin:g}, xmax {box.xmax:g}, ymax {box.ymax:g}"
