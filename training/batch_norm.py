"""Batch norm's moving statistics: whether they fit the weights, and how to make them fit.

In training a batch norm normalises by its batch, in evaluation by moving averages. Where these
averages lag behind the weights, a net is good in training and poor in evaluation.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nets import layers, slim_names

# Share of the initial moving statistics that may remain at the end of the run.
_INITIAL_SHARE = 0.01
# The lowest decay that is advised; a lower one would hardly average.
_LOWEST_ADVISED = 0.5
# A difference between two accuracies that counts, where it is beyond chance too.
_PARTED = 0.05
# So many batches take no longer than a graph of them takes to make; benchmarks/RESULTS.md.
_BATCHES_WITHOUT_GRAPH = 4


def moving(model: keras.Model) -> list[layers.BatchNorm]:
    """The batch norms whose statistics training moves."""
    norms = (layer for layer in model.layers if isinstance(layer, layers.BatchNorm))
    return [norm for norm in norms if norm.trainable and not norm.frozen]


def freeze(model: keras.Model, trained: Collection[str]) -> None:
    """Batch norms without a variable in `trained`, by slim name, use their stored statistics."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNorm):
            own = {slim_names.slim_name(variable) for variable in layer.trainable_weights}
            layer.frozen = own.isdisjoint(trained)


def synchronize(model: keras.Model) -> None:
    """Batch norms normalise by the batches of all replicas together."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNorm):
            layer.synchronized = True


class SlowDecay(NamedTuple):
    """A decay, the steps that it needs, and the decay that fits the steps there are."""

    decay: float
    needed: int
    fitting: float
    steps: int

    def __str__(self) -> str:
        return (
            f"batch norm averages its statistics with decay {self.decay:g}, which takes about "
            f"{self.needed} steps; this run has {self.steps}, so its evaluation may be far worse "
            f"than its training. Add --batch_norm_decay={self.fitting:g}."
        )


def too_slow(model: keras.Model, steps: int) -> SlowDecay | None:
    """The slowest decay, where `steps` are too few for it; else None."""
    decay = max((norm.decay for norm in moving(model)), default=0.0)
    if decay**steps < _INITIAL_SHARE or decay <= _LOWEST_ADVISED:
        return None
    needed = round(math.log(_INITIAL_SHARE) / math.log(decay))
    # One digit of 1 - decay, rounded to the side that is fast enough.
    rate = math.log(1 / _INITIAL_SHARE) / steps
    place = -math.floor(math.log10(rate))
    rate = math.ceil(rate * 10**place) / 10**place
    return SlowDecay(decay, needed, max(_LOWEST_ADVISED, round(1 - rate, place)), steps)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Accuracies, 0 to 1, on the same `num_examples` training images without dropout.

    `training` normalises by each batch as training does, `evaluation` by the moving statistics.
    """

    training: float
    evaluation: float
    num_examples: int

    @property
    def parted(self) -> bool:
        """Whether evaluation is worse by more than chance explains."""
        # Twice the deviation of the difference of two shares. It is an upper bound, since both are
        # of the same images.
        spread = sum(share * (1 - share) for share in (self.training, self.evaluation))
        chance = 2 * math.sqrt(spread / self.num_examples)
        return self.training - self.evaluation > max(_PARTED, chance)

    def __str__(self) -> str:
        return (
            f"Batch norm: of the same {self.num_examples} training images {self.training:.1%} are "
            f"right by their batches' statistics, {self.evaluation:.1%} by the moving ones that "
            "evaluation uses."
        )


def compare(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    batches: Iterable[Mapping[str, tf.Tensor]],
    num_examples: int = 256,
    max_seconds: float = math.inf,
    agree: Callable[[bool], bool] = lambda wish: wish,
    prepare: Callable[[Any], tf.Tensor] = lambda images: images,
) -> Comparison | None:
    """Measures what the moving statistics cost; changes nothing.

    Args:
      strategy: that the net was built under.
      model: net whose outputs are a dict with "logits".
      batches: of {"image": float32 [N, H, W, C], "label": int [N] or float [N, num_classes]}, as
        the strategy hands them to its replicas.
      num_examples: how many are enough.
      max_seconds: after which no further batch is begun.
      agree: of `distribution.Distribution`; several workers must see as many batches each.
      prepare: what batches have as "image" → images for the net.

    Returns:
      None where the net has no batch norm that training moves.
    """
    if not moving(model):
        return None

    def correct(batch):
        images, labels = prepare(batch["image"]), batch["label"]
        classes = labels if labels.shape.rank == 1 else tf.argmax(labels, axis=-1)

        def count():
            logits = model(images, training=False)["logits"]
            right = tf.equal(tf.argmax(logits, axis=-1), tf.cast(classes, tf.int64))
            return tf.reduce_sum(tf.cast(right, tf.int64))

        with layers.batch_statistics(0.0):
            by_batch = count()
        return tf.stack([by_batch, count(), tf.shape(labels, tf.int64)[0]])

    def of_all_replicas(batch):
        return strategy.run(correct, args=(batch,))

    graph = tf.function(of_all_replicas, autograph=False)
    # Of one replica, a graph takes as long to make as several batches take.
    run = graph if strategy.num_replicas_in_sync > 1 else of_all_replicas
    began, sums = time.monotonic(), np.zeros(3, np.int64)
    for batch in batches:
        sums += np.sum(strategy.experimental_local_results(run(batch)), axis=0)
        if agree(sums[2] >= num_examples or time.monotonic() - began > max_seconds):
            break
        if num_examples > _BATCHES_WITHOUT_GRAPH * sums[2]:
            run = graph
    return Comparison(*(sums[:2] / sums[2]).tolist(), int(sums[2]))


def recalibrate(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    batches: Iterable[Mapping[str, tf.Tensor]],
    count: int,
    prepare: Callable[[Any], tf.Tensor] = lambda images: images,
) -> None:
    """Replaces moving statistics by the means over `count` batches.

    The weights stand still meanwhile, so that the statistics are theirs alone (Wu and Johnson,
    "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3). Frozen batch norms keep what
    they have.

    Args:
      strategy, model, batches, prepare: as `compare` takes them; images as in training.
      count: of the batches, each of them of all replicas together.
    """
    statistics = [v for norm in moving(model) for v in (norm.moving_mean, norm.moving_variance)]

    @tf.function(autograph=False)
    def take(batch):
        def forward(batch):
            with layers.batch_statistics(1.0):
                model(prepare(batch["image"]), training=False)

        strategy.run(forward, args=(batch,))

    sums, done = [np.zeros(part.shape) for part in statistics], 0
    for batch in itertools.islice(batches, count):
        take(batch)
        done += 1
        for total, part in zip(sums, statistics, strict=True):
            total += np.asarray(tf.convert_to_tensor(part.value))
    for total, part in zip(sums, statistics, strict=True):
        part.assign((total / done).astype(np.float32))
