"""The table of preprocessing recipes.

A recipe of your own is a file with two functions, `train` and `evaluate_image`, and a row here.
Instead of `train` the file may have its two halves, `augment` and `to_input`, which are faster.
Which recipe a net takes where none is asked for stands in the net's row (nets/nets_factory.py).
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from foundation.errors import InputError
from preprocessing import addons, cifarnet, custom, inception, lenet, normalization, ops, vgg
from preprocessing.options import (
    NO_AUGMENTATION,
    PLAIN_PIXELS,
    AugmentationOptions,
    PixelsOptions,
)
from preprocessing.zca import Whitening


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How pixels become what a net is fed; the functions run inside tf.data and outside.

    Attributes:
      name: what --preprocessing_name calls it.
      train: (encoded, size, boxes, seed, use_grayscale=False, **options) draws a training image.
      evaluate_image: (image, size, use_grayscale=False, **options), nothing random; the image is
        decoded, uint8 or float [h, w, 3] in 0..255.
      evaluate: the same of the encoded image.
      value_range: least and greatest value that the results can have; None where each image is
        brought to mean 0 and deviation 1.
      undo: from the results back to pixels in 0..255; None where that can't be.
      normalization: name of the normalisation that its functions end with.
      crop: what evaluation cuts out of a picture, in words.
      moments: mean and deviation by which a pixel in 0..255 becomes what the net is fed, as
        `normalization.Normalization` has them; None where more than that is done to it.
      size: the one side in pixels that results can have; None for any.
      needs_color: whether `use_grayscale` is impossible.
      augment, to_input: the two halves of `train`, where a recipe has them: `augment` changes one
        image at a time, `to_input` makes a batch of them what nets take; see `training_stages`.

    All but `augment` return float32 [size, size, channels] with 3 channels, or 1 with
    `use_grayscale`. The `boxes` are float32 [n, 4] as (ymin, xmin, ymax, xmax) in fractions, the
    `seed` int32 [2].
    """

    name: str
    train: Callable[..., tf.Tensor]
    evaluate: Callable[..., tf.Tensor]
    evaluate_image: Callable[..., tf.Tensor]
    value_range: tuple[float, float] | None
    undo: Callable[[tf.Tensor], tf.Tensor] | None
    normalization: str
    crop: str
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None
    size: int | None = None
    needs_color: bool = False
    augment: Callable[..., dict[str, tf.Tensor]] | None = None
    to_input: Callable[..., tf.Tensor] | None = None

    def pictures(self, images: tf.Tensor) -> tf.Tensor:
        """Results, float32 [N, S, S, channels], as people see them: uint8 [N, S, S, 3].

        Of whitened images the least value becomes black and the greatest white.
        """
        if self.undo:
            pixels = self.undo(images)
        else:
            low, high = (
                reduce(images, axis=[1, 2, 3], keepdims=True)
                for reduce in (tf.reduce_min, tf.reduce_max)
            )
            pixels = 255 * tf.math.divide_no_nan(images - low, high - low)
        pixels = tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)
        return tf.repeat(pixels, 3, axis=3) if images.shape[3] == 1 else pixels

    def training_stages(
        self, size: int, use_grayscale: bool = False, **options
    ) -> tuple[Callable[..., Any], Callable[[Any], tf.Tensor]]:
        """Splits training preprocessing as `datasets.batches.training_batches` takes it.

        Args:
          size: side of the images in pixels.
          use_grayscale: turn them to one channel.
          options: of the recipe's `train`.

        Returns:
          decode: (encoded, boxes, seed) → a tensor or a dict of tensors.
          to_input: a batch of these → float32 [B, size, size, channels].
        """
        in_halves = self.augment is not None

        def decode(encoded, boxes, seed):
            if in_halves:
                return self.augment(encoded, size, boxes, seed, **options)
            return self.train(encoded, size, boxes, seed, use_grayscale, **options)

        def to_input(batch):
            return self.to_input(batch, use_grayscale) if in_halves else batch

        return decode, to_input


def _recipe(name: str, module, scale: str, crop: str = "as the recipe crops it") -> Recipe:
    """A row: the recipe's name, its file, the normalisation that its functions end with, its crop.

    The file has `evaluate_image`, and either `train` or its halves `augment` and `to_input`.
    Functions that end with "whiten", which can't be undone, take `standardize=True`, and leave the
    whitening out where it is False.
    """
    scaling = normalization.get(scale)
    in_halves = hasattr(module, "augment")
    for function in (module.to_input if in_halves else module.train, module.evaluate_image):
        if not scaling.undo and "standardize" not in inspect.signature(function).parameters:
            raise TypeError(
                f"{name}: {function.__name__} ends with {scale}, so it needs an argument "
                "`standardize=True`."
            )

    def train(encoded, size, boxes, seed, use_grayscale=False, **options):
        whitening = {key: options.pop(key) for key in ("standardize",) if key in options}
        drawn = module.augment(encoded, size, boxes, seed, **options)
        batch = tf.nest.map_structure(lambda part: part[tf.newaxis], drawn)
        return module.to_input(batch, use_grayscale, **whitening)[0]

    def evaluate(encoded, size, use_grayscale=False, **options):
        return module.evaluate_image(ops.decode(encoded), size, use_grayscale, **options)

    return Recipe(
        name,
        train if in_halves else module.train,
        evaluate,
        module.evaluate_image,
        scaling.value_range,
        scaling.undo,
        scale,
        crop,
        scaling.moments,
        needs_color=scaling.needs_color,
        augment=module.augment if in_halves else None,
        to_input=module.to_input if in_halves else None,
    )


_MIDDLE = "the middle, not resized"
_MOST = "the middle 87.5 % of both sides, resized"
_SQUARE = (
    "the middle of the picture, whose shorter side was resized to 256 pixels, or to 8/7 of a size "
    "above 256"
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        _recipe("inception", inception, "inception", _MOST),
        _recipe("vgg", vgg, "vgg", _SQUARE),
        _recipe("cifarnet", cifarnet, "whiten", _MIDDLE),
        _recipe("lenet", lenet, "lenet", _MIDDLE),
        _recipe("addons", addons, "inception", _MOST),
    )
}


def names() -> list[str]:
    """The recipes' names, sorted."""
    return sorted(RECIPES)


def get(
    name: str,
    pixels: PixelsOptions = PLAIN_PIXELS,
    augmentation: AugmentationOptions = NO_AUGMENTATION,
    zca: Whitening | None = None,
) -> Recipe:
    """The recipe of that name.

    Args:
      name: one of `names`.
      pixels: what training, evaluation and serving do alike.
      augmentation: what training draws besides what the recipe draws.
      zca: the whitening of the normalisation zca.

    Raises:
      InputError: there is no such recipe, or the options make no sense.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, names()) or names()
        raise InputError(
            f"is not a recipe. Did you mean {' or '.join(close)}?",
            option="preprocessing_name",
            value=name,
        )
    pixels.check()
    recipe = RECIPES[name]
    if pixels == PLAIN_PIXELS and not augmentation.changes_images:
        return recipe
    return custom.customized(recipe, pixels, augmentation, zca)
