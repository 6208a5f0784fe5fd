"""A contact sheet: originals with their boxes, each followed by what training draws of it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageOps

from foundation import files
from foundation.errors import InputError
from preprocessing import mixing, ops
from preprocessing.options import AugmentationOptions

ROWS = 8
_DRAWS = 6
_SIDE = 160
_GAP = 6
_TEXT = 14
_CAPTION_LENGTH = 26


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What the pictures of a sheet are made by.

    Attributes:
      recipe: a preprocessing_factory.Recipe.
      size: side of the training images in pixels.
      labels: names of the classes.
      use_grayscale: as the recipe takes it.
    """

    recipe: object
    size: int
    labels: Sequence[str]
    use_grayscale: bool = False

    def write(
        self,
        path: str,
        examples: Sequence[Mapping[str, tf.Tensor]],
        augmentation: AugmentationOptions,
        seed: int = 0,
    ) -> None:
        """Draws the sheet, a row an example.

        Args:
          path: of the picture; its ending names the format.
          examples: of {"encoded", "boxes" float32 [n, 4] in fractions, "label" int32}.
          augmentation: whether training draws, and how it mixes images: of a column's examples.
          seed: of the draws.

        Raises:
          OSError: the picture can't be written.
          InputError: its ending names no format.
        """
        columns = _DRAWS if augmentation.augment else 1
        width = (columns + 1) * (_SIDE + _GAP) + _GAP
        sheet = Image.new("RGB", (width, len(examples) * (_SIDE + _TEXT + _GAP) + _GAP), "white")
        for row, example in enumerate(examples):
            _place(sheet, 0, row, _original(example), self.labels[int(example["label"])])
        for column in range(columns):
            images = [
                self._prepared(example, augmentation.augment, (seed + row, column))
                for row, example in enumerate(examples)
            ]
            captions = [""] * len(examples)
            if augmentation.mixes_images:
                images, captions = self._mixed(images, examples, augmentation, (seed, column))
            for row, (image, caption) in enumerate(zip(images, captions, strict=True)):
                picture = _picture(np.asarray(image), self.recipe.value_range)
                _place(sheet, column + 1, row, picture, caption)
        picture_format = Image.registered_extensions().get(f".{path.rpartition('.')[2].lower()}")
        if picture_format not in Image.SAVE:
            raise InputError("name a .png or .jpg file.", option="preview", value=path)
        with files.whole(path, "wb") as file:
            sheet.save(file, picture_format)

    def _prepared(self, example, augment: bool, seed: tuple[int, int]) -> tf.Tensor:
        """An example as training sees it, or where nothing is drawn as evaluation does."""
        recipe, encoded, gray = self.recipe, example["encoded"], self.use_grayscale
        if not augment:
            return recipe.evaluate(encoded, self.size, use_grayscale=gray)
        pair = tf.constant(seed, tf.int32)
        return recipe.train(encoded, self.size, example["boxes"], pair, use_grayscale=gray)

    def _mixed(self, images, examples, augmentation, seed):
        """The images mixed with each other, and captions that tell the shares of their classes."""
        numbers = tf.stack([example["label"] for example in examples])
        alphas = augmentation.mixup_alpha, augmentation.cutmix_alpha
        mixed, shares = mixing.mix(
            tf.stack(images), numbers, tf.constant(seed), len(self.labels), *alphas
        )
        return list(mixed), [self._shares(row) for row in shares.numpy()]

    def _shares(self, row: np.ndarray) -> str:
        largest = [i for i in np.argsort(-row)[:2] if row[i] >= 0.005]
        return ", ".join(f"{row[i]:.0%} {self.labels[i]}" for i in largest)


def _original(example) -> Image.Image:
    """The whole image with its boxes."""
    picture = Image.fromarray(ops.decode(example["encoded"]).numpy())
    picture = ImageOps.contain(picture, (_SIDE, _SIDE))
    pen = ImageDraw.Draw(picture)
    for top, left, bottom, right in example["boxes"].numpy().tolist():
        w, h = picture.width - 1, picture.height - 1
        pen.rectangle((left * w, top * h, right * w, bottom * h), outline="red", width=2)
    return picture


def _picture(image: np.ndarray, value_range: tuple[float, float] | None) -> Image.Image:
    """What a net is fed, float32 [H, W, C], as a picture; `value_range` becomes black to white."""
    low, high = value_range or (float(image.min()), float(image.max()))
    levels = np.clip((image - low) * 255 / max(high - low, 1e-6), 0, 255).astype(np.uint8)
    picture = Image.fromarray(levels if levels.shape[-1] == 3 else levels[..., 0])
    return picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _place(sheet: Image.Image, column: int, row: int, picture: Image.Image, caption: str) -> None:
    """Puts a picture into its cell, and the caption below it."""
    x, y = _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _TEXT + _GAP)
    sheet.paste(picture, (x + (_SIDE - picture.width) // 2, y + (_SIDE - picture.height) // 2))
    ImageDraw.Draw(sheet).text((x, y + _SIDE), caption[:_CAPTION_LENGTH], fill="black")
