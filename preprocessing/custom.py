"""A recipe with steps of the user's choice in it, by flags, whatever the recipe."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from preprocessing import normalization as normalizations
from preprocessing import ops
from preprocessing.augmentation import Augmentation

FITS = ("crop", "letterbox", "stretch")


@dataclasses.dataclass(frozen=True)
class Look:
    """What training, evaluation and serving must do alike.

    Attributes:
      fit: crop: as the recipe cuts images to size; letterbox: the whole image in proportion on
        black; stretch: the whole image, out of proportion. The last two replace the recipe's crop
        and its colour changes; training mirrors half of the images.
      normalization: of preprocessing.normalization; None is the recipe's own.
      means, stds: of the normalisation torch.
      zca_file: of the normalisation zca.
      equalize: spread each channel's histogram evenly first.
    """

    fit: str = "crop"
    normalization: str | None = None
    means: Sequence[float] = normalizations.TORCH_MEANS
    stds: Sequence[float] = normalizations.TORCH_STDS
    equalize: bool = False
    zca_file: str | None = None

    def __post_init__(self):
        """Raises ValueError for what makes no sense."""
        if self.fit not in FITS:
            raise ValueError(f"--fit={self.fit}: one of {', '.join(FITS)}.")
        if self.normalization:
            self.normalizer()

    def normalizer(self) -> normalizations.Normalization:
        return normalizations.get(self.normalization, self.means, self.stds, self.zca_file)


def customized(recipe, look: Look, augmentation: Augmentation):
    """The recipe with another look and more augmentation; a preprocessing_factory.Recipe.

    Images go through as pixels in 0..255: the recipe's own normalisation is taken back, or for
    recipes whose normalisation can't be, left out (their functions take `standardize=False`).
    """
    own = normalizations.get(recipe.normalization)
    new = own
    if look.normalization:
        new = look.normalizer()
    raw = {} if own.undo else {"standardize": False}

    # Colours that were changed may lie beyond 0..255, and a whitened image keeps what they are.
    beyond = new is own and not (own.undo or look.equalize or augmentation.needs_pixels)

    def pixels(image: tf.Tensor) -> tf.Tensor:
        image = own.undo(image) if own.undo else image
        return image if beyond else tf.clip_by_value(image, 0.0, 255.0)

    def fitted(image: tf.Tensor, size: int) -> tf.Tensor:
        if look.fit == "letterbox":
            return ops.letterbox(image, size)
        return tf.ensure_shape(ops.resize_bilinear(image, size, size), [size, size, 3])

    def finished(image: tf.Tensor, use_grayscale: bool = False) -> tf.Tensor:
        if use_grayscale and image.shape[-1] == 3:
            image = ops.grayscale(image)
        if use_grayscale and new.needs_color:
            raise ValueError(
                "--use_grayscale does not go with "
                f"--normalization={look.normalization or recipe.normalization}, which has a mean "
                "for each of three channels; take inception or whiten."
            )
        return new.apply(image)

    def draw(encoded, size, boxes, seed, **options):
        if look.fit == "crop":
            image = pixels(recipe.train(encoded, size, boxes, seed, **raw, **options))
        else:
            mirror, *_ = ops.uniforms(seed, 1)
            image = ops.flip(fitted(ops.decode(encoded), size), mirror)
        image = ops.equalize(image) if look.equalize else image
        return image if augmentation.is_nothing else augmentation(image, seed)

    # Where nothing comes between the recipe's own halves and the normalisation, they stay.
    own_halves = (
        recipe.draw and look.fit == "crop" and not look.equalize and augmentation.is_nothing
    )

    def finish(batch, use_grayscale=False):
        images = pixels(recipe.finish(batch, **raw)) if own_halves else batch
        return finished(images, use_grayscale)

    def train(encoded, size, boxes, seed, use_grayscale=False, **options):
        return finished(draw(encoded, size, boxes, seed, **options), use_grayscale)

    def evaluate_image(image, size, use_grayscale=False, **options):
        if look.fit == "crop":
            image = pixels(recipe.evaluate_image(image, size, **raw, **options))
        else:
            image = fitted(image, size)
        image = ops.equalize(image) if look.equalize else image
        return finished(image, use_grayscale)

    def evaluate(encoded, size, use_grayscale=False, **options):
        return evaluate_image(ops.decode(encoded), size, use_grayscale, **options)

    return dataclasses.replace(
        recipe,
        train=train,
        evaluate=evaluate,
        evaluate_image=evaluate_image,
        value_range=new.value_range,
        size=new.size,
        needs_color=new.needs_color,
        draw=recipe.draw if own_halves else draw,
        # Compiled into few passes over the pixels; but a matrix is multiplied faster as it is.
        finish=finish if new.size else tf.function(finish, jit_compile=True),
    )
