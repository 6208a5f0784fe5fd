"""A contact sheet: originals with their boxes, beside what a recipe draws of them in training."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageOps

from preprocessing import ops

ROWS = 8
_DRAWS = 6
_SIDE = 160
_GAP = 6
_TEXT = 14


def write(
    path: str,
    examples: Sequence[Mapping[str, tf.Tensor]],
    recipe,
    size: int,
    labels: Sequence[str],
    *,
    use_grayscale: bool = False,
    seed: int = 0,
    augment: bool = True,
    mix=None,
) -> None:
    """Draws the sheet, a row an example.

    Args:
      path: of the picture; its ending names the format.
      examples: of {"encoded", "boxes" float32 [n, 4] in fractions, "label" int32}.
      recipe: of preprocessing_factory.
      size: side of the training images in pixels.
      labels: names of the classes.
      use_grayscale: as the recipe takes it.
      seed: of the draws.
      augment: False shows what evaluation sees.
      mix: (images, labels, seed) → images and soft labels; mixes a column among its rows.

    Raises:
      OSError: the picture can't be written.
      ValueError: its ending names no format.
    """
    columns = _DRAWS if augment else 1
    width = (columns + 1) * (_SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, len(examples) * (_SIDE + _TEXT + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    grid = [
        [
            _drawn(one, recipe, size, use_grayscale, (seed + row, column), augment)
            for row, one in enumerate(examples)
        ]
        for column in range(columns)
    ]
    numbers = tf.stack([example["label"] for example in examples])
    for column, images in enumerate(grid):
        captions = [labels[int(number)] for number in numbers]
        if mix is not None:
            mixed, soft = mix(tf.stack(images), numbers, tf.constant([seed, column]))
            images, captions = list(mixed), [_shares(row, labels) for row in soft.numpy()]
        for row, (image, caption) in enumerate(zip(images, captions, strict=True)):
            _place(sheet, pen, _picture(np.asarray(image), recipe.value_range), column + 1, row)
            _write_below(pen, caption if mix is not None else "", column + 1, row)
    for row, example in enumerate(examples):
        _place(sheet, pen, _original(example), 0, row)
        _write_below(pen, labels[int(example["label"])], 0, row)
    partial = f"{path}.tmp{os.path.splitext(path)[1]}"
    try:
        sheet.save(partial)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"--preview={path} can't be written: {error.strerror or error}.") from error
    except ValueError as error:
        raise ValueError(f"--preview={path}: name a .png or .jpg file.") from error


def _drawn(example, recipe, size, use_grayscale, seed, augment) -> tf.Tensor:
    if not augment:
        return recipe.evaluate(example["encoded"], size, use_grayscale=use_grayscale)
    pair = tf.constant(seed, tf.int32)
    return recipe.train(
        example["encoded"], size, example["boxes"], pair, use_grayscale=use_grayscale
    )


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
    """What a net is fed, float32 [H, W, C], as a picture of the range that it can have."""
    low, high = value_range or (float(image.min()), float(image.max()))
    levels = np.clip((image - low) * 255 / max(high - low, 1e-6), 0, 255).astype(np.uint8)
    picture = Image.fromarray(levels if levels.shape[-1] == 3 else levels[..., 0])
    return picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _shares(row: np.ndarray, labels: Sequence[str]) -> str:
    parts = [f"{row[i]:.0%} {labels[i]}" for i in np.argsort(-row)[:2] if row[i] >= 0.005]
    return ", ".join(parts)


def _corner(column: int, row: int) -> tuple[int, int]:
    return _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _TEXT + _GAP)


def _place(sheet, pen, picture: Image.Image, column: int, row: int) -> None:
    x, y = _corner(column, row)
    sheet.paste(picture, (x + (_SIDE - picture.width) // 2, y + (_SIDE - picture.height) // 2))


def _write_below(pen, text: str, column: int, row: int) -> None:
    x, y = _corner(column, row)
    pen.text((x, y + _SIDE), text[:26], fill="black")
