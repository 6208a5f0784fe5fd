"""A recipe with the steps in it that options ask for, whatever the recipe."""

import dataclasses

import tensorflow as tf

from foundation.errors import InputError
from preprocessing import augmentation, normalization, ops
from preprocessing.options import AugmentationOptions, PixelsOptions
from preprocessing.zca import Whitening

# By --fit; a crop is the recipe's own.
_CROPS = {
    "letterbox": "the whole picture, resized in proportion, on black",
    "stretch": "the whole picture, stretched",
}


def customized(
    recipe,
    pixels: PixelsOptions,
    drawn: AugmentationOptions,
    zca: Whitening | None = None,
):
    """The recipe with other pixels options and more augmentation; a preprocessing_factory.Recipe.

    Images go through as pixels in 0..255: the recipe's own normalisation is taken back, or where it
    can't be, left out (functions of such recipes take `standardize=False`).

    Args:
      recipe: a preprocessing_factory.Recipe.
      pixels: what training, evaluation and serving do alike.
      drawn: what training draws besides what the recipe draws.
      zca: the whitening of the normalisation zca.
    """
    own = normalization.get(recipe.normalization)
    new = normalization.get(pixels.normalization, pixels, zca) if pixels.normalization else own
    steps = _Steps(recipe, pixels, drawn, own, new)
    return dataclasses.replace(
        recipe,
        train=steps.train,
        evaluate=steps.evaluate,
        evaluate_image=steps.evaluate_image,
        value_range=new.value_range,
        undo=new.undo,
        crop=_CROPS.get(pixels.fit, recipe.crop)
        + ", each channel's histogram equalized" * pixels.equalize,
        moments=None if pixels.equalize else new.moments,
        size=new.size,
        needs_color=new.needs_color,
        augment=recipe.augment if steps.keeps_halves else steps.augment,
        # Compiled into few passes over the pixels; but a matrix is multiplied faster as it is.
        to_input=steps.to_input
        if new.size
        else tf.function(steps.to_input, jit_compile=True, autograph=False),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Steps:
    """The functions of a customized recipe; `own` is its normalisation, `new` what replaces it."""

    recipe: object
    pixels: PixelsOptions
    drawn: AugmentationOptions
    own: normalization.Normalization
    new: normalization.Normalization

    @property
    def keeps_halves(self) -> bool:
        """Whether nothing comes between the recipe's own halves and the normalisation."""
        plain = self.pixels.fit == "crop" and not self.pixels.equalize
        return bool(self.recipe.augment and plain and not self.drawn.changes_images)

    @property
    def _raw(self) -> dict[str, bool]:
        return {} if self.own.undo else {"standardize": False}

    def _as_pixels(self, image: tf.Tensor) -> tf.Tensor:
        """What the recipe made of an image, back in 0..255."""
        if self.own.undo:
            image = self.own.undo(image)
        needs_range = self.pixels.equalize or self.drawn.needs_pixels
        # Changed colours may lie beyond 0..255, and an image that is whitened keeps them.
        if self.new is self.own and not self.own.undo and not needs_range:
            return image
        return tf.clip_by_value(image, 0.0, 255.0)

    def _fitted(self, image: tf.Tensor, size: int) -> tf.Tensor:
        if self.pixels.fit == "letterbox":
            return ops.letterbox(image, size)
        return tf.ensure_shape(ops.resize_bilinear(image, size, size), [size, size, 3])

    def _normalized(self, image: tf.Tensor, use_grayscale: bool) -> tf.Tensor:
        if use_grayscale and self.new.needs_color:
            raise InputError(
                "--use_grayscale does not go with the normalisation "
                f"{self.pixels.normalization or self.recipe.normalization}, which has a mean for "
                "each of three channels.",
                remedy="Take --normalization=inception or whiten.",
            )
        if use_grayscale and image.shape[-1] == 3:
            image = ops.grayscale(image)
        return self.new.apply(image)

    def augment(self, encoded, size, boxes, seed, **options):
        if self.pixels.fit == "crop":
            image = self.recipe.train(encoded, size, boxes, seed, **self._raw, **options)
            image = self._as_pixels(image)
        else:
            mirror, *_ = ops.uniforms(seed, 1)
            image = ops.flip(self._fitted(ops.decode(encoded), size), mirror)
        image = ops.equalize(image) if self.pixels.equalize else image
        if self.drawn.changes_images:
            image = augmentation.augment(image, seed, self.drawn)
        return image

    def to_input(self, batch, use_grayscale=False):
        if self.keeps_halves:
            batch = self._as_pixels(self.recipe.to_input(batch, **self._raw))
        return self._normalized(batch, use_grayscale)

    def train(self, encoded, size, boxes, seed, use_grayscale=False, **options):
        image = self.augment(encoded, size, boxes, seed, **options)
        return self._normalized(image, use_grayscale)

    def evaluate_image(self, image, size, use_grayscale=False, **options):
        if self.pixels.fit == "crop":
            image = self.recipe.evaluate_image(image, size, **self._raw, **options)
            image = self._as_pixels(image)
        else:
            image = self._fitted(image, size)
        image = ops.equalize(image) if self.pixels.equalize else image
        return self._normalized(image, use_grayscale)

    def evaluate(self, encoded, size, use_grayscale=False, **options):
        return self.evaluate_image(ops.decode(encoded), size, use_grayscale, **options)
