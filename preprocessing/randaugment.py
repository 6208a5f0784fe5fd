"""RandAugment: a few of fourteen changes, drawn at random, all of one strength.

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space",
arXiv:1909.13719. The changes and their greatest strengths are those of AutoAugment's table
(arXiv:1805.09501, appendix), which the paper refers to; magnitudes run from 0 to 10.
"""

import math

import tensorflow as tf

from preprocessing import ops
from preprocessing.options import LARGEST_MAGNITUDE

_ROTATION = math.radians(30)
_SHEAR = 0.3
_TRANSLATION = 100 / 331  # of a side; the table gives pixels of an image of 331
_ENHANCEMENT = 0.9
_GRAY = 128.0  # fills what lies outside of the image


def augment(image: tf.Tensor, seed: tf.Tensor, layers: int, magnitude: float) -> tf.Tensor:
    """Applies `layers` changes one after the other, drawn with replacement.

    Args:
      image: float32 [height, width, 1 or 3] in 0..255.
      seed: int32 [2]; decides every random choice.
      layers: how many changes.
      magnitude: their strength, 0 to 10.

    Returns:
      float32 of the same shape, in 0..255.
    """
    draws = ops.uniforms(seed, 2 * layers)
    for which, sign in zip(draws[::2], draws[1::2], strict=True):
        image = _changed(
            image, which, tf.where(sign < 0.5, -1.0, 1.0), magnitude / LARGEST_MAGNITUDE
        )
    return image


def _changed(image: tf.Tensor, which: tf.Tensor, sign: tf.Tensor, strength: float) -> tf.Tensor:
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    towards = sign * strength  # for changes with two directions
    factor = 1.0 + _ENHANCEMENT * towards

    def moved(matrix):
        return ops.transform(image, [matrix], "constant", _GRAY)

    changes = [
        lambda: image,
        lambda: ops.autocontrast(image),
        lambda: ops.equalize(image),
        lambda: moved(ops.rotation(_ROTATION * towards)),
        lambda: tf.where(image < 256 * (1 - strength), image, 255.0 - image),  # solarize
        lambda: (
            ops.blend(tf.repeat(ops.grayscale(image), 3, axis=-1), image, factor)
            if image.shape[-1] == 3
            else image
        ),
        lambda: ops.posterize(image, 8 - round(4 * strength)),
        lambda: ops.blend(tf.fill(tf.shape(image), tf.reduce_mean(image)), image, factor),
        lambda: ops.blend(tf.zeros_like(image), image, factor),
        lambda: ops.sharpness(image, factor),
        lambda: moved(ops.shear_x(_SHEAR * towards)),
        lambda: moved(ops.shear_y(_SHEAR * towards)),
        lambda: moved(ops.translation(_TRANSLATION * towards * width, 0.0)),
        lambda: moved(ops.translation(0.0, _TRANSLATION * towards * height)),
    ]
    shape = image.shape
    result = tf.switch_case(
        ops.index_below(which, len(changes)),
        [lambda change=change: tf.ensure_shape(change(), shape) for change in changes],
    )
    return tf.ensure_shape(result, shape)
