import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import layers
from training import distribution as distributions
from training.step import NotFiniteError, TrainingStep

ALONE = distributions.Distribution(tf.distribute.get_strategy(), "CPU")


class PlainDescent:
    """The least that the loop asks of an optimizer."""

    def __init__(self, variables):
        self.variables = variables

    def apply(self, gradients, learning_rate):
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.assign_sub(learning_rate * gradient)


def make_step(model=None, factor=1.0, seed=0, accumulation=1, rate=0.1):
    if model is None:
        inputs = keras.Input((2,))
        weights = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Model(inputs, {"logits": weights(inputs)})
    trained = [variable.value for variable in model.trainable_variables]

    def loss(labels, outputs):
        wrong = outputs["logits"][:, 0] - tf.cast(labels, tf.float32)
        return {"main": factor * tf.reduce_mean(wrong**2)}

    step = TrainingStep(
        ALONE,
        model,
        PlainDescent(trained),
        lambda step: rate,
        loss,
        {str(i): variable for i, variable in enumerate(trained)},
        # 0.25, or what is not finite in the weights.
        penalty=lambda: 0.25 + 0 * tf.add_n([tf.reduce_sum(part) for part in trained]),
        accumulation=accumulation,
        seed=seed,
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
    losses = [alone.run(one, 1)["main"] for one in itertools.repeat(batches(), 6)]
    np.testing.assert_allclose(kernel[0].numpy(), other[0].numpy(), rtol=1e-6)
    assert results["main"] == pytest.approx(np.mean(losses), rel=1e-5)
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
