"""Numbers that compare predicted classes with true ones.

scikit-learn and SciPy compute what is known by name. They are imported where they are needed: it
takes seconds, and training evaluates without them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from evaluation.log_probabilities import LogProbabilities

# Of each bootstrap; what changes from seed to seed is then below a tenth of an interval.
NUM_RESAMPLES = 1000
# Counts that one step of a bootstrap holds in memory: 32 MiB.
_DRAWN_AT_ONCE = 2**22


class ClassScores(NamedTuple):
    """Scores of each class, float64 [C] in 0..1, and counts, int64 [C].

    recall and f1 are NaN for classes without examples; precision is 0 for classes never predicted.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray  # examples of the class
    predicted: np.ndarray  # examples that were taken for it


class RankingScores(NamedTuple):
    """Of each class against all others, float64 [C] in 0..1.

    NaN for a class that has no examples or all of them.
    """

    roc_auc: np.ndarray
    average_precision: np.ndarray


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 [C, C]: row the true class, column the predicted one.

    Args:
      labels, predictions: int [N], in 0..num_classes-1.
    """
    cells = labels * num_classes + predictions
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> ClassScores:
    """Scores of each class; arguments as of `confusion_matrix`."""
    from sklearn import metrics

    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(num_classes), zero_division=0
    )
    absent = support == 0
    recall, f1 = np.where(absent, np.nan, recall), np.where(absent, np.nan, f1)
    predicted = np.bincount(predictions, minlength=num_classes)
    return ClassScores(precision, recall, f1, support, predicted)


def ranking_scores(log_probabilities: LogProbabilities, labels: np.ndarray) -> RankingScores:
    """Area under the ROC curve and average precision of each class against all others.

    Only one class of all examples is in memory at a time.

    Args:
      log_probabilities: of N examples and C classes.
      labels: int [N].
    """
    counts = np.bincount(labels)
    areas, precisions = np.full((2, log_probabilities.num_classes), np.nan)
    for number in np.flatnonzero((counts > 0) & (counts < len(labels))):
        scores = log_probabilities.of_class(number)
        areas[number], precisions[number] = _ranking(scores, labels == number)
    return RankingScores(areas, precisions)


def _ranking(scores: np.ndarray, is_it: np.ndarray) -> tuple[float, float]:
    """scikit-learn's roc_auc_score and average_precision_score, from one sort for both.

    For each example of the class it counts those of all examples, and of the class, that have a
    lower score, and the same.
    """
    every, own = np.sort(scores), np.sort(scores[is_it])
    num_others = len(every) - len(own)
    lower, own_lower = np.searchsorted(every, own), np.searchsorted(own, own)
    upto, own_upto = (np.searchsorted(part, own, side="right") for part in (every, own))
    others_lower, others_upto = lower - own_lower, upto - own_upto
    area = np.mean((others_lower + others_upto) / (2 * num_others))
    precision = np.mean((len(own) - own_lower) / (len(every) - lower))
    return float(area), float(precision)


def averages(support: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Averages over the classes and measures of agreement, from counts of each class.

    Macro averages are over the classes that have examples, weighted ones weigh by their number.
    Matthews' coefficient and Cohen's kappa are NaN where all examples and all predictions are of
    one class.

    Args:
      support, predicted, right: int [..., C]; examples of the class, those taken for it, and those
        of it taken for it. Leading axes are resamples.

    Returns:
      name → float64 [...], in -1..1.
    """
    support, predicted, right = (np.asarray(n, np.float64) for n in (support, predicted, right))
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    total = support.sum(axis=-1)
    present = (support > 0).sum(axis=-1)
    found = {}
    for name, scores in (("precision", precision), ("recall", recall), ("f1", f1)):
        found[f"macro_{name}"] = np.where(support > 0, scores, 0).sum(axis=-1) / present
        found[f"weighted_{name}"] = (support * scores).sum(axis=-1) / total
    by_chance = (support * predicted).sum(axis=-1)
    agreement = right.sum(axis=-1) * total - by_chance
    spread = (total**2 - (support**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    one_class = total**2 == by_chance
    # Where one class takes all predictions, Matthews' coefficient is 0 by its limit.
    matthews = agreement / np.sqrt(np.where(spread > 0, spread, 1))
    kappa = agreement / np.where(one_class, 1, total**2 - by_chance)
    found["matthews"] = np.where(one_class, np.nan, matthews)
    found["cohen_kappa"] = np.where(one_class, np.nan, kappa)
    return found


def averages_intervals(confusion: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % confidence intervals of `averages`, by the bootstrap.

    To draw N examples with replacement is to draw the cells of the confusion matrix that they are
    in. So the examples themselves are not needed.
    """
    from scipy import sparse

    rows, columns = np.nonzero(confusion)
    cells = confusion[rows, columns]
    places = np.arange(len(cells))

    def sums(keep: np.ndarray, classes: np.ndarray) -> sparse.csr_matrix:
        shape = len(cells), len(confusion)
        return sparse.csr_matrix((keep.astype(np.float64), (places, classes)), shape=shape)

    all_cells = np.ones(len(cells))
    by_class = [sums(all_cells, rows), sums(all_cells, columns), sums(rows == columns, rows)]
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // max(len(cells), len(confusion)))
    resamples: dict[str, list[np.ndarray]] = {}
    for first in range(0, NUM_RESAMPLES, at_once):
        count = min(at_once, NUM_RESAMPLES - first)
        drawn = random.multinomial(cells.sum(), cells / cells.sum(), size=count)
        for name, values in averages(*(drawn @ part for part in by_class)).items():
            resamples.setdefault(name, []).append(values)
    return {name: _middle(np.concatenate(parts)) for name, parts in resamples.items()}


def mean_intervals(
    columns: Mapping[str, np.ndarray], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % confidence intervals of the means of columns, float [N] each, by the bootstrap."""
    table = np.stack(list(columns.values()))
    count = table.shape[1]
    random = np.random.default_rng(seed)
    means = np.stack(
        [table[:, random.integers(count, size=count)].mean(axis=1) for _ in range(NUM_RESAMPLES)]
    )
    return {name: _middle(means[:, i]) for i, name in enumerate(columns)}


def _middle(resamples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the resamples that have a value; NaN where none has."""
    finite = resamples[np.isfinite(resamples)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def macro_average(scores: np.ndarray, support: np.ndarray) -> float:
    """Mean over the classes that have examples, each counting the same."""
    return float(np.mean(scores[support > 0]))


def most_confused(confusion: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """The most frequent errors as (true class, predicted class, how often), most frequent first."""
    errors = confusion - np.diag(confusion.diagonal())
    cells = np.argsort(-errors, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(cells, errors.shape)
    found = zip(rows.tolist(), columns.tolist(), errors[rows, columns].tolist(), strict=True)
    return [(row, column, times) for row, column, times in found if times]


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % confidence interval of a share, by Wilson's formula; good for small counts too."""
    low, high = wilson_intervals(np.array([correct]), np.array([total]))
    return float(low[0]), float(high[0])


def wilson_intervals(correct: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of `wilson_interval` for many shares, float64 like the counts; NaN where total is 0."""
    z = 1.959963984540054  # of the normal distribution, 97.5 % lie below
    count = np.where(total > 0, total, np.nan)
    share = correct / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    # Of none and of all the formula gives 0 and 1, but for rounding.
    low, high = np.where(share == 0, 0.0, middle - half), np.where(share == 1, 1.0, middle + half)
    return low, high
