"""The orientation of photographs by EXIF or XMP, read and applied inside a graph."""

import numpy as np
import tensorflow as tf

from serving.pictures import raw_bytes

_UPRIGHT = 1
_TAG = 0x0112
_ENTRY_BYTES = 12
# EXIF's types of whole numbers that Pillow takes: SHORT, LONG, SSHORT, SLONG.
_SHORT_TYPES, _LONG_TYPES = (3, 8), (4, 9)
_XMP_ORIENTATION = r'(?s)\C*?tiff:Orientation(?:="|>)([0-9])\C*'


@tf.autograph.experimental.do_not_convert
def read(encoded: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """The orientation of pictures, 1 to 8; 1 where there is none, or one that can't be read.

    Args:
      encoded: string [N].
      exif: int64 [N, 2], beginning and end of EXIF's TIFF structure, equal where there is none.
      xmp: int64 [N, 2], the same of XMP, which counts where EXIF says nothing.

    Returns:
      int32 [N].
    """

    def found():
        has_tag, by_exif, is_broken = _by_exif(encoded, exif)
        by_xmp = tf.where(is_broken, np.int64(_UPRIGHT), _by_xmp(encoded, xmp))
        value = tf.where(has_tag, by_exif, by_xmp)
        return tf.cast(tf.where((value >= 1) & (value <= 8), value, _UPRIGHT), tf.int32)

    upright = tf.fill(tf.shape(encoded), _UPRIGHT)
    return tf.cond(tf.reduce_any(exif > 0) | tf.reduce_any(xmp > 0), found, lambda: upright)


@tf.autograph.experimental.do_not_convert
def turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture, [h, w, 3], as it should be seen; `orientation` int32, 1 to 8."""
    rest = orientation % 4
    swapped = tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2])
    down = tf.where((rest == 3) | (rest == 0), -1, 1)
    across = tf.where((rest == 2) | (rest == 3), -1, 1)
    return tf.transpose(image, swapped)[::down, ::across]


def _by_exif(encoded: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Whether there is the tag; its value, int64 [N]; whether EXIF is no TIFF structure."""
    data = raw_bytes.piece(encoded, exif[:, 0], exif[:, 1] - exif[:, 0])
    doubled = tf.strings.substr(data, 0, 6) == b"Exif\0\0"
    start = tf.where(doubled, np.int64(6), np.int64(0))
    order = raw_bytes.piece(data, start, 4)
    is_big = raw_bytes.is_any(order, (b"MM\0*", b"MM*\0"))
    is_little = raw_bytes.is_any(order, (b"II*\0", b"II\0*"))
    sizes = raw_bytes.sizes(data)

    def numbers(at, dtype):
        read = [raw_bytes.numbers(data, at, 1, dtype, big)[:, 0] for big in (True, False)]
        return tf.where(is_big, *read)

    directory = start + numbers(start + 4, tf.int32)
    has_directory = (is_big | is_little) & (directory >= 0) & (directory + 2 <= sizes)
    count = tf.where(has_directory, numbers(directory, tf.uint16), 0)
    count = tf.clip_by_value(count, 0, tf.maximum(sizes - directory - 2, 0) // _ENTRY_BYTES)
    length = tf.maximum(tf.reduce_max(count), 1) * _ENTRY_BYTES
    flat = tf.strings.substr(data, tf.clip_by_value(directory + 2, 0, sizes), length + 0 * count)
    length = tf.cast(length, tf.int32)

    def words(dtype):
        read = [
            tf.io.decode_raw(flat, dtype, little_endian=little, fixed_length=length)
            for little in (False, True)
        ]
        read = [tf.cast(x, tf.int64) for x in read]
        shape = [tf.shape(flat)[0], -1, _ENTRY_BYTES // dtype.size]
        return tf.reshape(tf.where(is_big[:, tf.newaxis], *read), shape)

    shorts, longs = words(tf.uint16), words(tf.int32)
    tag, kind, number = shorts[..., 0], shorts[..., 1], longs[..., 1]
    is_known = raw_bytes.is_any(kind, range(1, 14)) | (kind == 16)
    places = tf.range(tf.shape(tag, tf.int64)[1])
    is_tag = (tag == _TAG) & is_known & (places < count[:, tf.newaxis])
    # Of several, the last holds.
    last = tf.reduce_max(tf.where(is_tag, places, -1), axis=1, keepdims=True)
    is_short, is_long = (raw_bytes.is_any(kind, types) for types in (_SHORT_TYPES, _LONG_TYPES))
    value = tf.where(is_short, shorts[..., 4], tf.where(is_long, longs[..., 2], 0))
    value = tf.where(is_tag & (places == last) & (number == 1), value, 0)
    is_broken = (exif[:, 1] > exif[:, 0]) & ~(is_big | is_little)
    return last[:, 0] >= 0, tf.reduce_sum(value, axis=1), is_broken


def _by_xmp(encoded: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """The value that XMP states, int64 [N]; 1 where it states none."""

    def found():
        text = raw_bytes.piece(encoded, xmp[:, 0], xmp[:, 1] - xmp[:, 0])
        value = tf.strings.regex_replace(text, _XMP_ORIENTATION, r"\1", replace_global=False)
        is_digit = tf.strings.regex_full_match(value, "[0-9]")
        return tf.strings.to_number(tf.where(is_digit, value, "1"), tf.int64)

    upright = tf.fill(tf.shape(encoded), np.int64(_UPRIGHT))
    return tf.cond(tf.reduce_any(xmp > 0), found, lambda: upright)
