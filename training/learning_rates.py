"""Learning rates as functions of the step, in float32 as TensorFlow 1 computed them."""

import math
from collections.abc import Callable

import tensorflow as tf

KINDS = ("fixed", "exponential", "polynomial", "cosine", "one_cycle")
# Smith and Topin, "Super-Convergence": a rise to the peak, then a longer fall far below the start.
_ONE_CYCLE_RISE = 0.3
_ONE_CYCLE_START = 1 / 25

Schedule = Callable[[tf.Tensor | int], tf.Tensor]


def steps_per_epoch(num_examples: int, batch_size: int, replicas_to_aggregate: int = 1) -> float:
    """Steps in a pass over the data, not rounded, as TF-Slim counts them.

    Args:
      batch_size: of one clone. With several clones each of them goes over the data once in an
        epoch; that is TF-Slim's rule, and old command lines count on it.
      replicas_to_aggregate: gradients averaged into one update (--sync_replicas).
    """
    return num_examples / batch_size / replicas_to_aggregate


def decay_steps(
    num_examples: int,
    batch_size: int,
    num_epochs_per_decay: float,
    replicas_to_aggregate: int = 1,
) -> int:
    """Whole steps between two decays; at least one."""
    epoch = steps_per_epoch(num_examples, batch_size, replicas_to_aggregate)
    return max(1, int(epoch * num_epochs_per_decay))


def create(
    kind: str,
    learning_rate: float,
    *,
    decay_steps: int | None = None,
    decay_factor: float = 0.94,
    staircase: bool = True,
    end_learning_rate: float = 0.0001,
    total_steps: int | None = None,
    warmup_steps: float = 0,
) -> Schedule:
    """A function from the step, counted from 0, to the rate of that step (float32 scalar).

    Args:
      kind: fixed; exponential: times `decay_factor` every `decay_steps`; polynomial: straight
        down to `end_learning_rate` within `decay_steps`; cosine: half a wave down to it within
        `total_steps`; one_cycle: up from a 25th of `learning_rate` in the first 30 % of
        `total_steps`, then down to `end_learning_rate`.
      staircase: whether the exponential goes down in stairs, as TF-Slim's does.
      warmup_steps: the rate is at most `learning_rate * step / warmup_steps`, so 0 at step 0.

    Raises:
      ValueError: unknown kind, or a kind without the number of steps that it needs.
    """
    if kind not in KINDS:
        raise ValueError(f"--learning_rate_decay_type={kind}: unknown. Known: {', '.join(KINDS)}.")
    if kind in ("exponential", "polynomial") and not decay_steps:
        raise ValueError(f"--learning_rate_decay_type={kind} needs decay_steps of at least 1.")
    if kind in ("cosine", "one_cycle") and not total_steps:
        raise ValueError(
            f"--learning_rate_decay_type={kind} spreads over the whole run: "
            "give its length by --max_number_of_steps or --num_epochs."
        )

    def decayed(step: tf.Tensor) -> tf.Tensor:
        if kind == "fixed":
            return tf.constant(learning_rate, tf.float32)
        if kind == "exponential":
            decays = step / decay_steps
            return learning_rate * tf.pow(decay_factor, tf.floor(decays) if staircase else decays)
        if kind == "polynomial":
            left = 1.0 - tf.minimum(step, decay_steps) / decay_steps
            return (learning_rate - end_learning_rate) * left + end_learning_rate
        done = tf.minimum(step / total_steps, 1.0)
        if kind == "cosine":
            return _half_wave(learning_rate, end_learning_rate, done)
        rise = _half_wave(learning_rate * _ONE_CYCLE_START, learning_rate, done / _ONE_CYCLE_RISE)
        fall = (done - _ONE_CYCLE_RISE) / (1.0 - _ONE_CYCLE_RISE)
        fall = _half_wave(learning_rate, end_learning_rate, fall)
        return tf.where(done < _ONE_CYCLE_RISE, rise, fall)

    def rate(step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        if not warmup_steps:
            return decayed(step)
        return tf.minimum(learning_rate * step / warmup_steps, decayed(step))

    return rate


def _half_wave(start: float, end: float, done: tf.Tensor) -> tf.Tensor:
    """From `start` at 0 to `end` at 1, flat at both."""
    return end + (start - end) * 0.5 * (1.0 + tf.cos(math.pi * done))
