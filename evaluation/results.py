"""The numbers of an evaluation, as metrics.json has them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation import bootstrap, calibration, metrics
from evaluation.evaluator import Evaluation

# Calibration errors: whether their bins have as many examples each.
_CALIBRATION = {"ece": False, "ece_adaptive": True}


def numbers(found: Evaluation) -> dict[str, Any]:
    """Name → number, None where there is no such number; NAME_interval_95 → its ends.

    Shares are in 0..1, the loss is the mean cross entropy, and the Brier score is in 0..2. The
    intervals of shares are Wilson's, the others are bootstrapped from the examples, those of the
    areas under curves to first order.
    """
    shares = {"accuracy": found.accuracy}
    shares |= {f"recall_{k}": found.recall_at(k) for k in found.recalls}
    intervals = {
        # A share of N examples is a whole number of them.
        name: metrics.wilson_interval(round(share * found.num_examples), found.num_examples)
        for name, share in shares.items()
    }
    values = {"loss": found.losses.mean(), "brier": found.briers.mean()}
    values |= metrics.averages(
        found.scores.support, found.scores.predicted, found.confusion.diagonal()
    )
    values |= _areas(found)
    confidences, correct = found.top_probabilities[:, 0], found.correct
    for name, adaptive in _CALIBRATION.items():
        values[name] = calibration.reliability(confidences, correct, adaptive=adaptive).error
    intervals |= _bootstrapped(found, values)
    return {
        **_plain(shares | values),
        **{f"{name}_interval_95": _plain(list(ends)) for name, ends in intervals.items()},
        "num_correct": found.num_correct,
        "num_examples": found.num_examples,
        "num_classes": found.num_classes,
        "classes_without_examples": int(np.sum(found.scores.support == 0)),
        "images_per_second": found.num_examples / found.seconds if found.seconds else None,
    }


def _bootstrapped(found: Evaluation, values: Mapping[str, float]) -> dict[str, bootstrap.Interval]:
    """The intervals of all but the shares."""
    count, ones = found.num_examples, np.ones(found.num_examples)
    columns = {"loss": found.losses, "brier": found.briers}
    if found.ranking_slopes is not None:
        columns |= {
            name: values[name] + slopes for name, slopes in found.ranking_slopes._asdict().items()
        }
    sums = bootstrap.Sums(count)
    for name, column in columns.items():
        sums.add(name, column, np.zeros(count, int), 1)
    for name, added, classes in (
        ("support", ones, found.labels),
        ("predicted", ones, found.predictions),
        ("right", found.correct, found.labels),
    ):
        sums.add(name, added, classes, found.num_classes)
    confidences = found.top_probabilities[:, 0]
    for name, adaptive in _CALIBRATION.items():
        places = calibration.bins(confidences, adaptive=adaptive)
        sums.add(name, confidences - found.correct, places, calibration.NUM_BINS)

    def numbers(drawn: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        means = {name: drawn[name][:, 0] / count for name in columns}
        gaps = {name: np.abs(drawn[name]).sum(axis=1) / count for name in _CALIBRATION}
        averages = metrics.averages(drawn["support"], drawn["predicted"], drawn["right"])
        return means | gaps | averages

    ends = bootstrap.intervals(sums, numbers, {name: values[name] for name in _CALIBRATION})
    # What is computed to first order may leave the range.
    for name in metrics.RankingScores._fields:
        if name in ends:
            ends[name] = tuple(min(max(end, 0.0), 1.0) for end in ends[name])
    return ends


def _areas(found: Evaluation) -> dict[str, float]:
    """Means over the classes that have examples, where the probabilities of all are kept."""
    if found.ranking is None:
        return {}
    defined = {
        name: column[np.isfinite(column)] for name, column in found.ranking._asdict().items()
    }
    return {name: part.mean() if part.size else math.nan for name, part in defined.items()}


def _plain(value: Any) -> Any:
    """JSON's own types: floats of Python, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None
