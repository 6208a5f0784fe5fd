"""What a page on a dataset shows of its photographs besides their labels, gathered on the way."""

import collections
import dataclasses
import datetime

from datasets import schema
from datasets.conversion.records import Record
from datasets.schema import Box, LabeledImage
from datasets.sources.image_folder import ImageFolder

# How many classes have examples, and how many each.
_CLASSES, _EXAMPLES = 40, 4
# Where the ranges of the longer side end, in pixels, and those of a box's share of its picture.
SIDES = (64, 128, 256, 512, 1024, 2048, 4096)
SHARES = (0.01, 0.05, 0.2, 0.5)


@dataclasses.dataclass(frozen=True)
class Example:
    """A photograph as it is stored, with its boxes in fractions of it.

    Attributes:
      path: in the folder of the photographs.
      encoded: JPEG or PNG.
      boxes: the objects.
    """

    path: str
    encoded: bytes
    boxes: tuple[Box, ...]


class Survey:
    """Counts of the examples that come in, and a few of each class.

    Attributes:
      sides: number of examples by the range of `SIDES` that their longer side is in, as stored.
      formats: the same by format of the photograph's file.
      shapes: the same by "wide", "tall" and "square".
      years: the same by the year in which the file was last changed; "" where it is not known.
      boxes: the same by number of boxes.
      shares: number of boxes by the range of `SHARES` that they cover of their picture.
      examples: the first few of each class.
    """

    def __init__(self, folder: ImageFolder):
        """Nothing has come in yet; `folder` is where the photographs are."""
        self.sides, self.shapes = collections.Counter(), collections.Counter()
        self.years, self.boxes = collections.Counter(), collections.Counter()
        self.shares, self.formats = collections.Counter(), collections.Counter()
        self.examples: dict[str, list[Example]] = {}
        self._folder = folder

    def add(self, image: LabeledImage, record: Record) -> None:
        """Takes an example in."""
        width, height = record.width, record.height
        self.sides[_range(max(width, height), SIDES)] += 1
        self.shapes[
            "wide" if width > 1.05 * height else "tall" if height > 1.05 * width else "square"
        ] += 1
        self.formats[record.source_format] += 1
        self.years[self._year(image.path)] += 1
        self.boxes[len(record.boxes)] += 1
        for box in record.boxes:
            self.shares[_range(box.area, SHARES)] += 1
        known = self.examples.get(image.label, [])
        if len(known) < _EXAMPLES and (known or len(self.examples) < _CLASSES):
            encoded = schema.encoded_image(schema.unframed(record.framed))
            known.append(Example(image.path, encoded, record.boxes))
            self.examples[image.label] = known

    def _year(self, path: str) -> str:
        try:
            _, changed = self._folder.version(path)
            return str(datetime.datetime.fromtimestamp(changed / 1e9).year)
        except (TypeError, OSError, OverflowError, ValueError):
            return ""


def _range(value: float, ends: tuple[float, ...]) -> int:
    """Number of the range that a value is in; the first one ends before `ends[0]`."""
    return sum(value >= end for end in ends)
