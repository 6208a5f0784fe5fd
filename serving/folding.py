"""Rewrites a GraphDef with its weights so that it gives the same numbers in less time.

Batch norm in inference multiplies each channel by gamma / sqrt(variance + epsilon) and adds
beta - mean * gamma / sqrt(variance + epsilon). The factor goes into the weights of the convolution,
the rest becomes its bias: Conv2D, BiasAdd and Relu are what TensorFlow fuses into one kernel of
oneDNN, whose constant weights it lays out once.

An average over places and a 1 x 1 convolution, which mixes channels, can change places: so the
average is taken of fewer channels. It leaves out what padding adds, so a bias can be before it.
"""

import collections
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import node_def_pb2

_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# Convolution → the axes of its weights that its output channels lie on.
_CHANNEL_AXES = {"Conv2D": (3,), "DepthwiseConv2dNative": (2, 3)}


def rewritten(graph_def: tf.compat.v1.GraphDef, outputs: Collection[str]) -> tf.compat.v1.GraphDef:
    """The part of a graph that its outputs need, after all that this module does to it.

    Every node keeps its name, and the outputs their numbers. The nodes are in the order in which
    they are computed, the outputs last, as OpenCV wants them.
    """
    graph_def = _needed(with_constants(_needed(graph_def, outputs)), outputs)
    return _needed(pooled_late(folded(graph_def, outputs), outputs), outputs)


def _needed(graph_def: tf.compat.v1.GraphDef, outputs: Collection[str]) -> tf.compat.v1.GraphDef:
    """What the outputs need, in order."""
    nodes = {node.name: node for node in graph_def.node}
    result = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    result.node.extend(nodes[name] for name in _in_order(nodes, outputs))
    return result


def with_constants(graph_def: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """The same graph with constants where constants are only reshaped, or read past identities.

    Only of plain constants oneDNN lays out weights once, and OpenCV crashes with a bias that is
    squeezed. The nodes must be in order.
    """
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    constants = {}
    for node in result.node:
        for i, read in enumerate(node.input):
            node.input[i] = constants[read].name if read in constants else read
        if node.op == "Const":
            constants[node.name] = node
        elif node.op == "Identity" and node.input[0] in constants:
            constants[node.name] = constants[node.input[0]]
        elif node.op in _RESHAPES and all(read in constants for read in node.input):
            value = _RESHAPES[node.op](node, *(_value(constants[read]) for read in node.input))
            node.CopyFrom(_constant(node.name, value))
            constants[node.name] = node
    return result


# Operation → what it makes of its inputs.
_RESHAPES = {
    "Reshape": lambda node, value, shape: value.reshape(shape),
    "Squeeze": lambda node, value: value.squeeze(tuple(node.attr["squeeze_dims"].list.i) or None),
}


def folded(
    graph_def: tf.compat.v1.GraphDef, outputs: Collection[str] = ()
) -> tf.compat.v1.GraphDef:
    """The same graph with a bias in the place of each batch norm behind a convolution.

    The BiasAdd has the batch norm's name. A batch norm stays as it is where something else reads
    the convolution too, where that is an output, or where its numbers are no constants.
    """
    graph = _Graph(graph_def)
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    written = {node.name: node for node in result.node}
    for norm in graph_def.node:
        found = graph.foldable(norm)
        if found is None or found[0].name in outputs:
            continue
        convolution, weights, factor, bias = found
        written[weights.name].CopyFrom(_float32(weights.name, _value(weights) * factor))
        offset = graph.source(norm.input[2])
        written[offset.name].CopyFrom(_float32(offset.name, bias))
        written[norm.name].CopyFrom(_bias_add(norm, convolution, offset))
    return result


def pooled_late(
    graph_def: tf.compat.v1.GraphDef, outputs: Collection[str] = ()
) -> tf.compat.v1.GraphDef:
    """The same graph with 1 x 1 convolutions before the average pools that they read.

    That is done where it leaves fewer channels to be averaged: for pools that keep the size and
    convolutions of stride 1 with a bias behind them, none of which is an output.
    """
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    graph = _Graph(result)
    for pool in result.node:
        if pool.op != "AvgPool" or set(pool.attr["strides"].list.i) != {1}:
            continue
        if pool.attr["padding"].s != b"SAME":
            continue
        convolution = graph.only_reader(pool)
        bias = graph.only_reader(convolution)
        if not graph.narrows(convolution) or bias is None or bias.op != "BiasAdd":
            continue
        if {pool.name, convolution.name, bias.name} & set(outputs):
            continue
        for reader in graph.readers(bias):
            for i, read in enumerate(reader.input):
                reader.input[i] = pool.name if read == bias.name else read
        convolution.input[0], pool.input[0] = pool.input[0], bias.name
    return result


class _Graph:
    """Finds the nodes of a GraphDef by what they read and by who reads them."""

    def __init__(self, graph_def: tf.compat.v1.GraphDef):
        self._nodes = {node.name: node for node in graph_def.node}
        self._readers = collections.defaultdict(list)
        for node in graph_def.node:
            for name in set(map(_name, node.input)):
                self._readers[name].append(node)

    def readers(self, node: node_def_pb2.NodeDef) -> list[node_def_pb2.NodeDef]:
        return self._readers[node.name]

    def only_reader(self, node: node_def_pb2.NodeDef | None) -> node_def_pb2.NodeDef | None:
        """What reads a node, where that is one."""
        readers = self.readers(node) if node is not None else []
        return readers[0] if len(readers) == 1 else None

    def narrows(self, node: node_def_pb2.NodeDef | None) -> bool:
        """Whether a node is a 1 x 1 convolution of stride 1 with fewer channels than it reads."""
        if node is None or node.op != "Conv2D" or set(node.attr["strides"].list.i) != {1}:
            return False
        weights = self.source(node.input[1])
        if weights.op != "Const":
            return False
        height, width, read, written = _value(weights).shape
        return height == width == 1 and written < read

    def source(self, read: str) -> node_def_pb2.NodeDef:
        """The node that an input comes from, past identities."""
        node = self._nodes[_name(read)]
        while node.op == "Identity":
            node = self._nodes[_name(node.input[0])]
        return node

    def is_private(self, read: str) -> bool:
        """Whether an input, and what it passes through, is read once only."""
        node = self._nodes[_name(read)]
        while len(self._readers[node.name]) == 1 and node.op == "Identity":
            node = self._nodes[_name(node.input[0])]
        return len(self._readers[node.name]) == 1

    def foldable(self, norm: node_def_pb2.NodeDef):
        """(convolution, weights, factor, bias) of a batch norm that can be folded, else None.

        The factor has the shape of the weights' output channels, the bias is [channels].
        """
        if norm.op not in _NORMS or norm.attr["is_training"].b:
            return None
        if norm.attr["T"].type != tf.float32.as_datatype_enum:
            return None
        if norm.attr["data_format"].s not in (b"", b"NHWC"):
            return None
        convolution = self._nodes[_name(norm.input[0])]
        if convolution.op not in _CHANNEL_AXES or self.only_reader(convolution) is None:
            return None
        weights = self.source(convolution.input[1])
        constants = [self.source(read) for read in norm.input[1:5]]
        if any(node.op != "Const" for node in (weights, *constants)):
            return None
        if not (self.is_private(convolution.input[1]) and self.is_private(norm.input[2])):
            return None
        gamma, beta, mean, variance = (_value(node).astype(np.float64) for node in constants)
        factor = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
        axes = _CHANNEL_AXES[convolution.op]
        shape = [_value(weights).shape[axis] for axis in axes]
        return convolution, weights, factor.reshape(shape), beta - mean * factor


def _in_order(nodes: Mapping[str, node_def_pb2.NodeDef], outputs: Collection[str]) -> Iterator[str]:
    """Names of the nodes that the outputs need, each after those that it reads."""
    done = set()
    waiting = [*reversed(outputs), *(name for name in nodes if nodes[name].op == "Placeholder")]
    while waiting:
        name = waiting[-1]
        missing = [read for read in map(_name, nodes[name].input) if read not in done]
        if missing and name not in done:
            waiting += reversed(missing)
            continue
        waiting.pop()
        if name not in done:
            done.add(name)
            yield name


def _name(read: str) -> str:
    """The node of an input such as `^node` or `node:0`."""
    return read.lstrip("^").split(":")[0]


def _value(constant: node_def_pb2.NodeDef) -> np.ndarray:
    return tf.make_ndarray(constant.attr["value"].tensor)


def _constant(name: str, value: np.ndarray) -> node_def_pb2.NodeDef:
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node


def _float32(name: str, value: np.ndarray) -> node_def_pb2.NodeDef:
    return _constant(name, value.astype(np.float32))


def _bias_add(norm, convolution, offset) -> node_def_pb2.NodeDef:
    node = node_def_pb2.NodeDef(
        name=norm.name, op="BiasAdd", input=[convolution.name, offset.name], device=norm.device
    )
    node.attr["T"].type = tf.float32.as_datatype_enum
    node.attr["data_format"].s = b"NHWC"
    return node
