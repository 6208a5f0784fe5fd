"""Exported models that are taken for checkpoints; known without TensorFlow."""

import os

from foundation.errors import InputError

_KINDS = {  # by the end of a file's name
    "saved_model.pb": "the graph of a SavedModel",
    ".pb": "a frozen graph",
    ".pbtxt": "a graph as text",
    ".tflite": "a TFLite model",
    ".onnx": "an ONNX model",
}
_INSTEAD = (
    "Training and export start from what it was made of: a training folder or a checkpoint "
    "(model.ckpt-N). The folder that export_model.py wrote names pictures: "
    "classify_image.py --model=FOLDER; and eval_image_classifier.py --model=FOLDER evaluates it."
)


def refuse_file(path: str) -> None:
    """Raises InputError for a graph or a converted model."""
    kinds = (kind for ending, kind in _KINDS.items() if path.endswith(ending))
    if os.path.isfile(path) and (kind := next(kinds, None)):
        raise InputError(f"{path} is {kind}, not a checkpoint.", remedy=_INSTEAD)


def refuse_folder(path: str) -> None:
    """Raises InputError for a folder that an export wrote."""
    if any(os.path.isfile(os.path.join(path, name)) for name in ("export.json", "saved_model.pb")):
        raise InputError(f"{path} is an exported model, not a checkpoint.", remedy=_INSTEAD)
