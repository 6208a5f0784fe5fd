"""The frozen graph: one GraphDef with its weights, under TF-Slim's node names."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import message, text_format
from tensorflow.python.framework import convert_to_constants

from foundation.errors import InputError

INPUT_NODE = "input"
# For nets whose TF-Slim graph ends with the logits: AlexNet, OverFeat, VGG.
PROBABILITIES_NODE = "probabilities"
# An exported net: float32 [N, S, S, C] → {"logits", "probabilities"}, float32 [N, num_classes].
Net = Callable[[np.ndarray], dict[str, np.ndarray]]
# Longer constants are left out of the graph's text, which is for reading.
_LONGEST_CONSTANT_IN_TEXT = 256


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Names of the graph's two outputs, float32 [N, num_classes] each."""

    logits: str
    probabilities: str = PROBABILITIES_NODE


def forward(model: keras.Model, nodes: Nodes, batch_size: int | None = None):
    """The function that the frozen graph, TFLite and ONNX are made from.

    Args:
      model: takes float32 [N, S, S, C] preprocessed images, gives a dict with "logits".
      nodes: what the outputs are called.
      batch_size: fixes N; None leaves it open.

    Returns:
      a tf.function with one signature, from `input` to {"logits", "probabilities"}.
    """
    shape = (batch_size, *model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT_NODE)])
    def run(images):
        logits = tf.cast(model(images, training=False)["logits"], tf.float32)
        return {
            "logits": tf.identity(logits, name=nodes.logits),
            "probabilities": tf.identity(tf.nn.softmax(logits), name=nodes.probabilities),
        }

    return run


def write(path: str, function, nodes: Nodes) -> None:
    """Writes the frozen GraphDef of `forward`'s function to `path`.

    Raises:
      InputError: the graph passes 2 GiB.
      OSError: `path` can't be written.
    """
    # convert_variables_to_constants_v2 would also make a function of the result, which costs VGG-16
    # 20 seconds and 4 GiB.
    variables = convert_to_constants._FunctionConverterDataInEager(
        func=function.get_concrete_function(), lower_control_flow=True, aggressive_inlining=False
    )
    graph_def, _ = convert_to_constants._replace_variables_by_constants(variables)
    outputs = [nodes.logits, nodes.probabilities]
    missing = {INPUT_NODE, *outputs} - {node.name for node in graph_def.node}
    if missing:
        raise ValueError(f"The frozen graph lacks the nodes {sorted(missing)}.")
    # Drops the nodes that only served the function: its nameless return values.
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(graph_def, outputs)
    try:
        content = graph_def.SerializeToString()
    except (ValueError, message.EncodeError) as error:
        raise InputError(f"{path}: a GraphDef can't hold more than 2 GiB ({error}).") from error
    with open(path, "wb") as file:
        file.write(content)


def write_text(path: str, frozen_graph_path: str) -> None:
    """Writes a frozen graph as text to `path`, for reading: without its weights."""
    graph_def = _read(frozen_graph_path)
    for node in graph_def.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is not None and len(tensor.tensor_content) > _LONGEST_CONSTANT_IN_TEXT:
            tensor.ClearField("tensor_content")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text_format.MessageToString(graph_def))


def load(path: str, nodes: Nodes) -> tuple[Net, int | None]:
    """A frozen graph as a function.

    Args:
      path: a binary GraphDef with a placeholder `input`.
      nodes: its outputs.

    Returns:
      the function, and N where it is fixed, else None.

    Raises:
      InputError: no frozen graph, or without those nodes.
      OSError: can't be read.
    """
    graph_def = _read(path)
    names = [node.name for node in graph_def.node]
    for name in (INPUT_NODE, nodes.logits, nodes.probabilities):
        if name not in names:
            raise InputError(
                f"{path}: no node {name!r} in this graph of {len(names)}, from {names[0]!r} to "
                f"{names[-1]!r}."
            )
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except ValueError as error:
        raise InputError(f"{path}: TensorFlow can't import this graph: {error}") from error
    config = tf.compat.v1.ConfigProto()
    # Rewriting the graph costs several copies of the weights and gains too little: without it
    # VGG-16 gives its first answer after 9 seconds and 3.8 GiB, with it after 52 and 10.4.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.gpu_options.allow_growth = True
    session = tf.compat.v1.Session(graph=graph, config=config)
    fetches = {"logits": f"{nodes.logits}:0", "probabilities": f"{nodes.probabilities}:0"}

    def run(images):
        return session.run(fetches, {f"{INPUT_NODE}:0": images})

    shape = graph.get_tensor_by_name(f"{INPUT_NODE}:0").shape
    return run, shape[0] if shape.rank else None


def _read(path: str) -> tf.compat.v1.GraphDef:
    graph_def = tf.compat.v1.GraphDef()
    with open(path, "rb") as file:
        content = file.read()
    try:
        graph_def.ParseFromString(content)
        if not graph_def.node:
            raise ValueError("no nodes")
    except (message.DecodeError, ValueError) as error:
        raise InputError(f"{path} is no frozen graph (a binary GraphDef), or damaged.") from error
    return graph_def
