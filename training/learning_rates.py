"""Learning rates as functions of the step, in float32 as TensorFlow 1 computed them."""

import math
from collections.abc import Callable

import tensorflow as tf

from foundation.errors import InputError
from training.options import BatchOptions, ScheduleOptions

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


def epoch_of(batch: BatchOptions, num_examples: int, num_workers: int = 1) -> float:
    """Steps in an epoch of a run; `num_examples` are those of all workers together.

    TF-Slim counts an epoch by the batches that go into an update, and by one clone's.
    """
    together = batch.accumulation(num_workers) * num_workers
    return steps_per_epoch(num_examples, batch.batch_size, together)


def decay_steps(options: ScheduleOptions, epoch: float) -> int:
    """Steps of one exponential decay, and of all of the polynomial one."""
    return max(1, int(epoch * options.num_epochs_per_decay))


def create(options: ScheduleOptions, epoch: float, total_steps: int | None = None) -> Schedule:
    """A function from the step, counted from 0, to the rate of that step (float32 scalar).

    fixed: one rate. exponential: times a factor after each whole `num_epochs_per_decay`.
    polynomial: straight down to `end_learning_rate` within `num_epochs_per_decay`. cosine: half a
    wave down to it within `total_steps`. one_cycle: up from a 25th of `learning_rate` in the first
    30 % of `total_steps`, then down to `end_learning_rate`. During a warm-up of W steps the rate is
    at most `learning_rate * step / W`, so 0 at step 0.

    Args:
      options: the kind of schedule and its rates.
      epoch: steps in an epoch, of `steps_per_epoch`.
      total_steps: length of the run; None where it has none.

    Raises:
      InputError: the kind needs `total_steps`.
    """
    kind, start, end = (
        options.learning_rate_decay_type,
        options.learning_rate,
        options.end_learning_rate,
    )
    warmup_steps = options.warmup_steps or options.warmup_epochs * epoch
    one_decay = decay_steps(options, epoch)
    if kind in ("cosine", "one_cycle") and not total_steps:
        raise InputError(
            "spreads over the whole run:",
            option="learning_rate_decay_type",
            value=kind,
            remedy="give its length by --max_number_of_steps or --num_epochs.",
        )

    def decayed(step: tf.Tensor) -> tf.Tensor:
        if kind == "fixed":
            return tf.constant(start, tf.float32)
        if kind == "exponential":
            return start * tf.pow(options.learning_rate_decay_factor, tf.floor(step / one_decay))
        if kind == "polynomial":
            left = 1.0 - tf.minimum(step, one_decay) / one_decay
            return (start - end) * left + end
        done = tf.minimum(step / total_steps, 1.0)
        if kind == "cosine":
            return _half_wave(start, end, done)
        rise = _half_wave(start * _ONE_CYCLE_START, start, done / _ONE_CYCLE_RISE)
        fall = _half_wave(start, end, (done - _ONE_CYCLE_RISE) / (1.0 - _ONE_CYCLE_RISE))
        return tf.where(done < _ONE_CYCLE_RISE, rise, fall)

    def rate(step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        if not warmup_steps:
            return decayed(step)
        return tf.minimum(start * step / warmup_steps, decayed(step))

    return rate


def _half_wave(start: float, end: float, done: tf.Tensor) -> tf.Tensor:
    """From `start` at 0 to `end` at 1, flat at both."""
    return end + (start - end) * 0.5 * (1.0 + tf.cos(math.pi * done))
