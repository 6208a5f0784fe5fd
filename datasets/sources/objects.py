"""The labelled objects of a photograph, and the examples that they become.

Annotations name objects; a classifier wants one label. Photographs with several objects are where
the two differ.
"""

import dataclasses
import math
from collections.abc import Sequence

from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage


@dataclasses.dataclass(frozen=True, slots=True)
class LabeledObject:
    """A thing in a photograph; its box, in pixels, is None where the source gives none."""

    label: str
    box: Box | None


def parse_box(ymin: str, xmin: str, ymax: str, xmax: str) -> Box:
    """A box from the four texts of an annotation, in pixels.

    Raises:
      ValueError: a side is missing or no number, or the box is empty or inverted.
    """
    sides = {}
    for name, text in (("ymin", ymin), ("xmin", xmin), ("ymax", ymax), ("xmax", xmax)):
        try:
            sides[name] = float(text)
        except ValueError:
            raise ValueError(f"box: {name} is {text!r}, not a number") from None
        if not math.isfinite(sides[name]):
            raise ValueError(f"box: {name} is {text!r}")
    for axis in ("x", "y"):
        low, high = sides[f"{axis}min"], sides[f"{axis}max"]
        if low >= high:
            raise ValueError(f"box: {axis}min {low:g} is not less than {axis}max {high:g}")
    return Box(**sides)


def examples(
    path: str,
    objects: Sequence[LabeledObject],
    rule: str,
    split: str = "",
    size: tuple[int, int] | None = None,
) -> list[LabeledImage | Finding]:
    """Turns a photograph's objects, at least one, into its examples.

    Boxes of the same class come along with the one that gave the label, which stays first.

    Args:
      path: the photograph.
      objects: in the order of the source.
      rule: what to do with several, as --multiple_objects has it.
      split, size: see `LabeledImage`.
    """
    if len(objects) > 1 and rule == "skip":
        reason = f"several objects: {len(objects)}, left out by --multiple_objects=skip"
        return [Finding(path, reason, Effect.LEFT_OUT)]
    if rule == "each":
        chosen = [(thing, [thing]) for thing in objects]
    else:
        first = best(objects, rule)
        others = [thing for thing in objects if thing.label == first.label and thing is not first]
        chosen = [(first, [first, *others])]
    return [
        LabeledImage(path, thing.label, tuple(t.box for t in alike if t.box), split, size)
        for thing, alike in chosen
    ]


def best(objects: Sequence[LabeledObject], rule: str) -> LabeledObject:
    """The object, of at least one, that gives the label; `rule`: "largest" or "first".

    Of equally large ones, and where there are no boxes, it is the first.
    """
    return objects[0] if rule == "first" else max(objects, key=_area)


def _area(thing: LabeledObject) -> float:
    return thing.box.area if thing.box else 0.0
