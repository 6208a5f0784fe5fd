"""Reads numbers and pieces out of byte strings, inside a graph.

Every function takes a whole batch: strings [N] and positions int64 [N]. What lies behind the end
of a string reads as nothing, or as zeros, so that a cut file raises no error.
"""

from collections.abc import Sequence

import tensorflow as tf

_CHARACTERS = [bytes([value]) for value in range(256)]
_TO_THE_END = 1 << 40


def sizes(encoded: tf.Tensor) -> tf.Tensor:
    """Numbers of bytes, int64 [N]."""
    return tf.cast(tf.strings.length(encoded), tf.int64)


def piece(encoded: tf.Tensor, start: tf.Tensor, length: tf.Tensor | int) -> tf.Tensor:
    """`length` bytes from `start` on, or as many as there are; string [N]."""
    start = tf.clip_by_value(start, 0, sizes(encoded))
    length = tf.maximum(tf.zeros_like(start) + tf.cast(length, tf.int64), 0)
    return tf.strings.substr(encoded, start, length)


def numbers(
    encoded: tf.Tensor,
    start: tf.Tensor,
    count: tf.Tensor | int,
    dtype: tf.DType = tf.uint8,
    big_endian: bool = False,
) -> tf.Tensor:
    """`count` numbers of a type, one after the other from `start` on; int64 [N, count]."""
    length = count * dtype.size
    raw = tf.io.decode_raw(
        piece(encoded, start, length), dtype, little_endian=not big_endian, fixed_length=length
    )
    return tf.cast(raw, tf.int64)


def replaced(encoded: tf.Tensor, start: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """The strings with `new`, string [N], written over what stands at `start`."""
    after = start + sizes(new)
    rest = piece(encoded, after, _TO_THE_END)
    return tf.strings.join([piece(encoded, tf.zeros_like(start), start), new, rest])


def inserted(encoded: tf.Tensor, start: tf.Tensor, new: bytes) -> tf.Tensor:
    """The strings with the bytes `new` put in before `start`."""
    rest = piece(encoded, start, _TO_THE_END)
    return tf.strings.join([piece(encoded, tf.zeros_like(start), start), tf.constant(new), rest])


def character(values: tf.Tensor) -> tf.Tensor:
    """The strings of one byte whose values, 0 to 255, are given."""
    return tf.gather(tf.constant(_CHARACTERS), values)


def is_any(found: tf.Tensor, wanted: Sequence[int | bytes]) -> tf.Tensor:
    """Which elements are one of `wanted`."""
    return tf.reduce_any([tf.equal(found, value) for value in wanted], axis=0)
