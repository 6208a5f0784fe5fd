"""Draws what a net makes of pictures: feature maps, first filters, and Grad-CAM."""

import itertools
import os
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from datasets.conversion import image_bytes
from evaluation.report import feature_maps
from foundation import files
from foundation.errors import InputError
from nets import maps
from runs import explained, opened, pictures
from runs.opened import OpenRun
from runs.options import EvaluateOptions

# Classes whose heat is drawn, likeliest first.
_MOST_CLASSES = 3


def visualize(options: EvaluateOptions, say: Callable[[str], None] = print) -> list[str]:
    """Writes `filters.png`, and `PICTURE.maps.png` and `PICTURE.grad_cam.png` for each picture.

    Args:
      options: of which checkpoint, which pictures, and into which `eval_dir`.
      say: gets lines for the screen.

    Returns:
      the paths that were written.

    Raises:
      InputError: a picture can't be read, or an end point is none of the net.
      OSError: a file could not be written.
    """
    given, folder = options.visualization, options.evaluation.eval_dir
    found = pictures.find(given.visualize, option="visualize")
    for line in found.described():
        say(line)
    opened.share_gpus()
    run = opened.open_run(options.checkpoint.checkpoint_path, options, say=say)
    names = given.end_points or maps.spread(run.model)
    end_points = maps.find(run.model, names)
    encoded = [_encoded(path) for path in found.pictures]
    written = {"filters.png": feature_maps.filters(*_first_filters(run.model))}
    look = keras.Model(run.model.inputs[0], [*end_points.values(), run.model.output["logits"]])
    explain = explained.of_run(run)
    for stem, picture in zip(_stems(found.pictures), encoded, strict=True):
        image = explained.prepared(run, [picture])
        *drawn, logits = [x.numpy()[0] for x in look(image, training=False)]
        seen = run.recipe.pictures(image).numpy()[0]
        by_name = dict(zip(end_points, drawn, strict=True))
        written[f"{stem}.maps.png"] = feature_maps.grid(seen, by_name, given.filters)
        written[f"{stem}.grad_cam.png"] = _grad_cam(run, explain, picture, logits)
    os.makedirs(folder, exist_ok=True)
    for name, png in written.items():
        with files.whole(os.path.join(folder, name), "wb") as file:
            file.write(png)
    paths = [os.path.join(folder, name) for name in written]
    say(f"Feature maps of {', '.join(end_points)}:")
    for path in paths:
        say(f"  {path}")
    return paths


def _grad_cam(
    run: OpenRun, explain: explained.Explainer, picture: bytes, logits: np.ndarray
) -> bytes:
    probabilities = tf.nn.softmax(logits).numpy()
    likeliest = np.argsort(-probabilities)[:_MOST_CLASSES]
    explanations = explain([picture] * len(likeliest), likeliest)
    overlays = {
        f"{run.labels[i]}, {100 * probabilities[i]:.1f} %": explanation.overlay
        for i, explanation in zip(likeliest, explanations, strict=True)
    }
    return feature_maps.heat(explanations[0].picture, overlays)


def _first_filters(model: keras.Model) -> tuple[np.ndarray, str]:
    """The kernel of the layer that sees the images first, and that layer's name."""
    for layer in model.layers:
        for variable in layer.weights:
            if len(variable.shape) == 4:
                return variable.numpy(), layer.name.replace(".", "/")
    raise InputError(f"{model.name} has no convolution.")


def _encoded(path: str) -> bytes:
    """A picture as conversion stores it."""
    try:
        with open(path, "rb") as file:
            return image_bytes.Photograph(file.read()).encode().data
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: {reason}", option="visualize") from error


def _stems(paths: Sequence[str]) -> list[str]:
    """Names for the files of each picture: of pictures of the same name the later get a number."""
    stems: list[str] = []
    for path in paths:
        plain = re.sub(r"[^\w.-]+", "_", os.path.splitext(os.path.basename(path))[0])
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        stems.append(next(s for s in itertools.chain([plain], numbered) if s not in stems))
    return stems
