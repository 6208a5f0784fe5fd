import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import layers
from nets.layers import BatchNorm, Dropout, DropPath
from tests.forked import run_script

DECAY, EPSILON = 0.9, 1e-3


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype("float32")


def batch_norm(scale=True, x=None, **options):
    layer = BatchNorm(DECAY, EPSILON, scale, **options)
    layer.build((2, 3, 3, 4) if x is None else x.shape)
    noise = np.random.default_rng(5)
    for variable in layer.weights:
        variable.assign(noise.uniform(0.5, 1.5, variable.shape))
    return layer


def by_hand(layer, x, mean, variance):
    gamma = layer.gamma.numpy() if layer.scale else 1.0
    return (x - mean) / np.sqrt(variance + EPSILON) * gamma + layer.beta.numpy()


@pytest.mark.parametrize("scale", [True, False])
def test_batch_norm_in_training_normalizes_by_the_batch_and_moves(scale):
    x = pixels(2, 3, 3, 4)
    layer = batch_norm(scale)
    old_mean, old_variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    y = layer(x, training=True)
    mean, biased = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, by_hand(layer, x, mean, biased), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.9 * old_mean + 0.1 * mean, rtol=1e-5)
    unbiased = biased * 18 / 17
    np.testing.assert_allclose(
        layer.moving_variance, 0.9 * old_variance + 0.1 * unbiased, rtol=1e-5
    )


def without_training(layer, x):
    return layer(x)


def frozen(layer, x):
    layer.frozen = True
    return layer(x, training=True)


def not_trainable(layer, x):
    layer.trainable = False
    return layer(x, training=True)


@pytest.mark.parametrize("call", [without_training, frozen, not_trainable])
def test_batch_norm_by_stored_statistics(call):
    x = pixels(2, 3, 3, 4)
    layer = batch_norm()
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    np.testing.assert_allclose(call(layer, x), by_hand(layer, x, mean, variance), atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, mean)
    np.testing.assert_array_equal(layer.moving_variance, variance)


def test_batch_norm_in_bfloat16_keeps_its_statistics_in_float32():
    x = pixels(8, 5, 5, 4)
    layer = batch_norm(dtype="mixed_bfloat16")
    layer.moving_mean.assign(np.zeros(4))
    y = layer(tf.cast(x, tf.bfloat16), training=True)
    assert y.dtype == tf.bfloat16
    assert {variable.dtype for variable in layer.weights} == {"float32"}
    expected = 0.1 * x.astype("float32").mean((0, 1, 2))
    # bfloat16 holds 8 bits; a moving mean in bfloat16 would be off by up to 0.4 %.
    np.testing.assert_allclose(layer.moving_mean, expected, rtol=2e-3)
    np.testing.assert_allclose(
        tf.cast(y, tf.float32), by_hand(layer, x, x.mean((0, 1, 2)), x.var((0, 1, 2))), atol=0.05
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_batch_norm_has_the_gradients_of_kerass(jit_compile):
    x = tf.constant(pixels(4, 3, 3, 4))
    ours = batch_norm()
    kerass = keras.layers.BatchNormalization(momentum=DECAY, epsilon=EPSILON)
    kerass.build(x.shape)
    for mine, other in zip(ours.weights, kerass.weights, strict=True):
        other.assign(mine)

    def gradients(layer):
        @tf.function(jit_compile=jit_compile)
        def step():
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(layer(x, training=True) ** 3)
            return tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

        return step()

    for mine, other in zip(gradients(ours), gradients(kerass), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.moving_mean, kerass.moving_mean, rtol=1e-5)


def test_batch_norm_is_one_operation_in_an_inference_graph():
    layer = batch_norm()
    graph = tf.function(lambda x: layer(x)).get_concrete_function(
        tf.TensorSpec([2, 3, 3, 4], tf.float32)
    )
    kinds = [op.type for op in graph.graph.get_operations() if op.type.startswith("FusedBatch")]
    assert kinds == ["FusedBatchNormV3"]
    assert not [op for op in graph.graph.get_operations() if op.type.startswith("Assign")]


def test_replicas_move_their_own_statistics_and_their_mean_is_read():
    script = """
        import os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import numpy as np, tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        half = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [half, half])
        from nets.layers import BatchNorm
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            layer = BatchNorm(0.5, 1e-3, True)
            layer.build((None, 1, 1, 1))
        @tf.function
        def step():
            def replica():
                number = tf.distribute.get_replica_context().replica_id_in_sync_group
                batch = tf.constant([0.0, 4.0], shape=(2, 1, 1, 1))
                layer(batch + 20.0 * tf.cast(number, tf.float32), training=True)
            strategy.run(replica)
        step()
        mean = layer.moving_mean.value
        own = [float(one.numpy()[0]) for one in strategy.experimental_local_results(mean)]
        read = float(tf.convert_to_tensor(mean)[0])
        layer.moving_mean.assign(np.array([3.0], "float32"))
        print(own, read, float(tf.convert_to_tensor(mean)[0]))
    """
    done = run_script("-c", textwrap.dedent(script))
    assert done.stdout.strip() == "[1.0, 11.0] 6.0 3.0", done.stderr


def test_dropout_keeps_the_mean_in_training_and_everything_else_otherwise():
    x = tf.ones((100, 1000))
    layer = Dropout(0.8)
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(Dropout(1.0)(x, training=True), x)
    y = layer(x, training=True).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    np.testing.assert_allclose(y.mean(), 1.0, atol=0.01)
    assert not layer.weights


def test_dropout_is_a_function_of_the_seed_it_is_called_in():
    x = tf.ones((10, 100))
    layer, other = Dropout(0.5, name="a"), Dropout(0.5, name="b")

    def drawn(layer, seed):
        with layers.random_seed(tf.constant([1, seed])):
            return layer(x, training=True).numpy()

    np.testing.assert_array_equal(drawn(layer, 7), drawn(layer, 7))
    assert (drawn(layer, 7) != drawn(layer, 8)).any()
    assert (drawn(layer, 7) != drawn(other, 7)).any()


def test_dropout_of_whole_examples():
    y = Dropout(0.5, noise_shape=(None, 1, 1, 1))(tf.ones((64, 2, 2, 3)), training=True).numpy()
    per_example = y.reshape(64, -1)
    assert (per_example == per_example[:, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}


def test_dropout_drops_the_same_share_in_bfloat16():
    x = tf.ones((300, 1000), tf.bfloat16)
    y = Dropout(0.999, dtype="mixed_bfloat16")(x, training=True)
    assert y.dtype == tf.bfloat16
    assert 0.0005 < np.mean(y.numpy() == 0) < 0.0015


@pytest.mark.parametrize(("step", "dropped"), [(0, 0.0), (50, 0.25), (200, 0.5), (None, 0.5)])
def test_drop_path_drops_more_with_each_step(step, dropped):
    layer = DropPath(0.5, ramp_steps=100)
    x = tf.ones((4000, 1, 1, 2))
    with layers.training_step(step):
        y = layer(x, training=True).numpy()
    assert set(np.unique(y)) <= {0.0, np.float32(1 / (1 - dropped))}
    assert (y[..., 0] == y[..., 1]).all()
    np.testing.assert_allclose(np.mean(y == 0), dropped, atol=0.04)
    np.testing.assert_array_equal(layer(x, training=False), x)
