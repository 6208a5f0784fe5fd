"""Batch norm folded into convolutions, in graphs of TensorFlow 1 as TF-Slim wrote them."""

import numpy as np
import pytest
import tensorflow as tf

from serving import folding

v1 = tf.compat.v1
CHANNELS = 4


def convolution(x, kind, random):
    if kind == "Conv2D":
        weights = tf.constant(random.normal(size=(3, 3, 3, CHANNELS)), tf.float32)
        return tf.nn.conv2d(x, weights, 1, "SAME", name="conv")
    weights = tf.constant(random.normal(size=(3, 3, 3, 2)), tf.float32)
    return tf.nn.depthwise_conv2d(x, weights, [1, 1, 1, 1], "SAME", name="conv")


def graph_of(kind="Conv2D", is_read_twice=False, is_training=False):
    """A convolution, a batch norm and a ReLU; identities between as TF-Slim's variables have."""
    random = np.random.default_rng(0)
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], "input")
        y = convolution(x, kind, random)
        moments = [
            tf.identity(tf.constant(random.uniform(0.5, 2, y.shape[-1]), tf.float32))
            for _ in range(4)
        ]
        norm, *_ = v1.nn.fused_batch_norm(
            y, *moments, epsilon=0.01, is_training=is_training, name="norm"
        )
        out = tf.nn.relu(norm, name="relu")
        out = tf.add(out, y, name="output") if is_read_twice else tf.identity(out, "output")
    return graph.as_graph_def()


def answer(graph_def):
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        with v1.Session(graph=graph) as session:
            return session.run("output:0", {"input:0": images})


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2dNative"])
def test_the_numbers_stay_and_so_do_the_names(kind):
    before = graph_of(kind)
    after = folding.folded(before)
    np.testing.assert_allclose(answer(after), answer(before), rtol=1e-4, atol=1e-5)
    ops = {node.name: node.op for node in after.node}
    assert ops.keys() == {node.name for node in before.node}
    assert not any(op.startswith("FusedBatchNorm") for op in ops.values())
    assert "BiasAdd" in ops.values() and kind in ops.values()


@pytest.mark.parametrize("how", [{"is_read_twice": True}, {"is_training": True}])
def test_what_else_reads_the_convolution_keeps_its_numbers(how):
    before = graph_of(**how)
    after = folding.folded(before)
    assert any(node.op.startswith("FusedBatchNorm") for node in after.node)
    np.testing.assert_array_equal(answer(after), answer(before))


def test_constants_are_read_past_identities():
    after = folding.with_constants(graph_of(is_training=True))
    ops = {node.name: node.op for node in after.node}
    norm = next(node for node in after.node if node.op.startswith("FusedBatchNorm"))
    assert [ops[read] for read in norm.input[1:]] == ["Const"] * 4


def test_a_bias_that_keras_reshapes_becomes_a_constant():
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], "input")
        bias = tf.reshape(tf.identity(tf.constant([1.0, 2, 3])), [1, 1, 1, 3])
        tf.nn.bias_add(x, tf.squeeze(bias), name="output")
    before = graph.as_graph_def()
    after = folding.rewritten(before, ["output"])
    assert [node.op for node in after.node] == ["Placeholder", "Const", "BiasAdd"]
    np.testing.assert_array_equal(answer(after), answer(before))


@pytest.mark.parametrize("filters, moves", [(2, True), (5, False)])
def test_an_average_is_taken_of_the_fewer_channels(filters, moves):
    random = np.random.default_rng(0)
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], "input")
        pool = tf.nn.avg_pool2d(x, 3, 1, "SAME", name="pool")
        weights = tf.constant(random.normal(size=(1, 1, 3, filters)), tf.float32)
        y = tf.nn.conv2d(pool, weights, 1, "SAME", name="conv")
        y = tf.nn.bias_add(y, tf.constant(random.normal(size=filters), tf.float32), name="bias")
        tf.nn.relu(y, name="output")
    before = graph.as_graph_def()
    after = folding.pooled_late(before)
    reads = {node.name: list(node.input) for node in after.node}
    assert reads["output"] == (["pool"] if moves else ["bias"])
    assert reads["pool"] == (["bias"] if moves else ["input"])
    np.testing.assert_allclose(answer(after), answer(before), rtol=1e-4, atol=1e-5)


def test_outputs_keep_their_numbers():
    before = graph_of()
    assert any(
        node.op.startswith("FusedBatchNorm") for node in folding.folded(before, ["conv"]).node
    )
    names = {node.name for node in folding.rewritten(before, ["output"]).node}
    assert {"input", "conv", "norm", "output"} <= names


def test_nodes_are_in_the_order_in_which_they_are_computed():
    before = graph_of()
    mixed = v1.GraphDef(versions=before.versions)
    mixed.node.extend(reversed(before.node))
    after = folding.rewritten(mixed, ["output"])
    places = {node.name: i for i, node in enumerate(after.node)}
    for node in after.node:
        assert all(places[read.split(":")[0]] < places[node.name] for read in node.input)
    assert (after.node[0].name, after.node[-1].name) == ("input", "output")
    np.testing.assert_allclose(answer(after), answer(before), rtol=1e-4, atol=1e-5)
