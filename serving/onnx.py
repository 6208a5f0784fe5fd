"""ONNX: the net alone, for the runtimes that read this exchange format."""

import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from foundation.errors import InputError, missing_extra
from serving import frozen_graph
from serving.frozen_graph import INPUT_NODE, Net

_OPSET = 17
_LEAST_WEIGHTS = 1024  # values of a constant that is kept away from tf2onnx


def require() -> None:
    """Raises InputError where the extra `onnx` is not installed, so that a job stops at once."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise missing_extra("onnx", "the format onnx") from error


def write(path: str, function, calibration: Sequence[np.ndarray] | None = None) -> None:
    """Converts `frozen_graph.forward`'s function; writes the .onnx file `path`.

    Args:
      path: the file.
      function: from preprocessed images to logits and probabilities; its N stays open where it is.
      calibration: batches of preprocessed images, float32 [N, S, S, C], by which ONNX Runtime's
        quantizer chooses the scales of activations: then the file computes in int8, the weights of
        each output channel with a scale of their own. None keeps float32.

    Raises:
      InputError: the extra `onnx` is not installed.
      onnx.checker.ValidationError: ONNX's checker refuses the file.
    """
    require()
    import onnx
    import tf2onnx

    concrete = function.get_concrete_function()
    outputs = tf.nest.pack_sequence_as(concrete.structured_outputs, concrete.outputs)
    # Past the identities that end a function: they wait for every variable.
    names = {tensor.op.inputs[0].name: name for name, tensor in outputs.items()}
    # The graph rather than the function, of which tf2onnx takes captured tensors for inputs.
    graph_def = frozen_graph.constant_graph(function, [name.removesuffix(":0") for name in names])
    weights = _taken_out(graph_def)
    inputs = {f"{name}:0": name for name in (INPUT_NODE, *weights)}
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def,
        input_names=list(inputs),
        output_names=list(names),
        opset=_OPSET,
        tensors_to_rename={**inputs, **names},
    )
    _put_back(model.graph, weights)
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
    del model
    if calibration is not None:
        _quantize(path, calibration)
    onnx.checker.check_model(path, full_check=True)


def _taken_out(graph_def) -> dict[str, np.ndarray]:
    """Takes the weights out of a graph, and leaves inputs in their place.

    Each of tf2onnx's two dozen passes keeps a copy of every constant: VGG's would need more than
    20 GiB.
    """
    weights = {}
    for node in graph_def.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.size >= _LEAST_WEIGHTS:
                weights[node.name] = value
                node.op = "Placeholder"
                node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
                del node.attr["value"]
    return weights


def _put_back(graph, weights: dict[str, np.ndarray]) -> None:
    """Makes constants of the inputs that `_taken_out` left, and of what only lays them out anew."""
    from onnx import numpy_helper, reference

    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for given in list(graph.input):
        if given.name in weights:
            graph.input.remove(given)
    for node in list(graph.node):
        if node.op_type in ("Transpose", "Reshape") and node.input[0] in weights:
            feed = {name: weights.get(name, known.get(name)) for name in node.input}
            (weights[node.output[0]],) = reference.ReferenceEvaluator(node).run(None, feed)
            graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items() if name in used
    )


def _quantize(path: str, calibration: Sequence[np.ndarray]) -> None:
    """Turns the file into one that computes in int8."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    images = _Calibration(_session(path).get_inputs()[0].name, calibration)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path) or ".") as folder:
        folded = os.path.join(folder, "folded.onnx")
        shape_inference.quant_pre_process(path, folded, skip_symbolic_shape=True)
        # In 256 steps probabilities would not sum to one.
        softmax = [node.name for node in onnx.load(folded).graph.node if node.op_type == "Softmax"]
        quantization.quantize_static(
            folded,
            path,
            images,
            nodes_to_exclude=softmax,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


class _Calibration:
    """What ONNX Runtime's quantizer calls a CalibrationDataReader."""

    def __init__(self, name: str, batches: Sequence[np.ndarray]):
        self._feeds = ({name: images} for images in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _session(content: str | bytes):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it leaves out of a graph is no warning for users
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def load(path: str) -> tuple[Net, tuple[int | None, ...]]:
    """An .onnx file as a function.

    Returns:
      the function, and the shape (N, S, S, C) of its images, with None where it is open.

    Raises:
      InputError: the extra `onnx` is not installed; this is no ONNX file, or not one of
        export_model.py.
      OSError: can't be read.
    """
    require()
    with open(path, "rb") as file:
        content = file.read()
    try:
        session = _session(content)
    except Exception as error:  # onnxruntime's errors have no public base class of their own.
        raise InputError(f"{path}: can't be loaded as an ONNX model: {error}") from error
    names = [output.name for output in session.get_outputs()]
    if set(names) != {"logits", "probabilities"}:
        raise InputError(f"{path}: other outputs than those of export_model.py.")
    (images_input,) = session.get_inputs()
    shape = tuple(side if isinstance(side, int) else None for side in images_input.shape)

    def run(images):
        feed = {images_input.name: np.asarray(images, np.float32)}
        return dict(zip(names, session.run(names, feed), strict=True))

    return run, shape
