"""TF-Slim's preprocessing of the VGG, ResNet v1 and v2, AlexNet and OverFeat families.

Float32 on the scale 0..255 less the mean of each channel, so about -124..151. The image is resized
to a given shorter side and cropped, both kept in proportion. Constants are those of
research/slim/preprocessing/vgg_preprocessing.py.
"""

import tensorflow as tf

from foundation.errors import InputError
from preprocessing import ops

_MEANS = (123.68, 116.78, 103.94)
_RESIZE_SIDE_MIN = 256
_RESIZE_SIDE_MAX = 512
_SIZE = 224


def augment(
    encoded: tf.Tensor,
    size: int,
    boxes: tf.Tensor,
    seed: tf.Tensor,
    resize_side_min: int | None = None,
    resize_side_max: int | None = None,
) -> tf.Tensor:
    """Random scale, random crop, mirrored or not; `to_input` does the rest on a batch.

    TF-Slim resizes the whole image and crops. Here what the crop shows is cut out of the encoded
    image, to whole pixels of it, and resized alone.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels.
      boxes: not used; here so that all recipes are called alike.
      seed: int32 [2]; decides every random choice.
      resize_side_min, resize_side_max: the shorter side after the resize is drawn from these, both
        included. None is 256 and 512; for a size above 256, which TF-Slim refuses, as much more.

    Returns:
      uint8 [size, size, 3].

    Raises:
      ValueError: a `resize_side_min` below `size` or above the maximum.
    """
    del boxes
    side_min = _resize_side(size, resize_side_min, _RESIZE_SIDE_MIN)
    side_max = _resize_side(size, resize_side_max, _RESIZE_SIDE_MAX)
    if side_min > side_max:
        raise ValueError(f"resize_side_min={side_min} is above resize_side_max={side_max}.")
    scale, top, left, mirror = ops.uniforms(seed, 4)
    side = side_min + ops.index_below(scale, side_max - side_min + 1)

    def window(shape: tf.Tensor) -> tf.Tensor:
        resized = _resized(shape, side)
        room = resized - size + 1
        offset = tf.stack([ops.index_below(top, room[0]), ops.index_below(left, room[1])])
        step = tf.cast(shape[:2], tf.float32) / tf.cast(resized, tf.float32)
        begin = tf.cast(tf.math.rint(tf.cast(offset, tf.float32) * step), tf.int32)
        extent = tf.maximum(tf.cast(tf.math.rint(size * step), tf.int32), 1)
        extent = tf.minimum(extent, shape[:2])
        return tf.concat([tf.minimum(begin, shape[:2] - extent), extent], axis=0)

    image = ops.resize_bilinear(ops.decode_window(encoded, window), size, size)
    # A quarter of the bytes to mirror, to collect and to hand on; half a step of 255 is lost.
    return tf.ensure_shape(ops.flip(ops.round_to_uint8(image), mirror), [size, size, 3])


def to_input(images: tf.Tensor, use_grayscale: bool = False) -> tf.Tensor:
    """Subtracts the means from what `augment` returned, one image or a batch; float32.

    `use_grayscale` is refused (InputError), as in TF-Slim: there are three means.
    """
    _check_color(use_grayscale)
    return tf.cast(images, tf.float32) - _MEANS


def evaluate_image(
    image: tf.Tensor,
    size: int,
    use_grayscale: bool = False,
    resize_side_min: int | None = None,
) -> tf.Tensor:
    """Prepares one image for evaluation: fixed scale, central crop.

    Args:
      image: uint8 or float [height, width, 3] in 0..255.
      size: side of the result in pixels.
      use_grayscale: refused, as in TF-Slim: there are three means.
      resize_side_min: the shorter side after the resize; None as in `augment`.

    Returns:
      float32 [size, size, 3], 0..255 less the channel means.

    Raises:
      InputError: `use_grayscale`.
      ValueError: a `resize_side_min` below `size`.
    """
    _check_color(use_grayscale)
    side = _resize_side(size, resize_side_min, _RESIZE_SIDE_MIN)
    image = ops.resize_bilinear(image, *tf.unstack(_resized(tf.shape(image), tf.constant(side))))
    begin = (tf.shape(image)[:2] - size) // 2
    image = ops.crop(image, tf.concat([begin, [size, size]], axis=0))
    return tf.ensure_shape(image, [size, size, 3]) - _MEANS


def _resized(shape: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Height and width, int32 [2], when the shorter of them becomes `side`."""
    sides = tf.cast(shape[:2], tf.float32)
    # The order of division and multiplication, and rounding to even, decide single pixels.
    scale = tf.cast(side, tf.float32) / tf.reduce_min(sides)
    return tf.cast(tf.math.rint(sides * scale), tf.int32)


def _resize_side(size: int, given: int | None, default: int) -> int:
    if given is not None:
        if given < size:
            raise ValueError(
                f"The vgg recipe cannot crop {size} pixels from an image whose shorter side is "
                f"resized to {given}; give a resize_side of {size} or more."
            )
        return given
    return default if size <= _RESIZE_SIDE_MIN else round(size * default / _SIZE)


def _check_color(use_grayscale: bool) -> None:
    if use_grayscale:
        raise InputError(
            "--use_grayscale does not go with --preprocessing_name=vgg, which subtracts the means "
            "of three channels.",
            remedy="Use inception, cifarnet or lenet.",
        )
