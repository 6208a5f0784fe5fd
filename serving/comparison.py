"""Compares exported files with the net that they were made from."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from serving import classifier, saved_model
from serving.subject import Subject

# What the comparison on pictures as people send them is called.
UNUSUAL = "saved_model (turned and transparent pictures)"

# How far logits may be from the model's, as a fraction of the largest one, by quantization.
_TOLERANCE = {"none": 1e-3, "float16": 2e-2, "dynamic": 2e-1}


def largest_differences(
    paths: Mapping[str, str], subject: Subject, tflite_quantization: str = "none"
) -> dict[str, float]:
    """Loads each file from disk and compares its logits with the model's.

    Args:
      paths: format → file or folder.
      subject: what was exported.
      tflite_quantization: one of `serving.options.QUANTIZATIONS`; it decides the tolerance.

    Returns:
      format → largest difference as a fraction of the largest logit.

    Raises:
      InputError: one is beyond its tolerance, or the model gives numbers that are not finite.
    """
    examples, decode = subject.examples, subject.decode
    expected = _logits(subject, [decode(picture) for picture in examples])
    if not np.isfinite(expected).all():
        raise InputError(
            f"{subject.config.checkpoint}: the model gives no finite numbers on real pictures. "
            "Nothing was exported.",
            remedy="Take an earlier checkpoint.",
        )
    unusual = [encoded for encoded, _ in subject.unusual]
    found = {}
    for name, path in paths.items():
        model = classifier.load(path, lambda *_: decode)
        pictures = [*examples, *unusual] if name == "saved_model" else examples
        logits = model.outputs(pictures)["logits"]
        quantization = tflite_quantization if name == "tflite" else "none"
        found[name] = _difference(name, logits[: len(examples)], expected, quantization)
        if len(logits) > len(examples):
            shown = _logits(subject, [subject.prepare(pixels) for _, pixels in subject.unusual])
            found[UNUSUAL] = _difference(UNUSUAL, logits[len(examples) :], shown)
    if "saved_model" in paths:
        decoded = [
            tf.cast(tf.io.decode_image(picture, 3, expand_animations=False), tf.float32)
            for picture in examples
        ]
        on_images = saved_model.load_images(paths["saved_model"])
        answers = np.concatenate([on_images(picture[None])["logits"] for picture in decoded])
        name = "saved_model (signature on decoded images)"
        expected = _logits(subject, [subject.prepare(picture) for picture in decoded])
        found[name] = _difference(name, answers, expected)
    return found


def _logits(subject: Subject, pixels: Sequence[tf.Tensor]) -> np.ndarray:
    return subject.model(tf.stack(pixels), training=False)["logits"].numpy()


def _difference(
    name: str, found: np.ndarray, expected: np.ndarray, quantization: str = "none"
) -> float:
    """The largest difference; of logits, because a sure net's probabilities hide differences."""
    difference = float("inf")
    if found.shape == expected.shape:
        largest = max(np.max(np.abs(expected)), np.finfo(np.float32).tiny)
        difference = float(np.max(np.abs(found - expected)) / largest)
    if difference <= _TOLERANCE[quantization]:  # False for NaN, too.
        return difference
    remedy = (
        "Export again, and report it if it stays."
        if quantization == "none"
        else "The quantization costs too much here: try --tflite_quantization=float16 or none."
    )
    raise InputError(
        f"The exported {name} does not give the checkpoint's numbers: logits off by "
        f"{difference:.2g} of the largest, where {_TOLERANCE[quantization]:g} is allowed. "
        "Nothing was exported.",
        remedy=remedy,
    )
