"""Grad-CAM of a training or of an export, on encoded pictures."""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from runs import config as run_config
from runs.opened import OpenRun, open_run
from serving import classifier, explain, saved_model


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a net took a picture for a class.

    Attributes:
      picture: uint8 [S, S, 3], what the net saw of it.
      heat: float32 [h, w] in 0..1, which places led to the class, as `explain.heat` has it.
    """

    picture: np.ndarray
    heat: np.ndarray

    @property
    def overlay(self) -> np.ndarray:
        """uint8 [S, S, 3], the picture with the heat over it."""
        return explain.overlay(self.picture, self.heat)


# Encoded pictures and a class for each, by default the likeliest → an explanation for each.
Explainer = Callable[..., list[Explanation]]


def explainer(path: str, say: Callable[[str], None] = print) -> Explainer:
    """Grad-CAM of what `path` means.

    Args:
      path: an export's folder or SavedModel, a training folder, or a checkpoint of one.
      say: gets lines for the screen.

    Returns:
      a function from N encoded pictures (JPEG, PNG, GIF or BMP bytes), and N indices of classes in
      the order of the logits where not the likeliest are asked about, to N explanations.

    Raises:
      InputError: nothing that can be loaded, or a format that keeps no gradients. The function
        raises it for a picture that can't be read.
    """
    if run_config.load(path):
        return of_run(open_run(path, say=say))
    return of_export(path)


def of_run(run: OpenRun) -> Explainer:
    """Grad-CAM of an opened run; see `explainer`."""
    of_images = explain.Explainer(run.model)

    def explained(
        encoded: Sequence[bytes], classes: Sequence[int] | None = None
    ) -> list[Explanation]:
        images = prepared(run, encoded)
        heat = of_images(images, _asked(encoded, classes))
        return list(map(Explanation, run.recipe.pictures(images).numpy(), heat))

    return explained


def of_export(path: str) -> Explainer:
    """Grad-CAM of the SavedModel that `path` means; see `explainer`."""
    model = classifier.model_file(path)
    if not os.path.isdir(model):
        raise InputError(
            f"{model}: this format keeps no gradients, which Grad-CAM needs.",
            remedy="Name a SavedModel (export_model.py --formats=saved_model), or the training "
            "folder that it was made of.",
        )
    run = saved_model.load_explainer(model)

    def explained(
        encoded: Sequence[bytes], classes: Sequence[int] | None = None
    ) -> list[Explanation]:
        answer = run(list(encoded), _asked(encoded, classes))
        return list(map(Explanation, answer["pictures"], answer["heat"]))

    return explained


def prepared(run: OpenRun, encoded: Sequence[bytes]) -> tf.Tensor:
    """Encoded pictures as a run's net is fed them, float32 [N, S, S, channels]."""
    size, gray = run.config.image_size, run.config.use_grayscale
    images = []
    for i, picture in enumerate(encoded):
        try:
            images.append(run.recipe.evaluate(picture, size, use_grayscale=gray))
        except tf.errors.InvalidArgumentError as error:
            raise InputError(f"picture {i}: can't be decoded: {error.message}") from error
    return tf.stack(images)


def _asked(encoded: Sequence[bytes], classes: Sequence[int] | None) -> Sequence[int]:
    return [explain.LIKELIEST] * len(encoded) if classes is None else classes
