"""Encoded pictures as training saw them, inside a graph.

Conversion turns photographs as their EXIF says and lays transparency on white; a record holds the
upright picture. Here a graph does the same to the bytes that it is sent. A picture that it can't
decode does not fail the others of its batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from foundation.picture_formats import MAX_PIXELS
from serving.pictures import bmp, gif, kinds, orientation, segments
from serving.pictures.transparency import on_white

_NUM_PARALLEL = 16
# Bits that deep pictures may use.
_DEPTHS = (8, 10, 12, 14, 16)


class Pictures(NamedTuple):
    """N pictures, of which M could be read.

    Attributes:
      pixels: float32 [max(M, 1), S, S, C]; with M = 0 one that is to be ignored.
      rows: int32 [N], which of `pixels` belongs to a picture; -1 for one that could not be read.
      status: string [N]: "", or what is wrong with a picture and what to do.
    """

    pixels: tf.Tensor
    rows: tf.Tensor
    status: tf.Tensor


def read(
    encoded: tf.Tensor, prepare: Callable[[tf.Tensor], tf.Tensor], pixels: tf.TensorSpec
) -> Pictures:
    """Decodes pictures as conversion shows them, and prepares them for the net.

    Args:
      encoded: string [N], the bytes of JPEG, PNG, GIF or BMP files.
      prepare: the recipe, from uint8 [h, w, 3] to what the net is fed.
      pixels: shape and dtype of what `prepare` returns.
    """
    count = tf.size(encoded)
    kind = kinds.of(encoded)
    encoded = _without_bmp(encoded, kind)
    # A BMP has become PNG, or "" where it is of a kind that is not read.
    headers = segments.read(encoded, tf.where(kind == kinds.BMP, kinds.OTHER, kind))
    opaque = gif.opaque(headers.encoded, kind == kinds.GIF)
    is_known = (kind != kinds.OTHER) & (tf.strings.length(encoded) > 0)
    is_large = (headers.num_pixels > MAX_PIXELS) | (
        opaque.canvas[:, 2] * opaque.canvas[:, 3] > MAX_PIXELS
    )
    wanted = tf.where(is_known & ~is_large)[:, 0]
    turns = orientation.read(encoded, headers.exif, headers.xmp)

    is_plain = ~(
        headers.transparent | headers.deep | (turns > 1) | tf.reduce_any(opaque.canvas > 0, axis=1)
    )

    def plain(i):
        return prepare(_plain(opaque.encoded[i]))

    def unusual(i):
        encoded, canvas = opaque.encoded[i], opaque.canvas[i]
        image = _in_eight_bits(encoded, headers.transparent[i], headers.deep[i])
        is_part = tf.reduce_any(canvas[2:] > tf.shape(image, tf.int64)[1::-1])
        image = tf.cond(
            is_part, lambda: _surrounded(image, canvas, opaque.around[i]), lambda: image
        )
        image = orientation.turned(image, turns[i])
        return prepare(tf.ensure_shape(image, [None, None, 3]))

    def element(i, picture):
        blank = tf.zeros(pixels.shape, pixels.dtype)
        i = tf.cast(i, tf.int32)
        image = tf.cond(i < count, lambda: picture(i), lambda: blank)
        return i, tf.ensure_shape(image, pixels.shape)

    # The function for ordinary pictures is small, and so are the costs of starting it.
    found, read_pixels = tf.cond(
        tf.reduce_all(is_plain),
        lambda: _without_errors(wanted, lambda i: element(i, plain), count),
        lambda: _without_errors(wanted, lambda i: element(i, unusual), count),
    )
    num_read = tf.size(found) - 1
    rows = tf.scatter_nd(found[:, tf.newaxis], tf.range(1, num_read + 2), [count + 1])[:-1] - 1
    read_pixels = tf.ensure_shape(read_pixels, [None, *pixels.shape])
    return Pictures(
        read_pixels[: tf.maximum(num_read, 1)], rows, _status(encoded, kind, is_large, rows)
    )


def _plain(encoded: tf.Tensor) -> tf.Tensor:
    """An encoded picture as it is, uint8 [h, w, 3]; fails for a damaged one."""
    image = tf.io.decode_image(encoded, 3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _in_eight_bits(encoded: tf.Tensor, transparent: tf.Tensor, deep: tf.Tensor) -> tf.Tensor:
    """The same of any picture, on white.

    Args:
      encoded: scalar string.
      transparent: whether it is a PNG that may have transparent pixels.
      deep: whether it is a PNG of 16 bits a channel. It is scaled by the bits that its largest
        value needs, as conversion does with a photograph by itself.
    """

    def from_sixteen():
        image = tf.cast(tf.io.decode_png(encoded, 4, tf.uint16), tf.int32)
        color, opacity = image[..., :3], image[..., 3:] // 256
        largest = tf.reduce_max(color)
        needed = tf.reduce_sum(tf.cast(largest >= [2**bits for bits in _DEPTHS[:-1]], tf.int32))
        color = color // tf.gather([2 ** (bits - 8) for bits in _DEPTHS], needed)
        opacity = tf.where(transparent, opacity, 255)
        return tf.cast(tf.concat([color, opacity], axis=-1), tf.uint8)

    def with_opacity():
        return tf.cond(deep, from_sixteen, lambda: tf.io.decode_png(encoded, 4))

    return tf.cond(transparent | deep, lambda: on_white(with_opacity()), lambda: _plain(encoded))


def _surrounded(image: tf.Tensor, canvas: tf.Tensor, around: tf.Tensor) -> tf.Tensor:
    """The picture on a canvas of one colour: left, top, width, height."""
    height, width, _ = tf.unstack(tf.shape(image, tf.int64))
    left, top = canvas[0], canvas[1]
    right, bottom = tf.maximum(canvas[2] - left - width, 0), tf.maximum(canvas[3] - top - height, 0)
    padding = [[top, bottom], [left, right]]
    planes = [
        tf.pad(image[..., i], padding, constant_values=around[i]) for i in range(image.shape[-1])
    ]
    return tf.stack(planes, axis=-1)


def _without_bmp(encoded: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """The pictures with PNG in the place of BMP; "" for one that is not read."""
    found = tf.where(kind == kinds.BMP)

    def replaced():
        new = tf.map_fn(bmp.as_png, tf.gather_nd(encoded, found))
        return tf.tensor_scatter_nd_update(encoded, found, new)

    return tf.cond(tf.size(found) > 0, replaced, lambda: encoded)


def _without_errors(
    wanted: tf.Tensor, element: Callable[[tf.Tensor], tuple[tf.Tensor, ...]], end: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Batches what `element` gives for `wanted`, int64 [M], where it does not fail, and for `end`.

    Only tf.data goes on after an operation has failed.
    """
    numbers = tf.concat([wanted, [tf.cast(end, tf.int64)]], axis=0)
    options = tf.data.Options()
    # What serves long trainings costs one batch more than it saves.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False

    def batch(num_parallel):
        dataset = tf.data.Dataset.from_tensor_slices(numbers)
        dataset = dataset.map(element, num_parallel_calls=num_parallel).ignore_errors()
        dataset = dataset.batch(tf.size(numbers, tf.int64)).with_options(options)
        return dataset.get_single_element()

    # For one picture the threads cost more than they save.
    return tf.cond(tf.size(wanted) > 1, lambda: batch(_NUM_PARALLEL), lambda: batch(None))


def _status(encoded: tf.Tensor, kind: tf.Tensor, is_large: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """What is wrong with each picture, string [N]; "" for those that have a row."""
    fine = tf.fill(tf.shape(encoded), "")

    def problems():
        names = tf.gather(kinds.NAMES, kind)
        damaged = tf.strings.join([names, f" is damaged, or of a rare kind: {kinds.WANTED}"])
        unread = tf.strings.join([names, f" of a kind that is not read here: {kinds.WANTED}"])
        text = tf.where((kind == kinds.BMP) & (encoded == b""), unread, damaged)
        large = f"more than {MAX_PIXELS:,} pixels: send it smaller"
        text = tf.where(is_large, large, text)
        text = tf.where(kind == kinds.OTHER, kinds.problems(encoded), text)
        return tf.where(rows < 0, text, fine)

    return tf.cond(tf.reduce_any(rows < 0), problems, lambda: fine)
