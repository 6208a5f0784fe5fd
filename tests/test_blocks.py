import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import blocks, slim_names
from nets.blocks import Blocks, Norm

DECAY, EPSILON = 0.9, 1e-3


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype("float32")


def settings(**changes):
    return Blocks(**{"weights_initializer": blocks.truncated_normal(0.09), **changes})


def layers_of(make, *shape):
    x = keras.Input(shape)
    return keras.Model(x, make(x))


def test_a_convolution_has_either_batch_norm_or_biases():
    block = settings(norm=Norm(DECAY, EPSILON, scale=False))
    normed = layers_of(lambda x: block.conv(x, 4, 3, "Net/Conv"), 8, 8, 3)
    assert {name: tuple(v.shape) for name, v in slim_names.variables(normed).items()} == {
        "Net/Conv/weights": (3, 3, 3, 4),
        "Net/Conv/BatchNorm/beta": (4,),
        "Net/Conv/BatchNorm/moving_mean": (4,),
        "Net/Conv/BatchNorm/moving_variance": (4,),
    }
    biased = layers_of(lambda x: settings().conv(x, 4, (1, 3), "Net/Conv"), 8, 8, 3)
    assert list(slim_names.variables(biased)) == ["Net/Conv/weights", "Net/Conv/biases"]
    bare = layers_of(lambda x: settings(biases=False).conv(x, 4, 1, "Net/Conv"), 8, 8, 3)
    assert list(slim_names.variables(bare)) == ["Net/Conv/weights"]


def test_depthwise_and_separable_convolutions_have_slims_names_and_shapes():
    def make(x):
        x = settings().depthwise_conv(x, 3, "Net/a", multiplier=2)
        return settings(regularized=("depthwise_weights",)).separable_conv(x, 4, 5, "Net/b")

    net = layers_of(make, 8, 8, 3)
    assert {name: tuple(v.shape) for name, v in slim_names.variables(net).items()} == {
        "Net/a/depthwise_weights": (3, 3, 3, 2),
        "Net/a/biases": (6,),
        "Net/b/depthwise_weights": (5, 5, 6, 1),
        "Net/b/pointwise_weights": (1, 1, 6, 4),
        "Net/b/biases": (4,),
    }
    assert slim_names.regularized(net) == ["Net/b/depthwise_weights"]


def test_activation_comes_last_and_linear_turns_it_off():
    x = pixels(1, 6, 6, 3)
    for norm in (None, Norm(DECAY, EPSILON, scale=True)):
        block = settings(norm=norm, weights_initializer=blocks.he_normal)
        relu = layers_of(lambda x, block=block: block.conv(x, 8, 3, "a"), 6, 6, 3)
        linear = layers_of(
            lambda x, block=block: block.conv(x, 8, 3, "a", activation="linear"), 6, 6, 3
        )
        linear.set_weights(relu.get_weights())
        assert np.min(linear(x)) < 0
        np.testing.assert_allclose(relu(x), np.maximum(linear(x), 0), atol=1e-6)


def test_logits_are_float32_with_biases_in_a_bfloat16_net():
    block = settings(norm=Norm(DECAY, EPSILON, scale=True), dtype="mixed_bfloat16")

    def make(x):
        x = block.conv(x, 4, 3, "Net/Conv")
        return [x, block.for_logits().conv(x, 2, 1, "Net/Logits")]

    net = layers_of(make, 8, 8, 3)
    trunk, logits = net(pixels(1, 8, 8, 3))
    assert (trunk.dtype, logits.dtype) == (tf.bfloat16, tf.float32)
    assert {variable.dtype for variable in net.weights} == {"float32"}
    assert "Net/Logits/biases" in slim_names.variables(net)
    assert keras.config.dtype_policy().name == "float32"


def test_explicit_padding_differs_from_same_at_stride_2():
    """ResNet's strided convolutions: SAME pads an even image only at its end."""
    x = np.zeros((1, 4, 4, 1), "float32")
    x[0, 2, 2, 0] = 1  # SAME's first window reaches it
    block = settings(weights_initializer=blocks.constant(1.0))

    def same(x):
        return block.conv(x, 1, 3, "conv", stride=2)

    def explicit(x):
        x = block.pad(x, 1, 1, "pad")
        return block.conv(x, 1, 3, "conv", stride=2, padding="VALID")

    assert layers_of(same, 4, 4, 1)(x)[0, :, :, 0].numpy().tolist() == [[1, 1], [1, 1]]
    assert layers_of(explicit, 4, 4, 1)(x)[0, :, :, 0].numpy().tolist() == [[0, 0], [0, 1]]


def test_average_pool_does_not_count_what_same_adds():
    pool = layers_of(lambda x: settings().avg_pool(x, 3, "pool", stride=1, padding="SAME"), 5, 5, 1)
    np.testing.assert_allclose(pool(np.ones((1, 5, 5, 1), "float32")), 1.0)


@pytest.mark.parametrize(
    ("size", "options", "places", "seen"),
    [
        (7, {}, 1, 7),
        (4, {}, 1, 4),
        (8, {}, 1, 7),
        (8, {"global_pool": True}, 1, 8),
        (9, {}, 1, 9),
        (9, {"single": False}, 2, 7),
    ],
)
def test_last_pool_is_slims_or_the_whole_map_where_slims_leaves_several(
    size, options, places, seen
):
    x = pixels(1, size, size, 2)
    options = {"global_pool": False, "single": True} | options
    y = layers_of(lambda x: settings().last_pool(x, 7, "pool", **options), size, size, 2)(x)
    assert y.shape == (1, places, places, 2)
    np.testing.assert_allclose(y[0, 0, 0], x[0, :seen, :seen].mean((0, 1)), rtol=1e-5)


def test_each_layer_draws_its_own_weights():
    def make(x):
        x = settings(weights_initializer=blocks.he_normal).conv(x, 64, 3, "a")
        return settings(weights_initializer=blocks.he_normal).conv(x, 64, 3, "b")

    net = layers_of(make, 8, 8, 64)
    first, second = net.get_layer("a").kernel.numpy(), net.get_layer("b").kernel.numpy()
    assert np.abs(first - second).max() > 0.01
    # slim's variance_scaling_initializer: factor 2, fan in, truncated.
    np.testing.assert_allclose(first.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)


def test_truncated_normal_has_the_stddev_before_truncation():
    drawn = np.asarray(blocks.truncated_normal(0.09)()((200, 200)))
    assert np.abs(drawn).max() <= 0.18
    np.testing.assert_allclose(drawn.std(), 0.09 * 0.8796, rtol=0.02)


def test_a_net_survives_keras_file(tmp_path):
    block = settings(norm=Norm(DECAY, EPSILON, scale=True), regularized=("weights",))

    def make(x):
        x = block.depthwise_conv(x, 3, "Net/a", stride=2)
        x = block.dropout(block.separable_conv(x, 4, 3, "Net/b"), 0.5, "Net/Dropout")
        x = block.flatten(block.conv(x, 4, 3, "Net/c"), "Net/Flatten")
        return block.for_logits().fully_connected(x, 2, "Net/Logits")

    net = layers_of(make, 8, 8, 3)
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    x = pixels(2, 8, 8, 3)
    np.testing.assert_allclose(loaded(x), net(x), atol=1e-6)
    assert list(slim_names.variables(loaded)) == list(slim_names.variables(net))
    assert slim_names.regularized(loaded) == slim_names.regularized(net)


def test_too_small_an_image_is_refused_with_the_size_that_would_do():
    with pytest.raises(ValueError, match=r"net: images of 30 x 30 .* at least 75 x 75\."):
        blocks.check_image_size("net", 30, 75)
    blocks.check_image_size("net", 75, 75)
