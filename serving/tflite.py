"""TensorFlow Lite: the net alone, in one file for phones and small machines."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from serving.frozen_graph import INPUT_NODE, Net


def write(path: str, function, model: keras.Model, quantization: str = "none") -> None:
    """Converts `frozen_graph.forward`'s function.

    Args:
      path: the .tflite file to write.
      function: from preprocessed images to logits and probabilities.
      model: the owner of its weights.
      quantization: of `serving.options.QUANTIZATIONS`: "none" keeps float32; "float16" halves the
        weights; "dynamic" stores them as int8 and computes the activations in float.
    """
    # Only variables that the converter finds by itself become constants of the file.
    owner = tf.Module()
    owner.weights = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    if quantization != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = converter.convert()
    with open(path, "wb") as file:
        file.write(content)


def load(path: str) -> tuple[Net, int | None]:
    """A .tflite file as a function.

    Returns:
      the function, and N where it is fixed, else None.

    Raises:
      InputError: not a TensorFlow Lite file, or not one of export_model.py.
      OSError: can't be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        with warnings.catch_warnings():
            # tf.lite.Interpreter moves to the package ai_edge_litert; until then it works here.
            warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated")
            interpreter = tf.lite.Interpreter(model_content=content)
        runner = interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: can't be loaded as a TensorFlow Lite model: {error}") from error
    if set(runner.get_output_details()) != {"logits", "probabilities"}:
        raise InputError(f"{path}: other outputs than those of export_model.py.")
    (details,) = runner.get_input_details().values()
    batch_size = int(details["shape_signature"][0])

    def run(images):
        return runner(**{INPUT_NODE: np.asarray(images, np.float32)})

    return run, None if batch_size < 0 else batch_size
