"""Changes of a training image that any recipe can be given by flags, drawn from its seed.

They work on pixels, float32 in 0..255, between a recipe's crop and its normalisation.
"""

import dataclasses
import math

import tensorflow as tf

from preprocessing import ops, randaugment

FILL_MODES = ("nearest", "constant", "reflect", "wrap")
# Zhong et al., "Random Erasing Data Augmentation", arXiv:1708.04896: area and aspect ratio.
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn; the names and meanings are those of Keras' ImageDataGenerator.

    Attributes:
      rotation_range: degrees, either way.
      width_shift_range, height_shift_range: part of the side below 1, else pixels; either way.
      shear_range: degrees, either way.
      zoom_range: sides are seen through a window of 1 - z to 1 + z of them, each by its own draw.
      horizontal_flip, vertical_flip: mirror half of the images.
      brightness_range: factor on all values, from and to; None: no change.
      fill_mode: what lies outside of the image: nearest, constant (black), reflect or wrap.
      randaugment_layers, randaugment_magnitude: see preprocessing.randaugment; 0 layers: none.
      random_erasing: probability that a part of an image is replaced by noise.
    """

    rotation_range: float = 0.0
    width_shift_range: float = 0.0
    height_shift_range: float = 0.0
    shear_range: float = 0.0
    zoom_range: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    brightness_range: tuple[float, float] | None = None
    fill_mode: str = "nearest"
    randaugment_layers: int = 0
    randaugment_magnitude: float = 9.0
    random_erasing: float = 0.0

    def __post_init__(self):
        """Raises ValueError for what makes no sense."""
        if self.fill_mode not in FILL_MODES:
            raise ValueError(f"--fill_mode={self.fill_mode}: one of {', '.join(FILL_MODES)}.")
        if not 0 <= self.zoom_range < 1:
            raise ValueError(f"--zoom_range={self.zoom_range} must be at least 0 and below 1.")
        if not 0 <= self.random_erasing <= 1:
            raise ValueError(f"--random_erasing={self.random_erasing} is a probability, 0 to 1.")
        if not 0 <= self.randaugment_magnitude <= randaugment.LARGEST:
            raise ValueError(
                f"--randaugment_magnitude={self.randaugment_magnitude} must lie in 0 to "
                f"{randaugment.LARGEST}."
            )

    @property
    def is_nothing(self) -> bool:
        """Whether images stay as they are."""
        blank = dataclasses.replace(
            Augmentation(),
            fill_mode=self.fill_mode,
            randaugment_magnitude=self.randaugment_magnitude,
        )
        return self == blank

    @property
    def needs_pixels(self) -> bool:
        """Whether values beyond 0..255 make no sense to it."""
        return bool(self.randaugment_layers or self.brightness_range)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws a changed image.

        Args:
          image: float32 [height, width, channels] in 0..255.
          seed: int32 [2]; decides every draw.

        Returns:
          The same shape and range.
        """
        # Another stream than the recipe's.
        seed = tf.random.experimental.stateless_fold_in(seed, 1)
        draws = ops.uniforms(seed, 10)
        image = self._transformed(image, draws[:6])
        if self.horizontal_flip:
            image = ops.flip(image, draws[6])
        if self.vertical_flip:
            image = tf.cond(draws[7] < 0.5, lambda: tf.reverse(image, axis=[0]), lambda: image)
        if self.brightness_range is not None:
            factor = ops.between(draws[8], *self.brightness_range)
            image = tf.clip_by_value(image * factor, 0.0, 255.0)
        if self.randaugment_layers:
            image = randaugment.augment(
                image,
                tf.random.experimental.stateless_fold_in(seed, 2),
                self.randaugment_layers,
                self.randaugment_magnitude,
            )
        if self.random_erasing:
            inner = tf.random.experimental.stateless_fold_in(seed, 3)
            image = tf.cond(
                draws[9] < self.random_erasing, lambda: erased(image, inner), lambda: image
            )
        return image

    def _transformed(self, image: tf.Tensor, draws: list[tf.Tensor]) -> tf.Tensor:
        """Rotation, shift, shear and zoom in one resampling."""
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))

        def either_way(draw, range_):
            return ops.between(draw, -range_, range_)

        def pixels(draw, range_, side):
            return either_way(draw, range_) * (side if abs(range_) < 1 else 1.0)

        matrices = []
        if self.rotation_range:
            matrices.append(ops.rotation(either_way(draws[0], math.radians(self.rotation_range))))
        if self.width_shift_range or self.height_shift_range:
            matrices.append(
                ops.translation(
                    pixels(draws[1], self.width_shift_range, width),
                    pixels(draws[2], self.height_shift_range, height),
                )
            )
        if self.shear_range:
            matrices.append(ops.shear(either_way(draws[3], math.radians(self.shear_range))))
        if self.zoom_range:
            factors = [1.0 + either_way(draw, self.zoom_range) for draw in draws[4:6]]
            matrices.append(ops.scaling(*factors))
        if not matrices:
            return image
        return ops.transform(image, matrices, self.fill_mode)


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
