"""Photographs with more than eight bits a channel, brought to eight.

Cameras, microscopes and detectors put 10, 12 or 14 bits into files of 16: of such values the upper
eight bits are almost black. So values are scaled by the bits that a set uses.
"""

import collections
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from PIL import Image

from foundation.errors import missing_extra

STRETCHED = 0  # in place of a number of bits: each photograph between its own percentiles
_STEPS = (8, 10, 12, 14, 16)
_PERCENTILES = (0.5, 99.5)
_BITS_PER_SAMPLE = 258  # TIFF's tag


class Depth:
    """How many bits the 16-bit photographs of a set use.

    The set is searched when the first such photograph turns up, so that others cost nothing; any
    thread may ask.
    """

    def __init__(self, setting: str, search: Callable[[], Iterable[int]]):
        """Nothing is searched yet.

        Args:
          setting: "auto", "full", "percentile", or a number of bits.
          search: yields the bits that each photograph uses.
        """
        self._search, self._lock = search, threading.Lock()
        self._bits = {"auto": None, "full": 16, "percentile": STRETCHED}.get(setting)
        if setting.isdecimal():
            self._bits = int(setting)

    def bits(self) -> int:
        with self._lock:
            if self._bits is None:
                self._bits = max(self._search(), default=16)
            return self._bits


def stated_bits(image: Image.Image) -> int | None:
    """The bits that the file itself says its values have, where these are 10, 12 or 14."""
    if image.format != "TIFF":  # a PNG's values fill all 16, whatever its sBIT says; so do a PGM's
        return None
    (bits, *others) = image.tag_v2.get(_BITS_PER_SAMPLE) or (8,)
    return bits if not others and bits in _STEPS[1:-1] else None


class DeepPhotograph(Protocol):
    """What `Used` asks of a photograph."""

    is_deep: bool
    stated_bits: int | None

    def bits_used(self) -> int: ...


class Used:
    """The bits that the 16-bit photographs of a set use, where their files do not state them.

    Attributes:
      counts: how many photographs use each number of bits.
      examples: of each number the path that sorts first.
    """

    def __init__(self):
        self.counts = collections.Counter()
        self.examples: dict[int, str] = {}

    def add(self, path: str, photograph: DeepPhotograph) -> None:
        """Takes a photograph in; raises any exception for one that is damaged."""
        if photograph.is_deep and photograph.stated_bits is None:
            self._add(photograph.bits_used(), 1, path)

    def merge(self, other: "Used") -> None:
        """Adds what another part of the set uses."""
        for bits, count in other.counts.items():
            self._add(bits, count, other.examples[bits])

    def content(self) -> list[list]:
        """All of it, for JSON."""
        return [[bits, count, self.examples[bits]] for bits, count in self.counts.items()]

    @classmethod
    def of(cls, content: Iterable[tuple[int, int, str]]) -> "Used":
        """What gave this `content`."""
        used = cls()
        for bits, count, example in content:
            used._add(bits, count, example)
        return used

    def mixture(self) -> str:
        """A line on photographs that use different numbers of bits; "" where all use the same."""
        if len(self.counts) < 2:
            return ""
        parts = [
            f"{count} use {bits} ({self.examples[bits]}, …)"
            for bits, count in sorted(self.counts.items())
        ]
        return (
            f"16-bit photographs use different numbers of bits: {', '.join(parts)}. All are scaled "
            f"by {max(self.counts)}, so that the others are darker than if they were alone. Of "
            "several cameras, convert each by itself, or take --sixteen_bit=percentile."
        )

    def _add(self, bits: int, count: int, path: str) -> None:
        self.counts[bits] += count
        self.examples[bits] = min(path, self.examples.get(bits, path))


def is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a photograph whose header was read has more than eight bits a channel."""
    return image.mode == "I" or image.mode.startswith("I;16") or _is_deep_colour(image, data)


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16 and image.mode != "I" and not image.mode.startswith("I;16")
    is_colour = image.format == "TIFF" and image.mode in ("RGB", "RGBA")
    return is_colour and 16 in (image.tag_v2.get(_BITS_PER_SAMPLE) or ())


def bits_used(image: Image.Image, data: bytes) -> int:
    """The bits that the largest value of a deep photograph needs, up to 8, 10, 12, 14 or 16."""
    if _is_deep_colour(image, data):  # Pillow keeps the upper eight bits of these
        largest = int(np.asarray(image.convert("RGB")).max()) << 8
    else:
        largest = int(_values(image).max())
    return next(step for step in _STEPS if largest < 1 << step)


def to_float(image: Image.Image) -> Image.Image:
    """A deep gray photograph in mode F, which can be cropped and shrunk without loss."""
    return Image.fromarray(_values(image).astype(np.float32))


def to_eight(image: Image.Image, bits: int, equalize: bool) -> Image.Image:
    """What `to_float` returned, in mode L; equalized, where asked, before values are rounded."""
    values = np.asarray(image)
    if equalize:
        return Image.fromarray(_equalized(values))
    return Image.fromarray(_scaled(values, bits))


def colour_to_eight(image: Image.Image, data: bytes, bits: int) -> Image.Image:
    """A deep colour photograph in mode RGB, on white where it is transparent.

    Raises:
      InputError: it uses less than 16 bits, and OpenCV, which can read them, is missing.
      ValueError: OpenCV can't read it.
    """
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("opencv", f"16-bit colour: {bits or 16} bits in use") from error
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[1::-1] != image.size:
        raise ValueError("16-bit colour: save it with 8 bits")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        opacity = pixels[..., 3:] / 65535
        white = 65535 if bits == STRETCHED else (1 << bits) - 1
        pixels = pixels[..., :3] * opacity + white * (1 - opacity)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    return Image.fromarray(_scaled(pixels[..., 2::-1], bits))  # OpenCV has blue first


def _values(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels; save it with 8 or 16 bits")
    return values


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """Values in 0..255, uint8, the least and the greatest being 0 and 2 ** bits."""
    low, high = (0, 1 << bits) if bits else np.percentile(values, _PERCENTILES)
    scaled = (values.astype(np.float64) - low) * (256 / max(high - low, 1))
    return np.clip(np.floor(scaled), 0, 255).astype(np.uint8)


def _equalized(values: np.ndarray) -> np.ndarray:
    """Spreads a histogram evenly over 0..255, as ImageOps.equalize does with 256 bins."""
    values = np.clip(np.rint(values), 0, 65535).astype(np.int64)
    counts = np.bincount(values.ravel(), minlength=65536)
    present = counts[counts > 0]
    step = (counts.sum() - present[-1]) / 255
    if len(present) < 2 or not step:
        return _scaled(values, 16)
    below = np.cumsum(counts) - counts
    return np.clip((below + step // 2) // step, 0, 255).astype(np.uint8)[values]
