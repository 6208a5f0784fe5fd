"""TF-Slim's preprocessing of LeNet: the central pixels, (x - 128) / 128, so -1..0.992.

Training and evaluation are alike, and nothing is resized (lenet_preprocessing.py of research/slim).
"""

import tensorflow as tf

from preprocessing import ops


def train(
    encoded: tf.Tensor,
    size: int,
    boxes: tf.Tensor,
    seed: tf.Tensor,
    use_grayscale: bool = False,
) -> tf.Tensor:
    """As `evaluate_image`: nothing is drawn, so `boxes` and `seed` are not used."""
    del boxes, seed
    return evaluate_image(ops.decode(encoded), size, use_grayscale)


def evaluate_image(image: tf.Tensor, size: int, use_grayscale: bool = False) -> tf.Tensor:
    """Prepares one image.

    Args:
      image: uint8 or float [height, width, 3] in 0..255.
      size: side of the result in pixels; a smaller image is surrounded with -1.
      use_grayscale: return one channel.

    Returns:
      float32 [size, size, 3 or 1] in -1..0.992.
    """
    image = tf.cast(ops.crop_or_pad(image, size), tf.float32)
    image = ops.grayscale(image) if use_grayscale else image
    return image / 128 - 1
