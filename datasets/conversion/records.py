"""One photograph to a record: read, checked, cropped, encoded. Worker threads do this.

TensorFlow is not imported.
"""

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from datasets import schema
from datasets.conversion import cropping
from datasets.conversion.depth import STRETCHED, Depth, Used
from datasets.conversion.image_bytes import Changes, Encoded, Photograph
from datasets.options import ConversionOptions
from datasets.schema import Box, LabeledImage
from datasets.sources.image_folder import ImageFolder
from foundation.errors import Unreadable


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
          Unreadable: by no fault of its own it can't be read.
        """
        if image.label not in self.class_numbers:
            raise ValueError(_unknown_label(image.label, tuple(self.class_numbers)))
        data = self.folder.read(image.path)
        photograph = Photograph(data)
        boxes, remarks = cropping.fractions(image.boxes, image.size, photograph)
        crop = None
        if self.options.crop_to_box:
            if not boxes or boxes[0] is None:
                raise ValueError("; ".join(("no box: nothing to crop to", *remarks)))
            crop = cropping.rectangle(boxes[0], self.options.box_margin, photograph.size)
            boxes = cropping.within(filter(None, boxes), crop, photograph.size)
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


def used_bits(folder: ImageFolder, images: Iterable[LabeledImage]) -> Used:
    """The bits that the 16-bit photographs among these use; raises Unreadable."""
    used = Used()
    for image in images:
        try:
            used.add(image.path, Photograph(folder.read(image.path)))
        except Unreadable:
            raise
        except Exception:  # damaged bytes make the parsers raise anything; `make` reports them
            continue
    return used


@functools.lru_cache
def _unknown_label(label: str, classes: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(label, classes, n=1)
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    return f"label not in --classes: {label}{hint}"
