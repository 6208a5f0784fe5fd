"""Optimizers against TF-Slim's and Keras' numbers, alone and on several replicas."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError, UsageError
from tests.forked import context
from training import optimizers
from training.options import OPTIMIZERS, OptimizerOptions

FIXTURE = json.loads(
    (pathlib.Path(__file__).parent / "fixtures/slim_parity/optimizers.json").read_text()
)
GRADIENTS = np.array(FIXTURE["gradients"], np.float32)
CASES = FIXTURE["optimizers"]  # "rmsprop_eps1e-8" is rmsprop with another epsilon


def create(name, **options):
    return optimizers.create(OptimizerOptions(optimizer=name, **options))


def run(optimizer, variable, gradients=GRADIENTS, learning_rate=0.1, **build_options):
    """Applies the gradients to a variable named v; the value after each."""
    optimizer.build([variable], ["v"], **build_options)
    step = tf.function(
        lambda gradient: optimizer.apply([gradient], tf.constant(learning_rate)), autograph=False
    )
    values = []
    for gradient in gradients:
        step(tf.constant(gradient))
        values.append(variable.numpy())
    return np.array(values)


def initial():
    return tf.Variable(FIXTURE["initial"], dtype=tf.float32)


@pytest.mark.parametrize("case", CASES)
def test_follows_slim(case):
    expected = CASES[case]
    optimizer = create(case.split("_")[0], **expected["flags"])
    variable = initial()
    optimizer.build([variable], ["v"])
    first = {slot: value.numpy() for slot, value in optimizer.slots().items()}
    assert sorted(first) == sorted(expected["slot_variables_initial"])
    for slot, value in expected["slot_variables_initial"].items():
        np.testing.assert_allclose(np.ravel(first[slot]), value, rtol=1e-6)

    np.testing.assert_allclose(run(optimizer, variable), expected["values"], rtol=1e-6, atol=1e-6)
    for slot, value in expected["slot_variables_final"].items():
        final = np.ravel(optimizer.slots()[slot].numpy())
        np.testing.assert_allclose(final, value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [case for case in CASES if case in OPTIMIZERS])
def test_defaults_are_slims(name):
    values = run(create(name), initial())
    np.testing.assert_allclose(values, CASES[name]["values"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "name, keras_class, weight_decay",
    [
        ("adamw", keras.optimizers.AdamW, 0.0),
        ("adamw", keras.optimizers.AdamW, 0.2),
        ("lamb", keras.optimizers.Lamb, None),
        ("lamb", keras.optimizers.Lamb, 0.2),
        ("lion", keras.optimizers.Lion, None),
        ("lion", keras.optimizers.Lion, 0.2),
        ("nadam", keras.optimizers.Nadam, None),
    ],
)
def test_follows_keras(name, keras_class, weight_decay):
    theirs = keras.Variable(FIXTURE["initial"])
    reference = keras_class(learning_rate=0.1, weight_decay=weight_decay)
    expected = []
    for gradient in GRADIENTS:
        reference.apply([tf.constant(gradient)], [theirs])
        expected.append(theirs.numpy())
    values = run(create(name), initial(), weight_decay={"v": weight_decay or 0.0})
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def run_on_two_replicas() -> dict[str, list[list[np.ndarray]]]:
    """Optimizer → for the variable and each slot, the copies of both replicas at the end."""
    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [half] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return {name: replica_copies(strategy, name) for name in OPTIMIZERS}


def replica_copies(strategy, name):
    optimizer = create(name)
    with strategy.scope():
        variable = initial()
        optimizer.build([variable], ["v"])

    @tf.function
    def steps(gradients):
        # Several steps a call, as in the training loop.
        for gradient in gradients:
            strategy.run(lambda g: optimizer.apply([g], tf.constant(0.1)), (gradient,))

    steps(tf.constant(GRADIENTS))
    return [
        [copy.numpy() for copy in strategy.experimental_local_results(mirrored)]
        for mirrored in (variable, *optimizer.slots().values())
    ]


@pytest.fixture(scope="module")
def two_replicas():
    # A process of its own: a processor is split in two before TensorFlow first uses it, or never.
    with context().Pool(1) as pool:
        return pool.apply(run_on_two_replicas)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_replicas_stay_equal_and_follow_a_single_one(name, two_replicas):
    for first, second in two_replicas[name]:
        assert np.array_equal(first, second)
    alone = run(create(name), initial())
    np.testing.assert_allclose(two_replicas[name][0][0], alone[-1], rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_carries_on_from_saved_slots(name):
    whole = run(create(name), initial())
    first = create(name)
    variable = initial()
    run(first, variable, GRADIENTS[:3])
    saved = {slot: value.numpy() for slot, value in first.slots().items()}

    second = create(name)
    second.build([variable], ["v"])
    for slot, value in second.slots().items():
        value.assign(saved[slot])
    np.testing.assert_allclose(run(second, variable, GRADIENTS[3:]), whole[3:], rtol=1e-6)


def test_weight_decay_is_the_gradient_of_the_l2_loss():
    variable, by_hand = initial(), initial()
    values = run(create("rmsprop"), variable, weight_decay={"v": 0.5})
    reference = create("rmsprop")
    reference.build([by_hand], ["v"])
    for gradient, value in zip(GRADIENTS, values, strict=True):
        reference.apply([gradient + 0.5 * by_hand.numpy()], tf.constant(0.1))
        np.testing.assert_allclose(value, by_hand.numpy(), rtol=1e-6)


def test_only_named_variables_decay():
    decayed, kept = initial(), initial()
    optimizer = create("sgd")
    optimizer.build([decayed, kept], ["a/weights", "a/biases"], weight_decay={"a/weights": 1.0})
    optimizer.apply([tf.zeros(3), tf.zeros(3)], tf.constant(0.1))
    np.testing.assert_allclose(decayed.numpy(), 0.9 * np.array(FIXTURE["initial"]), rtol=1e-6)
    np.testing.assert_allclose(kept.numpy(), FIXTURE["initial"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_multiplier_scales_the_rate(name):
    expected = run(create(name), initial(), learning_rate=0.2)
    values = run(create(name), initial(), multipliers={"v": 2.0})
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_clip_norm_is_over_all_gradients():
    a, b = tf.Variable([0.0, 0.0]), tf.Variable([0.0])
    optimizer = create("sgd", clip_gradient_norm=1.0)
    optimizer.build([a, b], ["a", "b"])
    optimizer.apply([tf.constant([3.0, 0.0]), tf.constant([4.0])], tf.constant(1.0))
    np.testing.assert_allclose(a.numpy(), [-0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(b.numpy(), [-0.8], rtol=1e-6)


def test_clip_value_is_by_component():
    values = run(
        create("sgd", clip_gradient_value=0.5), tf.Variable([0.0, 0.0]), [[3.0, -0.25]], 1.0
    )
    np.testing.assert_allclose(values, [[-0.5, 0.25]])


def test_takes_keras_variables():
    variable = keras.Variable(FIXTURE["initial"])
    optimizer = create("momentum")
    optimizer.build([variable], ["v"])
    optimizer.apply([tf.constant(GRADIENTS[0])], tf.constant(0.1))
    expected = CASES["momentum"]["values"][0]
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


def test_second_build_keeps_slots_it_knows():
    a, b = initial(), initial()
    optimizer = create("momentum")
    optimizer.build([a], ["a"])
    optimizer.apply([tf.ones(3)], tf.constant(0.1))
    optimizer.build([a, b], ["a", "b"])
    assert sorted(optimizer.slots()) == ["a/Momentum", "b/Momentum"]
    assert optimizer.slots()["a/Momentum"].numpy().tolist() == [1, 1, 1]
    assert optimizer.slots()["b/Momentum"].numpy().tolist() == [0, 0, 0]


def test_variable_without_gradient_is_named():
    optimizer = create("sgd")
    optimizer.build([initial(), initial()], ["Net/used", "Net/unused"])
    with pytest.raises(InputError, match="loss does not depend on Net/unused"):
        optimizer.apply([tf.ones(3), None], tf.constant(0.1))


def test_unknown_name_lists_the_known():
    with pytest.raises(UsageError, match="--optimizer=rmsporp: unknown. Choose of adadelta, .*sgd"):
        create("rmsporp")


def test_values_given_by_hand_win_over_what_suits_the_optimizer():
    by_hand = run(create("adamw", opt_epsilon=1.0), initial())
    assert not np.allclose(by_hand, run(create("adamw"), initial()))
    lion = run(create("lion", adam_beta2=0.99), initial())
    np.testing.assert_array_equal(lion, run(create("lion"), initial()))
