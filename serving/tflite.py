"""TensorFlow Lite: the net alone, in one file for phones and small machines."""

import dataclasses
import zipfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from foundation import labels as class_names
from foundation import lines, machine
from foundation.errors import InputError, missing_extra
from serving import tflite_metadata
from serving.frozen_graph import INPUT_NODE, Net


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What numbers a file has.

    Attributes:
      kind: of `serving.options.QUANTIZATIONS`: "none" keeps float32; "float16" halves the weights;
        "dynamic" stores them as int8 and computes the activations in float; "int8" computes in
        int8, the weights of each output channel with a scale of their own.
      calibration: batches of preprocessed images, float32 [N, S, S, C], by which int8 chooses the
        scales of the activations; as many images a batch as the file takes.
      is_uint8: whether the int8 file takes and gives uint8 in place of float32.
    """

    kind: str = "none"
    calibration: Sequence[np.ndarray] = ()
    is_uint8: bool = False


def require() -> None:
    """Raises InputError where the extra `tflite` is not installed, so that a job stops at once."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        raise missing_extra("tflite", "the format tflite") from error


def write(
    path: str,
    function,
    model: keras.Model,
    labels: Sequence[str],
    about: tflite_metadata.About,
    quantization: Quantization | None = None,
) -> None:
    """Converts `frozen_graph.forward`'s function, and adds metadata.

    The class names are the associated file labels.txt: the file is a zip archive, too, whose entry
    holds them, one a line and without numbers, as readers of the metadata take them.

    Args:
      path: the .tflite file to write.
      function: from preprocessed images to logits and probabilities.
      model: the owner of its weights.
      labels: class names in the order of the logits.
      about: what the metadata says.
      quantization: unset: none.

    Raises:
      InputError: the net has an operation that can't be quantized.
    """
    wanted = quantization or Quantization()
    # Only variables that the converter finds by itself become constants of the file.
    owner = tf.Module()
    owner.weights = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    if wanted.kind != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if wanted.kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if wanted.kind == "int8":
        converter.representative_dataset = lambda: ([images] for images in wanted.calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if wanted.is_uint8:
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    try:
        with lines.errors_held_back():
            content = converter.convert()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        if wanted.kind != "int8":
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"this net can't be computed in int8: {reason}",
            option="tflite_quantization",
            value=wanted.kind,
            remedy="Take dynamic or float16.",
        ) from error
    with open(path, "wb") as file:
        file.write(tflite_metadata.added(content, about, len(labels)))
    with zipfile.ZipFile(path, "a") as archive:  # not compressed, which readers refuse
        archive.writestr(class_names.FILE_NAME, "".join(f"{name}\n" for name in labels))


def load(path: str) -> tuple[Net, tuple[int | None, ...]]:
    """A .tflite file as a function.

    Returns:
      the function, and the shape (N, S, S, C) of its images, with None where it is open. Images
      and answers are float32, whatever the file takes and gives.

    Raises:
      InputError: not a TensorFlow Lite file, or not one of export_model.py; or the extra `tflite`
        is not installed.
      OSError: can't be read.
    """
    require()
    from ai_edge_litert import interpreter as litert

    with open(path, "rb") as file:
        content = file.read()
    if not content:
        raise InputError(f"{path} is empty.", remedy="Export again with export_model.py.")
    try:
        with lines.errors_held_back():
            interpreter = litert.Interpreter(
                model_content=content, num_threads=machine.num_processors()
            )
            interpreter.allocate_tensors()  # which says that it takes XNNPACK
            runner = interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: can't be loaded as a TensorFlow Lite model: {error}") from error
    outputs = runner.get_output_details()
    if set(outputs) != {"logits", "probabilities"}:
        raise InputError(f"{path}: other outputs than those of export_model.py.")
    (details,) = runner.get_input_details().values()
    shape = tuple(int(side) if side >= 0 else None for side in details["shape_signature"])

    def run(images):
        answers = runner(**{INPUT_NODE: _quantized(np.asarray(images, np.float32), details)})
        return {name: _dequantized(answers[name], outputs[name]) for name in outputs}

    return run, shape


def _quantized(numbers: np.ndarray, details: dict) -> np.ndarray:
    """Float32 numbers in the type of a tensor of a file."""
    if details["dtype"] == np.float32:
        return numbers
    scale, zero = details["quantization"]
    bounds = np.iinfo(details["dtype"])
    return np.clip(np.round(numbers / scale) + zero, bounds.min, bounds.max).astype(bounds.dtype)


def _dequantized(numbers: np.ndarray, details: dict) -> np.ndarray:
    """The reverse of `_quantized`."""
    if details["dtype"] == np.float32:
        return numbers
    scale, zero = details["quantization"]
    return (np.float32(scale) * (numbers.astype(np.float32) - zero)).astype(np.float32)
