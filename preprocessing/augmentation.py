"""Random changes of a training image that options add to any recipe.

Each draw comes from the image's seed. The changes work on pixels, float32 in 0..255, between a
recipe's crop and its normalisation.
"""

import math

import tensorflow as tf

from preprocessing import ops, randaugment
from preprocessing.options import AugmentationOptions

# Zhong et al., "Random Erasing Data Augmentation", arXiv:1708.04896: area and aspect ratio.
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)


def augment(image: tf.Tensor, seed: tf.Tensor, options: AugmentationOptions) -> tf.Tensor:
    """Draws a changed image.

    Args:
      image: float32 [height, width, channels] in 0..255.
      seed: int32 [2]; decides every random choice.
      options: which changes, and how strong they are.

    Returns:
      The same shape and range.
    """
    # Another stream than the recipe's.
    seed = tf.random.experimental.stateless_fold_in(seed, 1)
    draws = ops.uniforms(seed, 10)
    image = _transformed(image, draws[:6], options)
    if options.horizontal_flip:
        image = ops.flip(image, draws[6])
    if options.vertical_flip:
        image = tf.cond(draws[7] < 0.5, lambda: tf.reverse(image, axis=[0]), lambda: image)
    if options.brightness_range is not None:
        factor = ops.between(draws[8], *options.brightness_range)
        image = tf.clip_by_value(image * factor, 0.0, 255.0)
    if options.randaugment_layers:
        image = randaugment.augment(
            image,
            tf.random.experimental.stateless_fold_in(seed, 2),
            options.randaugment_layers,
            options.randaugment_magnitude,
        )
    if options.random_erasing:
        inner = tf.random.experimental.stateless_fold_in(seed, 3)
        image = tf.cond(
            draws[9] < options.random_erasing, lambda: erased(image, inner), lambda: image
        )
    return image


def _transformed(
    image: tf.Tensor, draws: list[tf.Tensor], options: AugmentationOptions
) -> tf.Tensor:
    """Rotation, shift, shear and zoom in one resampling."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))

    def either_way(draw, range_):
        return ops.between(draw, -range_, range_)

    def pixels(draw, range_, side):
        return either_way(draw, range_) * (side if abs(range_) < 1 else 1.0)

    matrices = []
    if options.rotation_range:
        matrices.append(ops.rotation(either_way(draws[0], math.radians(options.rotation_range))))
    if options.width_shift_range or options.height_shift_range:
        matrices.append(
            ops.translation(
                pixels(draws[1], options.width_shift_range, width),
                pixels(draws[2], options.height_shift_range, height),
            )
        )
    if options.shear_range:
        matrices.append(ops.shear(either_way(draws[3], math.radians(options.shear_range))))
    if options.zoom_range:
        factors = [1.0 + either_way(draw, options.zoom_range) for draw in draws[4:6]]
        matrices.append(ops.scaling(*factors))
    if not matrices:
        return image
    return ops.transform(image, matrices, options.fill_mode)


def erased(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Replaces a rectangle by noise; float32 in 0..255, `seed` int32 [2]."""
    shape = tf.shape(image)
    height, width = tf.unstack(tf.cast(shape[:2], tf.float32))
    area, aspect, top, left = ops.uniforms(seed, 4)
    area = ops.between(area, *_ERASED_AREA) * height * width
    aspect = tf.exp(ops.between(aspect, *map(math.log, _ERASED_ASPECT)))
    tall = tf.minimum(tf.round(tf.sqrt(area * aspect)), height)
    wide = tf.minimum(tf.round(tf.sqrt(area / aspect)), width)
    top, left = tf.floor(top * (height - tall + 1)), tf.floor(left * (width - wide + 1))
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    noise = tf.random.stateless_uniform(shape, seed, 0.0, 255.0)
    return tf.where(inside, noise, image)
