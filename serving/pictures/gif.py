"""What TensorFlow's decoder passes over in a GIF's first frame, inside a graph.

It shows transparent pixels as black, and of the canvas only the part that the frame covers.
Conversion shows white there; where nothing is transparent, the palette's first colour around the
frame.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.pictures import raw_bytes

_EXTENSION, _FRAME, _CONTROL = 0x21, 0x2C, 0xF9
_MAX_STEPS = 20_000


class Opaque(NamedTuple):
    """N pictures whose transparent colour has become white.

    Attributes:
      encoded: string [N].
      canvas: int64 [N, 4]: where the first frame's left and top lie on the canvas, its width and
        height; zeros for other kinds.
      around: uint8 [N, 3], the colour around the frame.
    """

    encoded: tf.Tensor
    canvas: tf.Tensor
    around: tf.Tensor


@tf.autograph.experimental.do_not_convert
def opaque(encoded: tf.Tensor, is_gif: tf.Tensor) -> Opaque:
    """The pictures, string [N], with those GIF made opaque that `is_gif`, bool [N], tells."""
    count = tf.shape(encoded)[0]
    others = Opaque(
        encoded,
        tf.zeros([count, 4], tf.int64),
        tf.zeros([count, 3], tf.uint8),
    )
    return tf.cond(tf.reduce_any(is_gif), lambda: _opaque(encoded, is_gif), lambda: others)


def _opaque(encoded: tf.Tensor, is_gif: tf.Tensor) -> Opaque:
    head = raw_bytes.numbers(encoded, tf.fill(tf.shape(encoded), np.int64(6)), 7)
    control, frame_at = _first_frame(encoded, is_gif, 13 + _table_bytes(head[:, 4]))
    corner = raw_bytes.numbers(encoded, frame_at + 1, 2, tf.uint16)
    canvas = raw_bytes.numbers(encoded, tf.fill(tf.shape(encoded), np.int64(6)), 2, tf.uint16)
    flags = raw_bytes.numbers(encoded, frame_at + 9, 1)[:, 0]
    own = _table_bytes(flags)
    table = tf.where(own > 0, frame_at + 10, 13)
    size = tf.where(own > 0, own, _table_bytes(head[:, 4]))
    options = raw_bytes.numbers(encoded, control, 4)
    entry = 3 * options[:, 3]
    is_transparent = is_gif & (control > 0) & (options[:, 0] % 2 == 1) & (entry < size)
    white = raw_bytes.replaced(encoded, table + entry, tf.fill(tf.shape(encoded), b"\xff\xff\xff"))
    white = raw_bytes.replaced(white, control, raw_bytes.character(options[:, 0] & 0xFE))
    first = raw_bytes.numbers(encoded, table, 3)
    around = tf.where(is_transparent[:, tf.newaxis], np.int64(255), first)
    # The decoder would cut off what lies beyond the size of the frame.
    is_inside = is_gif & (frame_at > 0) & tf.reduce_any(corner > 0, axis=1)
    white = tf.where(is_transparent, white, encoded)
    moved = raw_bytes.replaced(white, frame_at + 1, tf.fill(tf.shape(encoded), bytes(4)))
    return Opaque(
        tf.where(is_inside, moved, white),
        tf.where(is_gif[:, tf.newaxis], tf.concat([corner, canvas], axis=1), 0),
        tf.cast(around, tf.uint8),
    )


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """The size of a table of colours, by the flags before it."""
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(np.int64(2), flags % 8), 0)


def _first_frame(
    encoded: tf.Tensor, is_gif: tf.Tensor, start: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Positions of the control block's flags, 0 without one, and of the first frame; int64 [N]."""
    sizes = raw_bytes.sizes(encoded)
    at = tf.where(is_gif, tf.minimum(start, sizes), sizes)
    in_blocks = tf.zeros_like(is_gif)

    def is_between(step, at, in_blocks, control, frame):
        return (step < _MAX_STEPS) & tf.reduce_any((at < sizes) & (frame == 0))

    def go_on(step, at, in_blocks, control, frame):
        first, second = tf.unstack(raw_bytes.numbers(encoded, at, 2), axis=1)
        is_open = (at < sizes) & (frame == 0)
        begins = is_open & ~in_blocks & (first == _EXTENSION)
        frame = tf.where(is_open & ~in_blocks & (first == _FRAME), at, frame)
        control = tf.where(begins & (second == _CONTROL), at + 3, control)
        block = tf.where(in_blocks, at + 1 + first, tf.where(begins, at + 2, sizes))
        in_blocks = tf.where(in_blocks, first > 0, begins)
        return step + 1, tf.minimum(block, sizes), in_blocks, control, frame

    nothing = tf.zeros_like(at)
    *_, control, frame = tf.while_loop(is_between, go_on, [0, at, in_blocks, nothing, nothing])
    return control, frame
