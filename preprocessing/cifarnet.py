"""TF-Slim's preprocessing of CifarNet, for small pictures of one size.

Float32, each image less its mean and divided by its deviation. Nothing is resized. Constants are
those of research/slim/preprocessing/cifarnet_preprocessing.py.
"""

import tensorflow as tf

from preprocessing import ops

_PADDING = 4
_BRIGHTNESS = 63.0
_CONTRAST = (0.2, 1.8)


def train(
    encoded: tf.Tensor,
    size: int,
    boxes: tf.Tensor,
    seed: tf.Tensor,
    use_grayscale: bool = False,
    padding: int = _PADDING,
) -> tf.Tensor:
    """Draws one training image: random crop of the padded image, mirror, brightness, contrast.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels.
      boxes: not used; here so that all recipes are called alike.
      seed: int32 [2]; decides every draw.
      use_grayscale: return one channel.
      padding: zeros added on every side before the crop; more where the image is still too small.

    Returns:
      float32 [size, size, 3 or 1] of mean 0 and deviation 1.
    """
    del boxes
    top, left, mirror, brightness, contrast = ops.uniforms(seed, 5)
    image = ops.decode(encoded)
    padded = tf.maximum(tf.shape(image)[:2] + 2 * padding, size)
    image = ops.crop_or_pad(image, padded[0], padded[1])
    room = padded - size + 1
    window = [ops.index_below(top, room[0]), ops.index_below(left, room[1]), size, size]
    image = tf.cast(ops.flip(ops.crop(image, tf.stack(window)), mirror), tf.float32)
    if use_grayscale:
        image = ops.grayscale(image)
    image = image + ops.between(brightness, -_BRIGHTNESS, _BRIGHTNESS)
    image = ops.adjust_contrast(image, ops.between(contrast, *_CONTRAST))
    return ops.standardize(tf.ensure_shape(image, [size, size, 1 if use_grayscale else 3]))


def evaluate(encoded: tf.Tensor, size: int, use_grayscale: bool = False) -> tf.Tensor:
    """Prepares one encoded image for evaluation: the centre, or zeros around a small image.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels.
      use_grayscale: return one channel.

    Returns:
      float32 [size, size, 3 or 1] of mean 0 and deviation 1.
    """
    return evaluate_image(ops.decode(encoded), size, use_grayscale)


def evaluate_image(image: tf.Tensor, size: int, use_grayscale: bool = False) -> tf.Tensor:
    """As `evaluate`, of a decoded image: uint8 or float [height, width, 3] in 0..255."""
    image = tf.cast(ops.crop_or_pad(image, size, size), tf.float32)
    return ops.standardize(ops.grayscale(image) if use_grayscale else image)
