"""What is in an image file, whatever its name says, and the bytes that go into its record.

JPEG and PNG that TensorFlow decodes rightly keep their bytes. All else is decoded and
encoded anew: from a lossless source as PNG, from a lossy one as JPEG. Transparency is laid on
white, the colour such pictures are drawn for.
"""

import dataclasses
import functools
import io
import math
import re
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from datasets.conversion import depth
from foundation import picture_formats
from foundation.errors import InputError, missing_extra

# Every plugin of Pillow is one more parser for bytes that nobody vouches for, and one of them (EPS)
# starts a program: only these are tried. HEIF is there with the extra heif.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
MAX_PIXELS = picture_formats.MAX_PIXELS
JPEG_QUALITY = 95

Rectangle = tuple[int, int, int, int]  # left, upper, right, lower; the last two exclusive

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Start-of-frame markers of the JPEG that TensorFlow decodes: baseline, extended and progressive,
# Huffman-coded, and the latter two arithmetic-coded. Lossless and hierarchical JPEG are missing.
_KEPT_JPEG_PROCESSES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
# Strength (of colours too), window that is compared, window that is searched; in pixels.
_NLM_GRAY, _NLM_COLOR = (10, 7, 21), (10, 10, 7, 21)
# In a scan, 0xFF 0x00 is a pixel's 0xFF, and D0 to D7 are restart markers.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")


@dataclasses.dataclass(frozen=True, slots=True)
class Encoded:
    """An image as it goes into a record.

    Attributes:
      data: the bytes.
      format: "jpeg" or "png".
      height, width: in pixels.
      change: why the bytes are not those of the file, "" where they are.
    """

    data: bytes
    format: str
    height: int
    width: int
    change: str


@dataclasses.dataclass(frozen=True)
class Changes:
    """What is done to a photograph before it is stored.

    Attributes:
      crop: pixels to cut out of the image as it should be seen; None for the whole.
      max_side: larger images are shrunk to it; 0 for no limit.
      filters: names in `FILTERS`, applied to the pixels one after the other.
      bits: how many a deep image is scaled by, or `depth.STRETCHED`; None: as many as it uses.
    """

    crop: Rectangle | None = None
    max_side: int = 0
    filters: Sequence[str] = ()
    bits: int | None = None


AS_IT_IS = Changes()


class Photograph:
    """An image file whose header has been read, and nothing more.

    Attributes:
      format: Pillow's name of the format found.
      size: (width, height) as it should be seen.
      stored_size: (width, height) as it lies in the file, before its EXIF orientation is applied.
      orientation: the EXIF value, 1 to 8.
    """

    def __init__(self, data: bytes):
        """Raises ValueError for bytes that are no image we take; the text gives the reason."""
        if not data:
            raise ValueError("empty file")
        try:
            image = opened(data)
        except Image.DecompressionBombError as error:
            raise ValueError(f"too many pixels: {error}") from error
        except Image.UnidentifiedImageError as error:
            kind = picture_formats.name(data)
            reason = f"{kind} image: save it as JPEG or PNG" if kind else "not an image:"
            raise ValueError(reason if kind else f"{reason} begins with {data[:16]!r}") from error
        except InputError:
            raise
        except Exception as error:  # damaged bytes make the parsers raise anything
            raise ValueError(f"damaged image: {error}") from error
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"too many pixels: {image.width} x {image.height}")
        self.format = "JPEG" if image.format == "MPO" else image.format
        self.orientation = _orientation(image)
        self.stored_size = image.size
        self.size = image.size[::-1] if self.orientation >= 5 else image.size
        self._data = data
        self._image = image

    def encode(self, changes: Changes = AS_IT_IS, verify: bool = True) -> Encoded:
        """Decodes the image, so that no training run stops at it, and gives what to store.

        Args:
          changes: what is done to its pixels.
          verify: False trusts an image whose bytes stay: only its header was read.

        Raises:
          ValueError: the image does not decode, or not to pixels we know how to show.
        """
        try:
            if reason := self._reason_to_change(changes, verify):
                return self._encode_anew(changes, reason)
            if verify:
                self._check()
        except Exception as error:  # as above
            raise ValueError(f"damaged image: {error}") from error
        width, height = self.size
        return Encoded(self._data, self.format.lower(), height, width, "")

    @property
    def is_deep(self) -> bool:
        """Whether it has more than eight bits a channel."""
        return depth.is_deep(self._image, self._data)

    @property
    def stated_bits(self) -> int | None:
        """The bits that the file itself says; see `depth.stated_bits`."""
        return depth.stated_bits(self._image)

    def bits_used(self) -> int:
        """The bits that the largest value of a deep image needs; see `depth.bits_used`."""
        return depth.bits_used(self._image, self._data)

    def _reason_to_change(self, changes: Changes, verify: bool) -> str:
        """Why the bytes cannot stay; "" when they can."""
        if self.format not in ("JPEG", "PNG"):
            return f"first frame of {self.format}" if self._has_frames() else self.format
        if self.orientation != 1:
            return "EXIF orientation"
        if self.format == "PNG" and self._data[24] > 8:
            return "16-bit PNG"
        if self.format == "PNG" and _is_transparent(self._image):
            return "transparency"
        if self.format == "JPEG" and self._image.mode not in ("L", "RGB"):
            return f"{self._image.mode} JPEG"
        if self.format == "JPEG" and not _is_plain_jpeg(self._data, verify):
            return "irregular JPEG"
        if changes.crop:
            return "crop"
        if changes.max_side and max(self.size) > changes.max_side:
            return "max_side"
        return ", ".join(changes.filters)

    def _has_frames(self) -> bool:
        """Whether it is an animation or has several pages, of which the first is taken."""
        try:
            return getattr(opened(self._data), "n_frames", 1) > 1
        except Exception:  # of a damaged later page, which nobody needs
            return False

    def _check(self) -> None:
        """Reads every byte of an image, without decoding it in full size where that is faster."""
        if self.format == "PNG":
            _check_png(self._data)
        else:
            # An eighth of the size: all of the entropy coding, which is where files break, in
            # three quarters of the time.
            self._image.draft(None, (1, 1))
        self._image.load()

    def _encode_anew(self, changes: Changes, reason: str) -> Encoded:
        if self.format == "PNG":
            _check_png(self._data)
        max_side, filters, bits = changes.max_side, changes.filters, changes.bits
        if max_side and not changes.crop:
            # JPEG decodes to a half, a quarter or an eighth by itself; other formats ignore it.
            self._image.draft(None, (2 * max_side, 2 * max_side))
        if self.is_deep and bits is None:
            bits = self.stated_bits or self.bits_used()
        image = _visible(self._image, self._data, bits)
        if self.format == "HEIF" and image.size != self.stored_size:
            stated, found = ("{} x {}".format(*size) for size in (self.stored_size, image.size))
            raise ValueError(f"its header says {stated} pixels, and it has {found}")
        if self.orientation in _TURNS:
            image = image.transpose(_TURNS[self.orientation])
        if changes.crop:
            image = image.crop(changes.crop)
        if max_side:
            image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        if image.mode == "F":
            image = depth.to_eight(image, bits, "equalize" in filters)
            filters = [name for name in filters if name != "equalize"]
        for name in filters:
            image = FILTERS[name](image)
        file = io.BytesIO()
        if self._is_lossless():
            image.save(file, "PNG")
        else:
            image.save(file, "JPEG", quality=JPEG_QUALITY)
        kind = "png" if self._is_lossless() else "jpeg"
        return Encoded(file.getvalue(), kind, image.height, image.width, reason)

    def _is_lossless(self) -> bool:
        if self.format == "WEBP":
            return b"VP8L" in self._data
        if self.format == "TIFF":
            return self._image.info.get("compression") not in ("jpeg", "tiff_jpeg", "webp")
        return self.format not in ("JPEG", "AVIF", "HEIF")


def opened(data: bytes) -> Image.Image:
    """Reads an image's header.

    Raises:
      InputError: it is HEIC, and the extra heif is missing.
      Exception: Pillow can't read it, or it is of a format that is not in `FORMATS`.
    """
    kind = picture_formats.name(data)
    if kind == "HEIC":
        _register_heif()
    # Pillow takes memory for all of a WebP's pixels, twice, before it looks at their number.
    if kind == "WebP" and (pixels := _webp_pixels(data)) > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{pixels} pixels")
    return Image.open(io.BytesIO(data), formats=_formats())


def _webp_pixels(data: bytes) -> int:
    """The pixels of a WebP's canvas by its first chunk (RFC 9649, section 2); 0 for another."""
    kind, fields = data[12:16], data[20:30]
    if kind == b"VP8X":
        sides = (int.from_bytes(fields[i : i + 3], "little") + 1 for i in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(fields[1:5], "little")
        sides = ((bits >> shift) % 2**14 + 1 for shift in (0, 14))
    elif kind == b"VP8 ":
        sides = (int.from_bytes(fields[i : i + 2], "little") % 2**14 for i in (6, 8))
    else:
        return 0
    return math.prod(sides)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _register_heif() -> None:
    if "HEIF" in _formats():
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise missing_extra("heif", "HEIC image:") from error
    pillow_heif.register_heif_opener()
    _formats.cache_clear()


def _denoised(image: Image.Image) -> Image.Image:
    """Non-local means: Buades, Coll and Morel (2005), as OpenCV's manual advises."""
    cv2 = opencv()
    pixels = np.asarray(image)
    if image.mode == "L":
        return Image.fromarray(cv2.fastNlMeansDenoising(pixels, None, *_NLM_GRAY))
    # OpenCV's order of channels is the other way round.
    denoised = cv2.fastNlMeansDenoisingColored(pixels[..., ::-1].copy(), None, *_NLM_COLOR)
    return Image.fromarray(denoised[..., ::-1])


def opencv():
    """The module cv2; raises InputError with what to do."""
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("opencv", "nlm", "denoise") from error
    return cv2


# From an image in mode L or RGB to one of the same mode and size.
FILTERS = {"equalize": ImageOps.equalize, "denoise": _denoised}


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    if image.format == "TIFF":
        return 1  # Pillow turns these by itself
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF is no reason to lose the photograph
        return 1
    return orientation if orientation in range(1, 9) else 1


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255


def _visible(image: Image.Image, data: bytes, bits: int | None) -> Image.Image:
    """The pixels as they should be seen, in mode L or RGB; F for deep ones in gray."""
    image.load()
    if depth.is_deep(image, data):
        if image.mode.startswith("I"):
            return depth.to_float(image)
        if bits != 16:  # of which Pillow keeps the upper eight
            return depth.colour_to_eight(image, data, bits)
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        return page.convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _check_png(data: bytes) -> None:
    """Raises ValueError for a broken or missing chunk.

    TensorFlow's libpng insists on checksums and an end that Pillow's decoding passes over.
    """
    position, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        chunk = data[position + 4 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise ValueError("PNG file is truncated")
        if zlib.crc32(chunk) != int.from_bytes(checksum, "big"):
            raise ValueError("PNG chunk fails its checksum")
        position, kind = position + 12 + length, chunk[:4]


def _is_plain_jpeg(data: bytes, to_the_end: bool = True) -> bool:
    """Tells whether segments and scans follow each other, in a usual coding, to the end marker.

    Pillow also decodes what TensorFlow doesn't: damage inside a scan that hides the end marker.
    Without `to_the_end` nothing after the first scan's beginning is looked at.
    """
    position, process = 2, 0
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # these three are tables
            process = marker
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA and not to_the_end:
            return process in _KEPT_JPEG_PROCESSES
        if marker == 0xDA:  # start of scan: pixels up to the next marker
            after = _NEXT_MARKER.search(data, position)
            if not after or process not in _KEPT_JPEG_PROCESSES:
                return False
            if after.group() == b"\xff\xd9":
                return True
            position = after.start()
    return False
