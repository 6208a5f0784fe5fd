"""A frozen graph that computes in bfloat16, by TensorFlow's own rewriter for processors."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.util import deprecation

from foundation.errors import InputError

_PASS = "auto_mixed_precision_onednn_bfloat16"


def converted(graph_def: tf.compat.v1.GraphDef, outputs: Sequence[str]) -> tf.compat.v1.GraphDef:
    """The same graph with convolutions and matrix products, and what lies between, in bfloat16.

    Inputs and outputs stay float32, and so do operations that want it, such as the softmax. Weights
    are stored in bfloat16. Every node keeps its name.

    Raises:
      InputError: the graph has nothing that can be computed in bfloat16, or TensorFlow runs without
        oneDNN.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    # What the rewriter must keep.
    meta.collection_def["train_op"].node_list.value.extend(outputs)
    config = config_pb2.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.optimizers.append(_PASS)
    setattr(rewriting, _PASS, rewriter_config_pb2.RewriterConfig.ON)
    rewriting.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    rewriting.min_graph_nodes = -1  # small graphs, too
    result = tf_optimizer.OptimizeGraph(config, meta)
    # Asking a node for an attribute that it lacks would give it an empty one.
    kinds = {node.attr["T"].type for node in result.node if "T" in node.attr}
    if tf.bfloat16.as_datatype_enum not in kinds:
        raise InputError(
            "TensorFlow finds nothing in this net that it computes in bfloat16 here.",
            option="precision",
            value="bfloat16",
            remedy="Take float32.",
        )
    _cast_constants(result)
    with deprecation.silence():  # no other function does this, and users can't help it
        return tf.compat.v1.graph_util.extract_sub_graph(result, list(outputs))


def _cast_constants(graph_def: tf.compat.v1.GraphDef) -> None:
    """Stores constants that are cast to bfloat16 in bfloat16."""
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        if node.op != "Cast" or node.attr["DstT"].type != tf.bfloat16.as_datatype_enum:
            continue
        source = nodes[node.input[0].split(":")[0]]
        while source.op == "Identity":
            source = nodes[source.input[0].split(":")[0]]
        if source.op != "Const":
            continue
        value = tf.make_ndarray(source.attr["value"].tensor)
        name = node.name
        node.Clear()
        node.name, node.op = name, "Const"
        node.attr["dtype"].type = tf.bfloat16.as_datatype_enum
        value = value.astype(tf.bfloat16.as_numpy_dtype)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.bfloat16))
