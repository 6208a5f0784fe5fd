"""Learning rates against TF-Slim's numbers."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from training import learning_rates

FIXTURE = json.loads(
    (pathlib.Path(__file__).parent / "fixtures/slim_parity/optimizers.json").read_text()
)["learning_rate"]
DECAY_STEPS = FIXTURE["decay_steps"]
EPOCH = FIXTURE["num_samples"] / FIXTURE["batch_size"]


def rates(schedule, steps):
    traced = tf.function(schedule)
    return [traced(tf.constant(step, tf.int64)).numpy() for step in steps]


@pytest.mark.parametrize(
    "case, kind, options",
    [
        ("exponential_staircase", "exponential", {}),
        ("exponential_no_staircase", "exponential", {"staircase": False}),
        ("polynomial", "polynomial", {"end_learning_rate": 0.0001}),
        ("exponential_with_warmup_epochs_5", "exponential", {"warmup_steps": 5 * EPOCH}),
    ],
)
def test_follows_slim(case, kind, options):
    steps, expected = zip(*FIXTURE[case]["step_value"], strict=True)
    schedule = learning_rates.create(kind, 0.01, decay_steps=DECAY_STEPS, **options)
    # One float32 rounding of the exponent shows, magnified, at 0.94**483.
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-5)
    np.testing.assert_allclose([schedule(step) for step in steps], expected, rtol=1e-5)


def test_decay_steps_are_counted_as_slim_does():
    assert learning_rates.decay_steps(3320, 32, 2.0) == DECAY_STEPS
    assert learning_rates.decay_steps(3320, 32, 2.0, replicas_to_aggregate=4) == 51
    assert learning_rates.decay_steps(3, 32, 2.0) == 1


def test_fixed():
    assert rates(learning_rates.create("fixed", 0.25), [0, 10**6]) == [0.25, 0.25]


def test_cosine():
    schedule = learning_rates.create("cosine", 1.0, end_learning_rate=0.2, total_steps=100)
    values = rates(schedule, [0, 25, 50, 100, 200])
    np.testing.assert_allclose(values, [1, 0.6 + 0.4 * np.sqrt(0.5), 0.6, 0.2, 0.2], rtol=1e-6)


def test_one_cycle_rises_for_30_percent_then_falls():
    schedule = learning_rates.create("one_cycle", 1.0, end_learning_rate=0.0, total_steps=100)
    values = rates(schedule, range(0, 101, 5))
    np.testing.assert_allclose([values[0], values[6]], [0.04, 1.0], rtol=1e-6)
    np.testing.assert_allclose([values[13], values[20]], [0.5, 0.0], atol=1e-6)
    assert np.all(np.diff(values[:7]) > 0) and np.all(np.diff(values[6:]) < 0)


def test_warmup_starts_at_zero_and_ends():
    schedule = learning_rates.create("fixed", 0.5, warmup_steps=10)
    np.testing.assert_allclose(rates(schedule, [0, 5, 10, 11]), [0, 0.25, 0.5, 0.5])


def test_errors_name_the_flag():
    with pytest.raises(
        ValueError, match="--learning_rate_decay_type=linear: unknown. Known: fixed"
    ):
        learning_rates.create("linear", 0.1)
    with pytest.raises(ValueError, match="cosine .* --max_number_of_steps or --num_epochs"):
        learning_rates.create("cosine", 0.1)
    with pytest.raises(ValueError, match="exponential needs decay_steps"):
        learning_rates.create("exponential", 0.1)
