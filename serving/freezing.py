"""Freezes a graph of TF-Slim's with a checkpoint, as TensorFlow's freeze_graph.py did."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message, text_format
from tensorflow.core.framework import node_def_pb2
from tensorflow.python.util import deprecation

from foundation.errors import InputError
from nets import checkpoints
from serving import folding

VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


def read(path: str) -> tf.compat.v1.GraphDef:
    """A GraphDef, binary or as text.

    Raises:
      InputError: neither.
      OSError: can't be read.
    """
    graph_def = tf.compat.v1.GraphDef()
    with open(path, "rb") as file:
        content = file.read()
    try:
        graph_def.ParseFromString(content)
    except message.DecodeError:
        try:
            text_format.Parse(content.decode(), graph_def)
        except (UnicodeDecodeError, text_format.ParseError):
            graph_def.Clear()
    if not graph_def.node:
        raise InputError(f"{path} is no graph (a GraphDef, binary or as text), or damaged.")
    return graph_def


def frozen(
    graph_def: tf.compat.v1.GraphDef,
    path: str,
    reader: checkpoints.Reader | checkpoints.Values,
    output_nodes: Sequence[str] = (),
    uses_averages: bool = False,
) -> tf.compat.v1.GraphDef:
    """The part of a graph that its outputs need, with constants for variables.

    Every node keeps its name; batch norm is folded into convolutions (`folding`).

    Args:
      graph_def: with variables of either kind of TensorFlow 1.
      path: where it is from, for messages.
      reader: of the checkpoint, which has the variables by their names in the graph.
      output_nodes: unset: the last node that no other reads.
      uses_averages: takes the moving averages of the variables that have some.

    Raises:
      InputError: no such output; no variable; one that the checkpoint lacks or has in another
        shape.
    """
    needed, outputs = _needed(graph_def, path, output_nodes)
    constants = set()
    for node in needed.node:
        node.device = ""  # of the machine that it was made for
        if node.op in VARIABLES:
            node.CopyFrom(_constant(node, reader, uses_averages))
            constants.add(node.name)
        elif node.op == "ReadVariableOp" and node.input[0] in constants:
            dtype = node.attr["dtype"].type
            del node.input[1:]
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
    if not constants:
        raise InputError(
            f"{path} has no variables before {', '.join(outputs)}: it is frozen already, and the "
            "checkpoint has no place in it.",
            option="freeze_graph",
            remedy="Name a graph as export_inference_graph.py wrote it.",
        )
    return folding.rewritten(needed, outputs)


def answers(
    graph_def: tf.compat.v1.GraphDef,
    path: str,
    reader: checkpoints.Reader | checkpoints.Values,
    ends: tuple[str, str],
    images: np.ndarray,
    uses_averages: bool = False,
) -> np.ndarray:
    """What a graph gives as it was written: the checkpoint's values are assigned to its variables.

    Args:
      graph_def, path, reader, uses_averages: as of `frozen`.
      ends: names of the node that takes images and of the one whose output is wanted.
      images: float32 [N, H, W, C].
    """
    taken, output = ends
    needed, _ = _needed(graph_def, path, [output])
    v1 = tf.compat.v1
    config = v1.ConfigProto(allow_soft_placement=True)  # devices are of another machine
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=config) as session:
        tf.graph_util.import_graph_def(needed, name="")
        for node in needed.node:
            if node.op in VARIABLES:
                variable = graph.get_tensor_by_name(f"{node.name}:0")
                value = _value(node, reader, uses_averages)
                fed = v1.placeholder(value.dtype, value.shape)
                if node.op == "VarHandleOp":
                    assigned = tf.raw_ops.AssignVariableOp(resource=variable, value=fed)
                else:
                    assigned = tf.raw_ops.Assign(ref=variable, value=fed)
                session.run(assigned, {fed: value})
        return session.run(f"{output}:0", {f"{taken}:0": images})


def _needed(
    graph_def: tf.compat.v1.GraphDef, path: str, output_nodes: Sequence[str]
) -> tuple[tf.compat.v1.GraphDef, list[str]]:
    """The part of a graph that its outputs need, and their names; arguments as of `frozen`."""
    names = {node.name for node in graph_def.node}
    outputs = list(output_nodes) or [_last_unread(graph_def)]
    for name in outputs:
        if name not in names:
            raise InputError(
                f"{path} has no such node; its {len(names)} nodes go from "
                f"{graph_def.node[0].name!r} to {graph_def.node[-1].name!r}.",
                option="output_node_names",
                value=name,
            )
    with deprecation.silence():  # no other function does this, and users can't help it
        return tf.compat.v1.graph_util.extract_sub_graph(graph_def, outputs), outputs


def _last_unread(graph_def: tf.compat.v1.GraphDef) -> str:
    read = {name.lstrip("^").split(":")[0] for node in graph_def.node for name in node.input}
    return next(node.name for node in reversed(graph_def.node) if node.name not in read)


def _constant(
    node: node_def_pb2.NodeDef,
    reader: checkpoints.Reader | checkpoints.Values,
    uses_averages: bool,
) -> node_def_pb2.NodeDef:
    """A variable's value as a node of the variable's name."""
    value = _value(node, reader, uses_averages)
    constant = node_def_pb2.NodeDef(name=node.name, op="Const")
    constant.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return constant


def _value(
    node: node_def_pb2.NodeDef,
    reader: checkpoints.Reader | checkpoints.Values,
    uses_averages: bool,
) -> np.ndarray:
    """A variable's value in the checkpoint."""
    name = node.attr["shared_name"].s.decode() or node.name
    name = name if name in reader.shapes else node.name
    if uses_averages and name + checkpoints.AVERAGE in reader.shapes:
        name += checkpoints.AVERAGE
    wanted = tf.TensorShape(node.attr["shape"].shape)
    if name not in reader.shapes:
        raise InputError(
            f"{reader.path} lacks the graph's variable {name}.",
            remedy="Give the checkpoint of the net that the graph is of.",
        )
    if not wanted.is_compatible_with(reader.shapes[name]):
        raise InputError(
            f"{reader.path} has {name} as {list(reader.shapes[name])}, the graph as {wanted}.",
            remedy="Give the checkpoint of the net that the graph is of, of as many classes.",
        )
    return reader.get(name)
