"""Learning rates against TF-Slim's numbers."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError, UsageError
from training import learning_rates
from training.options import ScheduleOptions

FIXTURE = json.loads(
    (pathlib.Path(__file__).parent / "fixtures/slim_parity/optimizers.json").read_text()
)["learning_rate"]
EPOCH = learning_rates.steps_per_epoch(FIXTURE["num_samples"], FIXTURE["batch_size"])


def create(kind, learning_rate, *, epoch=EPOCH, total_steps=None, **options):
    options |= {"learning_rate_decay_type": kind, "learning_rate": learning_rate}
    return learning_rates.create(ScheduleOptions(**options), epoch, total_steps)


def rates(schedule, steps):
    traced = tf.function(schedule, autograph=False)
    return [traced(tf.constant(step, tf.int64)).numpy() for step in steps]


@pytest.mark.parametrize(
    "case, kind, options",
    [
        ("exponential_staircase", "exponential", {}),
        ("polynomial", "polynomial", {"end_learning_rate": 0.0001}),
        ("exponential_with_warmup_epochs_5", "exponential", {"warmup_epochs": 5.0}),
    ],
)
def test_follows_slim(case, kind, options):
    steps, expected = zip(*FIXTURE[case]["step_value"], strict=True)
    schedule = create(kind, 0.01, **options)
    # One float32 rounding of the exponent shows, magnified, at 0.94**483.
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-5)
    np.testing.assert_allclose([schedule(step) for step in steps], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "num_examples, replicas, decay_steps",
    [(FIXTURE["num_samples"], 1, FIXTURE["decay_steps"]), (3320, 4, 51), (3, 1, 1)],
)
def test_decay_steps_are_counted_as_slim_does(num_examples, replicas, decay_steps):
    epoch = learning_rates.steps_per_epoch(num_examples, 32, replicas)
    schedule = create("exponential", 1.0, epoch=epoch, num_epochs_per_decay=2.0)
    values = rates(schedule, [decay_steps - 1, decay_steps])
    np.testing.assert_allclose(values, [1.0, 0.94], rtol=1e-6)


def test_fixed():
    assert rates(create("fixed", 0.25), [0, 10**6]) == [0.25, 0.25]


def test_cosine():
    schedule = create("cosine", 1.0, end_learning_rate=0.2, total_steps=100)
    values = rates(schedule, [0, 25, 50, 100, 200])
    np.testing.assert_allclose(values, [1, 0.6 + 0.4 * np.sqrt(0.5), 0.6, 0.2, 0.2], rtol=1e-6)


def test_one_cycle_rises_for_30_percent_then_falls():
    schedule = create("one_cycle", 1.0, end_learning_rate=0.0, total_steps=100)
    values = rates(schedule, range(0, 101, 5))
    np.testing.assert_allclose([values[0], values[6]], [0.04, 1.0], rtol=1e-6)
    np.testing.assert_allclose([values[13], values[20]], [0.5, 0.0], atol=1e-6)
    assert np.all(np.diff(values[:7]) > 0) and np.all(np.diff(values[6:]) < 0)


def test_warmup_starts_at_zero_and_ends():
    schedule = create("fixed", 0.5, warmup_steps=10)
    np.testing.assert_allclose(rates(schedule, [0, 5, 10, 11]), [0, 0.25, 0.5, 0.5])


def test_errors_name_the_flag():
    with pytest.raises(
        UsageError, match="--learning_rate_decay_type=linear: unknown. Choose of fixed"
    ):
        create("linear", 0.1)
    with pytest.raises(InputError, match="cosine: .* --max_number_of_steps or --num_epochs"):
        create("cosine", 0.1)
