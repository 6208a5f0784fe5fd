import itertools
import math
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import blocks
from training import distribution as distributions
from training import loop

ALONE = distributions.Distribution(tf.distribute.get_strategy(), "CPU")


class PlainDescent:
    """The least that the loop asks of an optimizer."""

    def __init__(self, variables):
        self.variables = variables

    def apply(self, gradients, learning_rate):
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.assign_sub(learning_rate * gradient)


def make_step(model=None, factor=1.0, seed=0):
    if model is None:
        inputs = keras.Input((2,))
        weights = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Model(inputs, {"logits": weights(inputs)})
    trained = [variable.value for variable in model.trainable_variables]

    def loss(labels, outputs):
        wrong = outputs["logits"][:, 0] - tf.cast(labels, tf.float32)
        return {"main": factor * tf.reduce_mean(wrong**2)}

    step = loop.TrainingStep(
        ALONE,
        model,
        PlainDescent(trained),
        lambda step: 0.1,
        loss,
        trained,
        penalty=lambda: tf.constant(0.25),
        seed=seed,
    )
    return step, trained


def batches():
    images = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    batch = {"image": images, "label": np.array([1, 0, 2, 1], np.int32)}
    return iter(tf.data.Dataset.from_tensors(batch).repeat())


class Recorder:
    def __init__(self):
        self.logged, self.saved = [], []

    def train(self, step, iterator=None, last_step=12, log_every=5, save_secs=600.0, stop=None):
        return loop.train(
            step,
            iterator or batches(),
            ALONE,
            4,
            last_step,
            log_every,
            save_secs,
            self.logged.append,
            self.saved.append,
            stop or loop.StopRequest(),
        )


def test_is_due_repeats_and_closes_with_the_last_step():
    assert [n for n in range(1, 8) if loop.is_due(n, 3, 7)] == [3, 6, 7]
    assert not any(loop.is_due(n, 0, 7) for n in range(8))


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


def test_logs_at_the_first_step_each_interval_and_the_end():
    recorder = Recorder()
    assert recorder.train(make_step()[0]) == 12
    assert [progress.step for progress in recorder.logged] == [1, 5, 10, 12]
    assert recorder.saved == [12]
    last = recorder.logged[-1]
    assert last.seconds_left == 0
    assert last.images_per_second > 0
    assert 0 <= last.input_share <= 1


def test_saves_whenever_the_interval_is_over():
    recorder = Recorder()
    recorder.train(make_step()[0], save_secs=1e-9)
    assert recorder.saved[-1] == 12
    assert len(recorder.saved) > 1


def test_a_loss_that_is_not_finite_stops_the_run_without_saving():
    recorder = Recorder()
    with pytest.raises(ValueError, match="The loss became nan.*checkpoint of step 0 is untouched"):
        recorder.train(make_step(factor=math.nan)[0])
    assert recorder.saved == []


def test_a_signal_saves_and_stops_and_a_second_one_is_fatal():
    recorder, step = Recorder(), make_step()[0]
    endless = batches()
    with loop.StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        reached = recorder.train(step, endless, last_step=None, stop=stop)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert stop.name == "SIGTERM"
    assert recorder.saved == [reached]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def dropout_net():
    inputs = keras.Input((2,))
    x = blocks.Dropout(0.5, name="a.dropout")(inputs)
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    return keras.Model(inputs, {"logits": dense(x)})


def test_dropout_is_a_function_of_seed_and_step():
    def losses(seed, first_step):
        step, _ = make_step(dropout_net(), seed=seed)
        step.step.assign(first_step)
        return step.run(batches(), 1)["main"]

    assert losses(1, 7) == losses(1, 7)
    assert len({losses(1, 7), losses(1, 8), losses(2, 7), losses(2, 9)}) > 1
