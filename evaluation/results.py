"""The numbers of an evaluation, as metrics.json has them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation import calibration, metrics
from evaluation.evaluator import Evaluation


def numbers(found: Evaluation) -> dict[str, Any]:
    """Name → number, None where there is no such number; NAME_interval_95 → its ends.

    Shares are in 0..1, the loss is the mean cross entropy, and the Brier score is in 0..2. The
    intervals of shares are Wilson's, the others are bootstrapped from the examples. The areas under
    curves and the calibration errors have none.
    """
    values: dict[str, Any] = {"accuracy": found.accuracy}
    values |= {f"recall_{k}": found.recall_at(k) for k in found.recalls}
    intervals = {
        # A share of N examples is a whole number of them.
        name: metrics.wilson_interval(round(share * found.num_examples), found.num_examples)
        for name, share in values.items()
    }
    columns = {"loss": found.losses, "brier": found.briers}
    values |= {name: column.mean() for name, column in columns.items()}
    values |= metrics.averages(
        found.scores.support, found.scores.predicted, found.confusion.diagonal()
    )
    intervals |= metrics.mean_intervals(columns)
    intervals |= metrics.averages_intervals(found.confusion)
    values |= _areas(found)
    confidences, correct = found.top_probabilities[:, 0], found.correct
    for name, adaptive in (("ece", False), ("ece_adaptive", True)):
        bins = calibration.reliability(confidences, correct, adaptive=adaptive)
        values[name] = bins.error
    return {
        **_plain(values),
        **{f"{name}_interval_95": _plain(list(ends)) for name, ends in intervals.items()},
        "num_correct": found.num_correct,
        "num_examples": found.num_examples,
        "num_classes": found.num_classes,
        "classes_without_examples": int(np.sum(found.scores.support == 0)),
        "images_per_second": found.num_examples / found.seconds if found.seconds else None,
    }


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
