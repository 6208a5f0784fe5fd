import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import blocks, onednn


def columns(width, kernel=(3, 3), strides=(1, 1), rate=(1, 1), padding="same", dtype=tf.bfloat16):
    x = keras.KerasTensor((None, 5, width, 3), dtype=dtype.name)
    return onednn.columns_missing(x, kernel, strides, rate, padding)


@pytest.mark.parametrize(
    ("width", "missing"),
    [(14, 0), (31, 1), (32, 0), (60, 0), (61, 3), (62, 2), (90, 0), (91, 5), (122, 6), (128, 0)],
)
def test_blocks_of_columns_that_are_almost_full_are_filled(width, missing):
    assert columns(width) == missing
    assert columns(width + 2, padding="valid") == missing


def test_other_convolutions_are_left_alone():
    assert columns(None) == 0
    assert columns(62, kernel=(3, 1)) == 0
    assert columns(62, strides=(2, 2)) == 0
    assert columns(62, rate=(1, 2)) == 0
    assert columns(62, dtype=tf.float32) == 0


@pytest.mark.parametrize(
    ("width", "kernel", "padding"), [(62, 3, "SAME"), (64, 3, "VALID"), (61, (2, 4), "SAME")]
)
def test_gradients_over_widened_rows_are_those_of_the_convolution(width, kernel, padding):
    x = tf.cast(tf.random.stateless_normal((2, 5, width, 3), (1, 2)), tf.bfloat16)
    layer = blocks.Conv2D(4, kernel, padding=padding.lower(), dtype="mixed_bfloat16")
    weight = tf.random.stateless_normal(layer(x).shape, (3, 4))
    assert columns(width, layer.kernel_size, padding=layer.padding)

    def gradients(images, kernel, convolve):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            y = convolve(images)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * weight)
        return [y, *tape.gradient(loss, [images, kernel])]

    weights = tf.cast(tf.cast(layer.kernel.value, tf.bfloat16), tf.float32)
    found = tf.function(lambda: gradients(x, layer.kernel.value, layer))()
    images = tf.cast(x, tf.float32)
    expected = gradients(images, weights, lambda x: tf.nn.conv2d(x, weights, 1, padding))
    for one, other in zip(found, expected, strict=True):
        one, other = tf.cast(one, tf.float32).numpy(), other.numpy()
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 0.02 * np.abs(other).max()
