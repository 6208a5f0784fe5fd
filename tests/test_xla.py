"""What stands for TensorFlow's own operations in compiled steps gives the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import blocks, xla


def values_and_gradients(function, *inputs, jit_compile=True):
    @tf.function(jit_compile=jit_compile, autograph=False)
    def compiled(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
            # Another factor for each element.
            loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 2 * tf.cast(weights_like(y), tf.float32))
        return y, tape.gradient(loss, inputs)

    return [part.numpy() for part in tf.nest.flatten(compiled(*inputs))]


def weights_like(y):
    count = y.shape.num_elements()
    return tf.reshape(tf.range(count, dtype=tf.float32) % 7 + 1, y.shape)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("window", "strides"), [((3, 3), (2, 2)), ((2, 2), (2, 2)), ((3, 3), (1, 1)), ((1, 1), (2, 2))]
)
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
def test_max_pool(size, window, strides, padding):
    # Whole numbers, so that many windows hold their maximum twice.
    x = np.random.default_rng(0).integers(0, 5, (2, *size, 3)).astype(np.float32)
    expected = values_and_gradients(
        lambda x: tf.nn.max_pool2d(x, window, strides, padding.upper()),
        tf.constant(x),
        jit_compile=False,  # XLA's own gives the gradient to another of them
    )
    found = values_and_gradients(
        lambda x: xla.max_pool(x, window, strides, padding), tf.constant(x)
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [(7, 7), (3, 3), (2, 2), (5, 3)])
@pytest.mark.parametrize("size", [(16, 15), (11, 14)])
def test_convolution_of_few_channels(size, kernel, padding):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, *size, 3)).astype(np.float32))
    weights = tf.constant(rng.normal(size=(*kernel, 3, 4)).astype(np.float32))
    expected = values_and_gradients(
        lambda x, weights: tf.nn.conv2d(x, weights, 2, padding.upper()), x, weights
    )
    found = values_and_gradients(
        lambda x, weights: xla.conv_of_few_channels(x, weights, padding), x, weights
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_nets_take_them_only_where_they_are_compiled():
    settings = blocks.Blocks(blocks.truncated_normal(0.1))
    inputs = blocks.images(16, 3)
    x = settings.max_pool(settings.conv(inputs, 4, 3, "Net/Conv", stride=2), 3, "Net/Pool")
    net = keras.Model(inputs, x)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(images):
        with xla.compiling():
            return net(images, training=True)

    np.testing.assert_allclose(compiled(images), net(images, training=True), rtol=1e-4, atol=1e-6)
    operations = {op.type for op in compiled.get_concrete_function(images).graph.get_operations()}
    assert "XlaOptimizationBarrier" in operations and "MaxPool" not in operations
