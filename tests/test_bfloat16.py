import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import bfloat16, layers


def choice(x, kernel=(3, 3), strides=(1, 1), rate=(1, 1), padding="same", groups=1):
    """The name of the way that is chosen for images of `x`'s shape, and the columns it adds."""
    dtype = "float32" if x == "float32" else "bfloat16"
    shape = (None, 60, 60, 4) if x == "float32" else (None, *x, 4)
    gradient = bfloat16.weights_gradient(
        keras.KerasTensor(shape, dtype), kernel, strides, rate, padding, groups
    )
    return gradient and (gradient.func.__name__.strip("_"), gradient.keywords.get("columns", 0))


@pytest.mark.parametrize(
    ("width", "missing"),
    [(31, 1), (32, 0), (60, 0), (61, 3), (62, 2), (90, 0), (91, 5), (122, 6), (128, 0)],
)
def test_blocks_of_columns_that_are_almost_full_are_filled(width, missing):
    expected = ("over_wider_rows", missing) if missing else None
    assert choice((50, width)) == expected
    assert choice((52, width + 2), padding="valid") == expected
    assert choice((50, width), groups=2) == expected


def test_kernels_of_one_pixel_and_small_images_are_multiplied():
    product = ("product_of_patches", 0)
    assert choice((62, 62), kernel=(1, 1)) == product
    assert choice((None, None), kernel=(1, 1)) == product
    assert choice((8, 8)) == product
    assert choice((9, 9)) is None
    assert choice((10, 10), padding="valid") == product
    assert choice((2, 31)) == product
    assert choice((8, 8), groups=2) is None
    assert choice((62, 62), kernel=(1, 1), groups=2) is None


def test_other_convolutions_are_left_alone():
    assert choice((None, None)) is None
    assert choice((62, 62), kernel=(3, 1)) is None
    assert choice((62, 62), strides=(2, 2)) is None
    assert choice((62, 62), kernel=(1, 1), strides=(2, 2)) is None
    assert choice((62, 62), rate=(1, 2)) is None
    assert choice("float32", kernel=(1, 1)) is None


def gradients(layer, x, dtype):
    """The layer's outputs and the gradients of the images and of its weights, all float32."""
    layer = type(layer).from_config(layer.get_config() | {"dtype": dtype})
    layer.build(x.shape)
    for i, variable in enumerate(layer.trainable_variables):
        value = tf.random.stateless_normal(variable.shape, (5, i))
        variable.assign(tf.cast(tf.cast(value, tf.bfloat16), tf.float32))

    @tf.function
    def run():
        images = tf.cast(x, tf.float32 if dtype == "float32" else tf.bfloat16)
        variables = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(images)
            y = layer(images, training=True)
            weight = tf.random.stateless_normal(tf.shape(y), (3, 4))
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * weight)
        return [y, *tape.gradient(loss, [images, *variables])]

    return [tf.cast(result, tf.float32).numpy() for result in run()]


def images(*shape):
    x = tf.random.stateless_normal(shape, (1, 2))
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float32)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (layers.Conv2D(4, 3, padding="same"), images(2, 9, 62, 3)),
        (layers.Conv2D(4, 3), images(2, 12, 64, 3)),
        (layers.Conv2D(4, (2, 4), padding="same"), images(2, 9, 61, 3)),
        (layers.Conv2D(5, 1), images(2, 9, 12, 7)),
        (layers.Conv2D(5, (3, 2), padding="same"), images(3, 5, 6, 7)),
        (layers.Conv2D(5, 3), images(3, 6, 7, 8)),
        (layers.Conv2D(5, (6, 7)), images(3, 6, 7, 8)),
        (layers.DepthwiseConv2D(3, padding="same"), images(2, 8, 9, 16)),
        (layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2), images(2, 8, 9, 16)),
        (layers.DepthwiseConv2D(5, strides=2, padding="same"), images(2, 12, 13, 16)),
        (layers.SeparableConv2D(6, 5, strides=2, padding="same"), images(2, 9, 9, 8)),
        (layers.SeparableConv2D(6, 3, activation="relu"), images(2, 9, 9, 8)),
        (layers.BatchNorm(0.9, 0.001, scale=True), images(3, 4, 5, 24)),
        (layers.BatchNorm(0.9, 0.001, scale=True), images(3, 4, 5, 32)),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, keras.Layer) else str(part.shape),
)
def test_layers_give_what_they_give_in_float32(layer, x):
    found, expected = (gradients(layer, x, dtype) for dtype in ("mixed_bfloat16", "float32"))
    assert len(found) == len(expected) >= 3
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 0.05 * np.abs(other).max()


def operations(layer, x):
    """All operations of a training step of the layer, with the type that each computes in."""

    @functools.partial(tf.function, autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.cast(layer(x, training=True), tf.float32))
        return tape.gradient(loss, [x, *(variable.value for variable in layer.trainable_variables)])

    layer.build(x.shape)
    graph = run.get_concrete_function(tf.cast(x, tf.bfloat16)).graph
    return {
        op.type: tf.as_dtype(kind).name
        for op in graph.get_operations()
        if (kind := op.node_def.attr["T"].type)
    }


def test_what_is_slow_in_bfloat16_is_computed_in_another_way():
    depthwise = functools.partial(layers.DepthwiseConv2D, dtype="mixed_bfloat16")
    batch_norm = functools.partial(layers.BatchNorm, 0.9, 0.001, scale=True, dtype="mixed_bfloat16")
    of_images, of_weights = (
        "DepthwiseConv2dNativeBackpropInput",
        "DepthwiseConv2dNativeBackpropFilter",
    )

    kinds = operations(depthwise(3), images(2, 8, 8, 16))
    assert (kinds[of_images], kinds[of_weights]) == ("bfloat16", "bfloat16")
    kinds = operations(depthwise(3, strides=2), images(2, 8, 8, 16))
    assert (kinds[of_images], kinds[of_weights]) == ("float32", "bfloat16")
    kinds = operations(depthwise(5), images(2, 8, 8, 16))
    assert (kinds[of_images], kinds[of_weights]) == ("bfloat16", "float32")
    assert operations(batch_norm(), images(2, 8, 8, 16))["FusedBatchNormGradV3"] == "bfloat16"
    assert operations(batch_norm(), images(2, 8, 8, 24))["FusedBatchNormGradV3"] == "float32"
    pointwise = operations(layers.Conv2D(4, 1, dtype="mixed_bfloat16"), images(2, 8, 8, 16))
    assert pointwise["MatMul"] == "bfloat16"
    assert "Conv2DBackpropFilter" not in pointwise
