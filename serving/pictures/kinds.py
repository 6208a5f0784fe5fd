"""The kinds of pictures that a graph decodes, and the names of all others."""

import numpy as np
import tensorflow as tf

from foundation import picture_formats

OTHER, JPEG, PNG, GIF, BMP = range(5)
NAMES = ("", "JPEG", "PNG", "GIF", "BMP")
WANTED = "send JPEG, PNG, GIF or BMP"


@tf.autograph.experimental.do_not_convert
def of(encoded: tf.Tensor) -> tf.Tensor:
    """The kinds of pictures, string [N] → int32 [N]."""
    start = tf.io.decode_raw(tf.strings.substr(encoded, 0, 8), tf.int64, fixed_length=8)[:, 0]
    kinds = tf.fill(tf.shape(encoded), OTHER)
    for name, _, magic in picture_formats.SIGNATURES:
        if name in NAMES:  # all of them within the first eight bytes
            bits = np.int64(-1) if len(magic) == 8 else np.int64(256 ** len(magic) - 1)
            number = np.frombuffer(magic.ljust(8, b"\0"), "<i8")[0]
            fits = tf.bitwise.bitwise_and(start, bits) == number
            kinds = tf.where(fits, NAMES.index(name), kinds)
    return kinds


@tf.autograph.experimental.do_not_convert
def problems(encoded: tf.Tensor) -> tf.Tensor:
    """What is wrong with pictures of the kind `OTHER`, and what to do; string [N]."""
    start = tf.strings.substr(encoded, 0, picture_formats.NUM_BYTES)
    found = tf.fill(tf.shape(encoded), f"no picture: {WANTED}")
    for name, offset, magic in reversed(picture_formats.SIGNATURES):
        if name not in NAMES:
            text = f"{name} can't be decoded here: {WANTED}"
            found = tf.where(_has(start, offset, magic), text, found)
    return tf.where(tf.strings.length(encoded) == 0, f"no bytes: {WANTED}", found)


def _has(start: tf.Tensor, offset: int, magic: bytes) -> tf.Tensor:
    """Which strings have `magic` at `offset`; they may be shorter."""
    padded = tf.strings.join([start, b"\0" * (offset + len(magic))])
    return tf.strings.substr(padded, offset, len(magic)) == magic
