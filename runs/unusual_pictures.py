"""Pictures as people send them, turned and transparent, with the pixels that training would see."""

import io
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets.conversion.image_bytes import Photograph

_ORIENTATION = 0x0112


def drawn(image: np.ndarray) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yields encoded pictures made of one, each with its pixels, uint8 [h, w, 3].

    Args:
      image: uint8 [h, w, 3].
    """
    picture = Image.fromarray(image)
    height, width = image.shape[:2]
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    faded = picture.convert("RGBA")
    faded.putalpha(Image.fromarray(np.broadcast_to(ramp, (height, width)).copy()))
    few = picture.quantize(16)
    gray = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    for data in (
        *(_encoded(picture, "PNG", exif=_exif(turn)) for turn in range(2, 9)),
        _encoded(faded, "PNG"),
        _encoded(faded.convert("LA"), "PNG"),
        _encoded(few, "PNG", transparency=3),
        _encoded(few, "GIF", transparency=3),
        _encoded(Image.fromarray(gray), "PNG"),
        _encoded(picture, "BMP"),
    ):
        record = Photograph(data).encode().data
        yield data, tf.io.decode_image(record, 3, expand_animations=False).numpy()
    # Conversion writes a turned JPEG anew, which changes its pixels a little: turned here instead.
    for turn, quarters in ((3, 2), (6, -1), (8, 1)):
        data = _encoded(picture, "JPEG", quality=95, exif=_exif(turn))
        yield data, np.rot90(tf.io.decode_jpeg(data, 3).numpy(), quarters)


def _encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif
