import dataclasses
import itertools
import json
import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError
from nets import blocks, layers, slim_names
from tests.forked import run_script
from training import distribution as distributions
from training import losses, optimizers, trainee
from training.moving_averages import MovingAverages
from training.options import OPTIMIZERS, OptimizerOptions, TrainingOptions
from training.step import NetInTraining, NotFiniteError, StepSettings, TrainingStep

ALONE = distributions.Distribution(tf.distribute.get_strategy(), "CPU")


class PlainDescent:
    """The least that the loop asks of an optimizer."""

    def __init__(self, variables):
        self.variables = variables

    def apply(self, gradients, learning_rate):
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.assign_sub(learning_rate * gradient)


def make_step(model=None, factor=1.0, seed=0, accumulation=1, rate=0.1, measures=()):
    if model is None:
        inputs = keras.Input((2,))
        weights = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Model(inputs, {"logits": weights(inputs)})
    trained = [variable.value for variable in model.trainable_variables]

    def loss(labels, outputs):
        wrong = outputs["logits"][:, 0] - tf.cast(labels, tf.float32)
        found = {"main": factor * tf.reduce_mean(wrong**2)}
        return found | {name: tf.reduce_max(outputs["logits"]) for name in measures}

    step = TrainingStep(
        ALONE,
        NetInTraining(
            model,
            {str(i): variable for i, variable in enumerate(trained)},
            measure_names=measures,
        ),
        PlainDescent(trained),
        lambda step: rate,
        loss,
        # 0.25, or what is not finite in the weights.
        penalty=lambda: 0.25 + 0 * tf.add_n([tf.reduce_sum(part) for part in trained]),
        settings=StepSettings(accumulation, seed),
    )
    return step, trained


def batches():
    images = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    batch = {"image": images, "label": np.array([1, 0, 2, 1], np.int32)}
    return iter(tf.data.Dataset.from_tensors(batch).repeat())


def test_the_gradients_norm_is_the_mean_over_the_steps():
    step, (kernel,) = make_step()
    batch, expected = next(batches()), []
    for _ in range(3):
        with tf.GradientTape() as tape:
            wrong = tf.linalg.matmul(batch["image"], kernel)[:, 0]
            loss = tf.reduce_mean((wrong - tf.cast(batch["label"], tf.float32)) ** 2)
        gradient = tape.gradient(loss, kernel)
        expected.append(float(tf.norm(gradient)))
        kernel.assign_sub(0.1 * gradient)
    kernel.assign(tf.ones_like(kernel))
    assert step.run(batches(), 3)["gradient_norm"] == pytest.approx(np.mean(expected))


def test_a_gradient_that_is_not_finite_changes_no_weight():
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    # 0 of a root's infinite slope: the loss is finite, its gradient is not.
    root = keras.layers.Lambda(lambda x: tf.sqrt(x - x))
    step, (kernel,) = make_step(keras.Model(inputs, {"logits": root(dense(inputs))}))
    with pytest.raises(NotFiniteError, match="gradients became infinite or nan at step 1; .* 0 "):
        step.run(batches(), 3)
    np.testing.assert_array_equal(kernel.numpy(), 1)
    assert int(step.step.numpy()) == 1


def test_weights_that_an_update_made_infinite_are_named():
    step, (kernel,) = make_step(rate=math.inf)
    with pytest.raises(NotFiniteError, match="weights became infinite or nan at step 1; .* 0 "):
        step.run(batches(), 1)


def test_several_steps_in_a_call_equal_single_steps():
    together, kernel = make_step()
    results = together.run(batches(), 6)
    alone, other = make_step()
    each = [alone.run(one, 1)["main"] for one in itertools.repeat(batches(), 6)]
    np.testing.assert_allclose(kernel[0].numpy(), other[0].numpy(), rtol=1e-6)
    assert results["main"] == pytest.approx(np.mean(each), rel=1e-5)
    assert results["loss"] == pytest.approx(results["main"] + 0.25)
    assert int(together.step.numpy()) == 6


def test_the_step_descends_along_the_gradient():
    step, (kernel,) = make_step()
    batch = next(batches())
    wrong = batch["image"].numpy() @ np.ones((2, 1)) - batch["label"].numpy()[:, None]
    gradient = 2 * batch["image"].numpy().T @ wrong / 4
    step.run(batches(), 1)
    np.testing.assert_allclose(kernel.numpy(), 1 - 0.1 * gradient, rtol=1e-5)


def dropout_net():
    inputs = keras.Input((2,))
    x = layers.Dropout(0.5, name="a.dropout")(inputs)
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    return keras.Model(inputs, {"logits": dense(x)})


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_measure_is_reported_and_not_minimised(accumulation):
    plain, (kernel,) = make_step(accumulation=accumulation)
    measured, (same,) = make_step(accumulation=accumulation, measures=("largest",))
    before, after = plain.run(batches(), 3), measured.run(batches(), 3)
    assert np.array_equal(kernel.numpy(), same.numpy())
    # The net adds two pixels at first: 13 / 8 is its largest answer, and falls.
    assert 0 < after.pop("largest") < 13 / 8
    before.pop("input_seconds"), after.pop("input_seconds")
    assert after == before


def test_dropout_is_a_function_of_seed_and_step():
    def losses(seed, first_step):
        step, _ = make_step(dropout_net(), seed=seed)
        step.step.assign(first_step)
        return step.run(batches(), 1)["main"]

    assert losses(1, 7) == losses(1, 7)
    assert losses(1, 7) != losses(2, 7)
    assert len({losses(1, step) for step in range(7, 12)}) > 1


def test_drop_path_knows_the_step():
    inputs = keras.Input((2,))
    drop_path = layers.DropPath(1e-6, ramp_steps=10, noise_shape=(None, 1), name="a.drop_path")
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    step, _ = make_step(keras.Model(inputs, {"logits": dense(drop_path(inputs))}))
    without, _ = make_step()
    assert step.run(batches(), 1)["main"] == pytest.approx(without.run(batches(), 1)["main"])
    step.step.assign(10)
    labels = next(batches())["label"].numpy()
    assert step.run(batches(), 1)["main"] == pytest.approx(np.mean(labels**2))


def test_accumulation_averages_the_gradients_of_several_batches():
    halves = tf.data.Dataset.from_tensor_slices(
        {"image": np.arange(16, dtype=np.float32).reshape(2, 4, 2) / 9, "label": np.ones((2, 4))}
    )
    apart, kernel = make_step(accumulation=2)
    results = apart.run(iter(halves.repeat()), 3)
    together, other = make_step()
    whole = together.run(iter(halves.unbatch().batch(8).repeat()), 3)
    np.testing.assert_allclose(kernel[0].numpy(), other[0].numpy(), rtol=1e-5)
    assert results["main"] == pytest.approx(whole["main"], rel=1e-5)
    assert int(apart.step.numpy()) == 3


def test_a_few_images_of_the_batch_are_kept_to_be_shown():
    step, _ = make_step()
    step.run(batches(), 2)
    np.testing.assert_array_equal(step.images, next(batches())["image"])


@pytest.fixture(scope="module")
def small_net():
    """Builds a net with a batch norm, whose weights are the same each time.

    It has no dropout, which XLA draws by another generator.
    """

    def build():
        keras.utils.set_random_seed(0)
        settings = blocks.Blocks(blocks.truncated_normal(0.5), norm=blocks.Norm(0.9, 0.001, True))
        inputs = blocks.images(8, 3)
        x = settings.conv(inputs, 4, 3, "Net/Conv", stride=2)
        x = settings.flatten(x, "Net/Flat")
        logits = settings.for_logits().fully_connected(x, 3, "Net/Logits")
        return blocks.model("Net", inputs, {}, logits)

    return build


def dense_net():
    """What an optimizer's updates need: a matrix and a vector."""
    keras.utils.set_random_seed(0)
    settings = blocks.Blocks(blocks.truncated_normal(0.5))
    inputs = blocks.images(8, 3)
    x = settings.flatten(inputs, "Net/Flat")
    return blocks.model(
        "Net", inputs, {}, settings.for_logits().fully_connected(x, 3, "Net/Logits")
    )


def learn(net, optimizer="momentum", jit_compile=True, **options):
    """A TrainingStep of a small net, and the variables that it may change."""
    weights = slim_names.variables(net)
    trained = {name: variable for name, variable in weights.items() if variable.trainable}
    learner = optimizers.create(OptimizerOptions(optimizer=optimizer, clip_gradient_norm=1.0))
    learner.build(list(trained.values()), list(trained), weight_decay=dict.fromkeys(trained, 0.01))
    averages = MovingAverages(0.9, {name: variable.value for name, variable in weights.items()})
    step = TrainingStep(
        ALONE,
        NetInTraining(net, {name: variable.value for name, variable in trained.items()}),
        learner,
        lambda step: 0.01 / tf.cast(step + 1, tf.float32),
        losses.classification,
        averages=averages,
        settings=StepSettings(jit_compile=jit_compile, **options),
    )
    step.prepare_images(
        lambda raw: tf.cast(raw["image"], tf.float32) / 128 - raw["scale"][:, None, None, None]
    )
    values = {name: variable.value for name, variable in weights.items()}
    values |= learner.slots() | averages.slots() | {"step": step.step}
    return step, values


def raw_batches(spoilt=()):
    """Batches of what `learn` prepares images from; the spoilt ones, by number, give NaN."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 4, 8, 8, 3), dtype=np.uint8)
    scales = np.ones((20, 4), np.float32)
    scales[list(spoilt)] = np.nan
    each = {"image": {"image": images, "scale": scales}, "label": rng.integers(0, 3, (20, 4))}
    return iter(tf.data.Dataset.from_tensor_slices(each))


def as_arrays(values):
    return {name: variable.numpy() for name, variable in values.items()}


@pytest.mark.parametrize(
    ("optimizer", "accumulation"), [*((name, 1) for name in OPTIMIZERS), ("momentum", 2)]
)
def test_a_compiled_step_equals_a_plain_one(small_net, optimizer, accumulation):
    found = []
    for jit_compile in (False, True):
        net = small_net() if optimizer == "momentum" else dense_net()
        step, values = learn(net, optimizer, jit_compile=jit_compile, accumulation=accumulation)
        found.append((step.run(raw_batches(), 5), as_arrays(values)))
    (plain, expected), (compiled, values) = found
    for name in ("loss", "main", "gradient_norm", "learning_rate"):
        assert compiled[name] == pytest.approx(plain[name], rel=1e-5), name
    for name in expected:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_nothing_is_changed_by_a_bad_step_nor_after_it(small_net, jit_compile, accumulation):
    step, values = learn(small_net(), jit_compile=jit_compile, accumulation=accumulation)
    first = as_arrays(values)
    step.run(raw_batches(), 3)
    expected = as_arrays(values)
    for name, value in first.items():
        values[name].assign(value)
    with pytest.raises(NotFiniteError, match="loss became nan at step 4; largest gradients: Net"):
        step.run(raw_batches(spoilt=[3 * accumulation]), 9)
    found = as_arrays(values)
    assert (found.pop("step"), expected.pop("step")) == (4, 3)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_images_are_prepared_in_the_step(small_net):
    step, _ = learn(dense_net(), jit_compile=False)
    assert step.images is None
    step.run(raw_batches(), 2)
    assert step.images.shape == (4, 8, 8, 3)
    assert -1 <= step.images.numpy().min() < step.images.numpy().max() < 1


TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from training import distribution
from training.step import NetInTraining, StepSettings, TrainingStep

two = distribution.create(num_clones=2, clone_on_cpu=True)
images = np.float32([[1, 0.3], [1, 0.4]])

class Kept:
    def apply(self, gradients, learning_rate):
        (found,) = gradients
        kernel.assign(found)

for reduced_in in (tf.float32, tf.bfloat16):
    with two.strategy.scope():
        inputs = keras.Input((2,))
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Model(inputs, {"logits": dense(inputs)})
        kernel = dense.kernel.value
        step = TrainingStep(
            two,
            NetInTraining(model, {"kernel": kernel}),
            Kept(),
            lambda step: 1.0,
            lambda labels, outputs: {"main": tf.reduce_mean(outputs["logits"])},
            settings=StepSettings(reduced_in=reduced_in),
        )
    batches = tf.data.Dataset.from_tensors({"image": images, "label": np.int32([0, 1])}).repeat()
    step.run(two.iterate(lambda: batches), 1)
    print(kernel.numpy()[:, 0].tolist())
"""


def test_gradients_go_between_replicas_in_the_type_that_is_asked_for():
    done = run_script("-c", TWO_REPLICAS)
    assert done.returncode == 0, done.stderr
    whole, rounded = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    assert whole == pytest.approx([1, 0.35], rel=1e-7)
    halves = np.mean(np.float32([[1, 0.3], [1, 0.4]]), axis=0)
    assert rounded == tf.cast(tf.cast(halves, tf.bfloat16), tf.float32).numpy().tolist()


def test_gpus_of_one_machine_are_refused_what_they_cant_sum_up(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    options = TrainingOptions.of(train_dir="t", gradient_reduction="bfloat16")
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    two = distributions.Distribution(strategy, "GPU:0, GPU:1")
    with pytest.raises(InputError, match="the GPUs of one machine sum up float32 only"):
        trainee.build_step(None, options, None, two, None)
    alone = dataclasses.replace(two, strategy=types.SimpleNamespace(num_replicas_in_sync=1))
    assert alone.reduces_bfloat16 and dataclasses.replace(two, num_workers=2).reduces_bfloat16
