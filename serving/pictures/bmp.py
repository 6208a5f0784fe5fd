"""Decodes uncompressed BMP pictures inside a graph: TensorFlow's own decoder knows few of them."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from foundation.picture_formats import MAX_PIXELS
from serving.pictures.transparency import on_white

_FILE_HEADER, _OLD_HEADER, _PLAIN_HEADER, _ALPHA_HEADER = 14, 12, 40, 56
_RAW, _MASKS = 0, 3
_RGB_MASKS, _ALPHA_MASK = (0xFF0000, 0xFF00, 0xFF), 0xFF000000
_DEPTHS = (1, 4, 8, 24, 32)


@tf.autograph.experimental.do_not_convert
def as_png(encoded: tf.Tensor) -> tf.Tensor:
    """The same picture as PNG, scalar string.

    Args:
      encoded: BMP bytes, scalar string.

    Returns:
      "" for one that is damaged, compressed, or of 16 bits a pixel.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    head = _head(data)

    def png():
        return tf.io.encode_png(_decoded(data, head), compression=0)

    return tf.cond(head.is_known, png, lambda: tf.constant(""))


class _Head(NamedTuple):
    """What stands before the pixels: scalars, int64 or bool.

    Attributes:
      is_known: whether such a picture is read.
      is_old: whether the header is OS/2's, with smaller fields.
      is_upside_down: whether the lowest row comes first, the usual way.
      has_opacity: whether the fourth byte of a pixel is its opacity.
      begin: where the pixels are.
      header, width, height: sizes in bytes and pixels.
      row: bytes of a row.
      depth: bits a pixel.
      colors: size of the palette; 0 for all that `depth` allows.
    """

    is_known: tf.Tensor
    is_old: tf.Tensor
    is_upside_down: tf.Tensor
    has_opacity: tf.Tensor
    begin: tf.Tensor
    header: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    row: tf.Tensor
    depth: tf.Tensor
    colors: tf.Tensor


def _head(data: tf.Tensor) -> _Head:
    padded = tf.concat([data[:128], tf.zeros([128], tf.uint8)], axis=0)

    def number(at, num_bytes):
        digits = tf.cast(padded[at : at + num_bytes], tf.int64)
        return tf.reduce_sum(digits * [256**i for i in range(num_bytes)])

    header = number(14, 4)
    is_old = header == _OLD_HEADER
    width = tf.where(is_old, number(18, 2), number(18, 4))
    height = tf.where(is_old, number(20, 2), number(22, 4))
    is_upside_down = height < 2**31
    height = tf.where(is_upside_down, height, 2**32 - height)
    depth = tf.where(is_old, number(24, 2), number(28, 2))
    coding = tf.where(is_old, np.int64(_RAW), number(30, 4))
    colors = tf.where(is_old, np.int64(0), number(46, 4))
    begin, row = number(10, 4), (width * depth + 31) // 32 * 4
    has_masks = (coding == _MASKS) & (depth == 32)
    for at, usual in zip((54, 58, 62), _RGB_MASKS, strict=True):
        has_masks &= number(at, 4) == usual
    has_opacity = has_masks & (header >= _ALPHA_HEADER) & (number(66, 4) == _ALPHA_MASK)
    is_known = is_old | ((header >= _PLAIN_HEADER) & ((coding == _RAW) | has_masks))
    is_known &= tf.reduce_any([depth == known for known in _DEPTHS])
    is_known &= (width > 0) & (height > 0) & (width < 2**31) & (width * height <= MAX_PIXELS)
    is_known &= begin + row * height <= tf.size(data, tf.int64)
    return _Head(
        *(is_known, is_old, is_upside_down, has_opacity),
        *(begin, header, width, height, row, depth, colors),
    )


def _decoded(data: tf.Tensor, head: _Head) -> tf.Tensor:
    """The pixels, uint8 [h, w, 3]."""
    rows = tf.reshape(data[head.begin : head.begin + head.row * head.height], [-1, head.row])
    rows = tf.cond(head.is_upside_down, lambda: rows[::-1], lambda: rows)

    def direct():
        pixels = tf.reshape(
            rows[:, : head.width * head.depth // 8], [head.height, head.width, head.depth // 8]
        )
        colored = pixels[..., 2::-1]
        mixed = tf.concat([colored, pixels[..., 3:]], axis=-1)
        return tf.cond(head.has_opacity, lambda: on_white(mixed), lambda: colored)

    def indexed():
        table = _table(data, _FILE_HEADER + head.header, head.is_old, head.colors, head.depth)
        return tf.gather(table, _indices(rows, head.depth)[:, : head.width])

    return tf.cond(head.depth >= 24, direct, indexed)


def _table(
    data: tf.Tensor, at: tf.Tensor, is_old: tf.Tensor, colors: tf.Tensor, depth: tf.Tensor
) -> tf.Tensor:
    """The table of colours, uint8 [256, 3]; black where there is none."""
    most = tf.bitwise.left_shift(tf.ones_like(depth), depth)
    colors = tf.where((colors > 0) & (colors < most), colors, most)
    entry = tf.where(is_old, np.int64(3), np.int64(4))
    stored = data[at : at + colors * entry]
    stored = tf.concat([stored, tf.zeros([256 * 4], tf.uint8)], axis=0)[: 256 * entry]
    return tf.reshape(stored, [256, entry])[:, 2::-1]


def _indices(rows: tf.Tensor, depth: tf.Tensor) -> tf.Tensor:
    """Numbers of `depth` bits, highest first, out of bytes; int32 [h, number of them in a row]."""
    depth = tf.cast(depth, tf.int32)
    shifts = tf.range(8 - depth, -1, -depth)
    values = tf.bitwise.right_shift(tf.cast(rows, tf.int32)[..., tf.newaxis], shifts)
    values = tf.bitwise.bitwise_and(values, tf.bitwise.left_shift(1, depth) - 1)
    return tf.reshape(values, [tf.shape(rows)[0], -1])
