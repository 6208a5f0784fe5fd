"""The frozen graph: one GraphDef with its weights, under TF-Slim's node names."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import message, text_format
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.framework import convert_to_constants

from foundation.errors import InputError
from serving import bfloat16, folding, freezing

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
    images = tf.TensorSpec(shape, tf.float32, name=INPUT_NODE)

    @tf.function(input_signature=[images], autograph=False)
    def run(images):
        logits = tf.cast(model(images, training=False)["logits"], tf.float32)
        return {
            "logits": tf.identity(logits, name=nodes.logits),
            "probabilities": tf.identity(tf.nn.softmax(logits), name=nodes.probabilities),
        }

    return run


def constant_graph(
    function, outputs: Sequence[str], precision: str = "float32"
) -> tf.compat.v1.GraphDef:
    """The GraphDef of a tf.function, weights included, as fast as TensorFlow runs it.

    `folding` says how that differs from what the function is written as.

    Args:
      function: with one signature.
      outputs: the nodes that are wanted; with them stay those that they need.
      precision: of `serving.options.PRECISIONS`.
    """
    # convert_variables_to_constants_v2 would also make a function of the result, which costs VGG-16
    # 20 seconds and 4 GiB.
    variables = convert_to_constants._FunctionConverterDataInEager(
        func=function.get_concrete_function(), lower_control_flow=True, aggressive_inlining=False
    )
    graph_def, _ = convert_to_constants._replace_variables_by_constants(variables)
    missing = set(outputs) - {node.name for node in graph_def.node}
    if missing:
        raise ValueError(f"The frozen graph lacks the nodes {sorted(missing)}.")
    graph_def = folding.rewritten(graph_def, outputs)
    return graph_def if precision == "float32" else bfloat16.converted(graph_def, outputs)


def constant_function(
    function, outputs: Sequence[str], precision: str = "float32"
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A tf.function of one tensor with its weights as constants, to be called inside another.

    Constant weights are laid out for oneDNN once; those of variables at every call.

    Args:
      function: with one signature; its outputs are nodes of these names.
      outputs: the nodes that are wanted.
      precision: of `serving.options.PRECISIONS`.
    """
    graph_def = constant_graph(function, outputs, precision)
    (taken,) = (node.name for node in graph_def.node if node.op == "Placeholder")

    def run(images):
        reads = [f"{name}:0" for name in outputs]
        found = tf.graph_util.import_graph_def(graph_def, {taken: images}, reads, name="")
        return dict(zip(outputs, found, strict=True))

    return run


def write(path: str, function, nodes: Nodes, precision: str = "float32") -> None:
    """Writes the frozen GraphDef of `forward`'s function to `path`.

    Raises:
      InputError: the graph passes 2 GiB.
      OSError: `path` can't be written.
    """
    graph_def = constant_graph(function, [nodes.logits, nodes.probabilities], precision)
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


def load(path: str, nodes: Nodes) -> tuple[Net, tuple[int | None, ...]]:
    """A frozen graph as a function.

    Args:
      path: a binary GraphDef with a placeholder `input`.
      nodes: its outputs.

    Returns:
      the function, and the shape (N, S, S, C) of its images, with None where it is open; () where
      the graph says none.

    Raises:
      InputError: no frozen graph, or without those nodes.
      OSError: can't be read.
    """
    graph_def = _read(path)
    names = {node.name for node in graph_def.node}
    for name in (INPUT_NODE, nodes.logits, nodes.probabilities):
        if name not in names:
            raise InputError(f"{path}: no node {name!r}; {_ends(graph_def)}.")
    fetches = {"logits": f"{nodes.logits}:0", "probabilities": f"{nodes.probabilities}:0"}
    return _function(path, graph_def, f"{INPUT_NODE}:0", fetches)


def load_foreign(
    path: str, input_layer: str | None = None, output_layer: str | None = None
) -> tuple[Net, tuple[int | None, ...]]:
    """A frozen graph of any origin, such as TF-Slim's and TensorFlow's own, as a function.

    Args:
      path: a binary GraphDef.
      input_layer: the node that takes images, float32 [N, H, W, C]; unset: its only placeholder.
      output_layer: the node that gives a number for each class; unset: the last node. Both may
        begin with "import/" and end in ":0", as TensorFlow's label_image writes them.

    Returns:
      the function, which gives "logits" and "probabilities", float32 [N, num_classes]: what the
      node gives is taken for probabilities where it has none below 0 and sums to 1. Of
      probabilities the logits are logarithms. And the shape of the input, with None where it is
      open; () where the graph says none.

    Raises:
      InputError: no frozen graph, one with variables, or without those nodes. The function raises
        it where the output has another shape.
      OSError: can't be read.
    """
    graph_def = _read(path)
    feed, output = _foreign_ends(graph_def, path, input_layer, output_layer)
    run, shape = _function(path, graph_def, feed, {"output": output})

    def net(images):
        found = np.asarray(run(images)["output"], np.float32)
        rows = found.reshape(-1, found.shape[-1] if found.ndim else 1)
        if len(rows) != len(images):
            raise InputError(
                f"{output} of {path} gives {list(found.shape)}, not a number for each class.",
                option="output_layer",
            )
        return answers(rows)

    return net, shape


def _foreign_ends(
    graph_def: tf.compat.v1.GraphDef, path: str, input_layer: str | None, output_layer: str | None
) -> tuple[str, str]:
    """The tensors that take images and give the classes; arguments as of `load_foreign`."""
    if any(node.op in freezing.VARIABLES for node in graph_def.node):
        raise InputError(
            f"{path} is a graph without weights.",
            remedy="Freeze it with its checkpoint: export_model.py --freeze_graph=GRAPH "
            "--checkpoint_path=CHECKPOINT --output_file=X.pb.",
        )
    placeholders = [node.name for node in graph_def.node if node.op == "Placeholder"]
    if input_layer is None and len(placeholders) != 1:
        raise InputError(
            f"{path} has {len(placeholders)} placeholders: {', '.join(placeholders)}.",
            option="input_layer",
            remedy="Say which one takes the images.",
        )
    asked = {
        "input_layer": input_layer or placeholders[0],
        "output_layer": output_layer or graph_def.node[-1].name,
    }
    found = _named(graph_def, path, asked)
    return f"{found['input_layer']}:0", f"{found['output_layer']}:0"


def named_nodes(path: str, asked: Mapping[str, str]) -> dict[str, str]:
    """Option → node of a frozen graph, from what options call it, as of `load_foreign`.

    Raises:
      InputError: no frozen graph, or one without those nodes.
      OSError: can't be read.
    """
    return _named(_read(path), path, asked)


def _named(graph_def: tf.compat.v1.GraphDef, path: str, asked: Mapping[str, str]) -> dict[str, str]:
    nodes, found = {node.name for node in graph_def.node}, {}
    for option, name in asked.items():
        found[option] = name.removesuffix(":0")
        if found[option] not in nodes:
            found[option] = found[option].removeprefix("import/")
        if found[option] not in nodes:
            raise InputError(
                f"{path} has no such node; {_ends(graph_def)}.", option=option, value=name
            )
    return found


def answers(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Logits and probabilities of what may be either, float32 [N, num_classes].

    Rows that have no number below 0 and sum to 1 are probabilities, whose logarithms are logits.
    """
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        return {
            "logits": np.log(np.maximum(rows, np.finfo(np.float32).tiny)),
            "probabilities": rows,
        }
    return {"logits": rows, "probabilities": softmax(rows)}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, float [N, num_classes] both."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _function(
    path: str, graph_def: tf.compat.v1.GraphDef, feed: str, fetches: Mapping[str, str]
) -> tuple[Net, tuple[int | None, ...]]:
    """A graph as a function of one tensor, and that tensor's shape; () where it is unknown."""
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except ValueError as error:
        raise InputError(f"{path}: TensorFlow can't import this graph: {error}") from error
    config = tf.compat.v1.ConfigProto()
    # Of what TensorFlow rewrites only the fusing of convolution, bias and activation pays; the
    # rest copies the weights several times.
    config.graph_options.rewrite_options.optimizers.append("remap")
    config.graph_options.rewrite_options.meta_optimizer_iterations = (
        rewriter_config_pb2.RewriterConfig.ONE
    )
    config.gpu_options.allow_growth = True
    session = tf.compat.v1.Session(graph=graph, config=config)

    def run(images):
        return session.run(dict(fetches), {feed: images})

    shape = graph.get_tensor_by_name(feed).shape
    return run, tuple(shape) if shape.rank else ()


def _ends(graph_def: tf.compat.v1.GraphDef) -> str:
    """The first and the last node, for a message: inputs and outputs of most graphs."""
    nodes = graph_def.node
    return f"its {len(nodes)} nodes go from {nodes[0].name!r} to {nodes[-1].name!r}"


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
