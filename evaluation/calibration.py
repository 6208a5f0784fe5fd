"""Whether probabilities can be trusted: calibration error, its diagram, and the temperature.

Guo et al. (2017), On Calibration of Modern Neural Networks: of the examples that a net is sure of
by 80 %, 80 % should be right. A temperature T, by which the logits are divided, corrects a net that
is too sure (T > 1) or not sure enough (T < 1), and changes no prediction.
"""

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from evaluation.log_probabilities import LogProbabilities
from evaluation.report import pictures
from evaluation.report.words import ENGLISH, Words
from foundation.errors import InputError

NUM_BINS = 15
# Temperatures are looked for between these two.
LOWEST, HIGHEST = 0.01, 100.0


class Reliability(NamedTuple):
    """Examples in B bins by the probability of the predicted class; empty bins are left out.

    Attributes:
      low, high: float64 [B], between which probabilities the bin lies.
      count: int64 [B], its examples.
      confidence: float64 [B], their mean probability.
      accuracy: float64 [B], the share of them that is right.
    """

    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, 0..1: the mean gap of confidence and accuracy."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.average(gaps, weights=self.count))


def reliability(
    confidences: np.ndarray, correct: np.ndarray, *, adaptive: bool = False
) -> Reliability:
    """Sorts N examples into NUM_BINS bins.

    Args:
      confidences: float [N], probability of the predicted class, 0..1.
      correct: bool [N], whether it is the true one.
      adaptive: bins of as many examples each, where not of the same width.
    """
    order = np.argsort(confidences, kind="stable")
    ordered, right = confidences[order], correct[order]
    edges = np.linspace(0, 1, NUM_BINS + 1)
    starts = _starts(ordered, adaptive)
    filled = np.flatnonzero(np.diff(starts))
    first, end = starts[filled], starts[filled + 1]
    count = end - first
    # An edge of an adaptive bin is its own first or last example.
    low = ordered[first] if adaptive else edges[filled]
    high = ordered[end - 1] if adaptive else edges[filled + 1]
    sums = [np.add.reduceat(values.astype(np.float64), first) for values in (ordered, right)]
    return Reliability(low, high, count, sums[0] / count, sums[1] / count)


def bins(confidences: np.ndarray, *, adaptive: bool = False) -> np.ndarray:
    """int [N], the bin of each example, 0 to NUM_BINS - 1; arguments as of `reliability`."""
    order = np.argsort(confidences, kind="stable")
    found = np.empty(len(order), int)
    found[order] = np.repeat(np.arange(NUM_BINS), np.diff(_starts(confidences[order], adaptive)))
    return found


def _starts(ordered: np.ndarray, adaptive: bool) -> np.ndarray:
    """int [NUM_BINS + 1], where each bin begins among ascending confidences, and the last ends."""
    if adaptive:
        return np.arange(NUM_BINS + 1) * len(ordered) // NUM_BINS
    # A bin's upper edge belongs to it.
    starts = np.searchsorted(ordered, np.linspace(0, 1, NUM_BINS + 1), side="right")
    starts[0], starts[-1] = 0, len(ordered)
    return starts


def fit_temperature(log_probabilities: LogProbabilities, labels: np.ndarray) -> float:
    """The temperature at which the log loss of the examples is least.

    The loss is convex in 1 / T; the examples are read from the disk once for each of some thirty
    temperatures.

    Args:
      log_probabilities: of N examples, not yet divided by a temperature.
      labels: int [N], the true classes.

    Raises:
      InputError: there is none in LOWEST..HIGHEST: all examples are right, or the net says nothing
        of their classes.
    """
    from scipy import optimize

    def loss(log_temperature: float) -> float:
        start, total = 0, 0.0
        for logs in _divided(log_probabilities, float(np.exp(log_temperature))):
            own = labels[start : start + len(logs)]
            total -= logs[np.arange(len(logs)), own].sum()
            start += len(logs)
        return total / start

    bounds = np.log([LOWEST, HIGHEST])
    found = optimize.minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}
    ).x
    # At an end the loss still falls, or is flat because all probabilities are 0 or 1.
    if loss(bounds[0]) <= loss(found) or loss(bounds[1]) <= loss(found):
        raise InputError(
            f"No temperature between {LOWEST} and {HIGHEST:g} is best for these "
            f"{len(labels)} examples: all are right, or the net does not tell their classes apart.",
            remedy="Leave --fit_temperature out, or fit it on more examples.",
        )
    return float(np.exp(found))


def confidences_at(log_probabilities: LogProbabilities, temperature: float) -> np.ndarray:
    """float64 [N], the probabilities of the predicted classes when divided by a temperature."""
    parts = [np.exp(logs.max(axis=1)) for logs in _divided(log_probabilities, temperature)]
    return np.concatenate(parts)


def _divided(log_probabilities: LogProbabilities, temperature: float) -> Iterator[np.ndarray]:
    """Log probabilities at a temperature, float64 [B, C] at a time."""
    for block in log_probabilities.blocks():
        logits = block.astype(np.float64) / temperature
        yield logits - logsumexp(logits, axis=1, keepdims=True)


def diagram(found: Reliability, title: str, words: Words = ENGLISH) -> bytes:
    """The reliability diagram as a PNG: accuracy over confidence, and how many examples are where.

    Args:
      found: of bins of the same width.
      title: says of what.
      words: of the language that its axes have.
    """
    # Imported here because it takes a second, which training need not spend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 6.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    widths = found.high - found.low
    bars = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
    above.bar(
        found.low, found.accuracy, widths, color="#2f6fab", label=words("share right"), **bars
    )
    gap = np.abs(found.confidence - found.accuracy)
    lower = np.minimum(found.confidence, found.accuracy)
    above.bar(
        found.low, gap, widths, lower, color="#d1495b", alpha=0.35, label=words("gap"), **bars
    )
    above.plot([0, 1], [0, 1], color="#555555", linestyle="--", label=words("as sure as right"))
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel=words("share of the examples that is right"))
    error = words(
        "Expected calibration error {error}, {count} examples",
        error=words.number(found.error, 3),
        count=words.count(int(found.count.sum())),
    )
    lines = "\n".join([*textwrap.wrap(title, 60), error])
    above.set_title(lines.replace("$", r"\$"), fontsize=11)
    above.legend(loc="upper left")
    below.bar(found.low, found.count / found.count.sum(), widths, color="#7a8794", **bars)
    below.set(xlabel=words("probability of the predicted class"), ylabel=words("share"))
    return pictures.png(figure)
