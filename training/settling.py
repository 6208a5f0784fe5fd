"""Batch norm over a run: the decay is checked first, the statistics renewed and measured last."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from foundation.errors import InputError
from training import batch_norm
from training.distribution import Distribution
from training.options import BatchNormOptions
from training.trainee import Trainee

# The longest time that measuring may take.
_COMPARISON_SECS = 30.0


def check(
    model: keras.Model,
    options: BatchNormOptions,
    last_step: int | None,
    say: Callable[[str], None],
) -> None:
    """Warns of a decay too slow for the run; raises InputError where none can be renewed."""
    if last_step is not None and (slow := batch_norm.too_slow(model, last_step)):
        say(f"Warning: {slow}")
    if options.recalibrate_batch_norm and not batch_norm.moving(model):
        raise InputError(
            "there is no batch norm in this run whose statistics move. Leave the flag out.",
            option="recalibrate_batch_norm",
            value=options.recalibrate_batch_norm,
        )


def recalibrate(
    trainee: Trainee,
    distribution: Distribution,
    batches: Iterator,
    count: int,
    prepare: Callable[[object], tf.Tensor],
) -> None:
    """Replaces the moving statistics by means over `count` batches, those of the averages too.

    `prepare` makes what the net takes of a batch's images.
    """
    batch_norm.recalibrate(distribution.strategy, trainee.learner, batches, count, prepare)
    if trainee.averages:
        with trainee.averages.in_place():
            batch_norm.recalibrate(distribution.strategy, trainee.learner, batches, count, prepare)


def measure(
    trainee: Trainee,
    distribution: Distribution,
    batches: Iterator,
    recalibrated: bool,
    prepare: Callable[[object], tf.Tensor],
    say: Callable[[str], None],
) -> None:
    """Says how well the moving statistics fit the weights, and what to do if they don't."""
    with trainee.with_averages():
        found = batch_norm.compare(
            distribution.strategy,
            trainee.learner,
            batches,
            max_seconds=_COMPARISON_SECS,
            agree=distribution.agree,
            prepare=prepare,
        )
    if found is None:
        return
    say(str(found))
    if found.parted:
        remedy = "run this command again with --recalibrate_batch_norm=100, or train longer"
        remedy = "train longer" if recalibrated else remedy
        say(
            "Warning: the moving statistics lag behind the weights, and evaluation will be as "
            f"poor: {remedy} or with a lower --batch_norm_decay."
        )
