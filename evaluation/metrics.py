"""Numbers that compare predicted classes with true ones.

scikit-learn and SciPy compute what is known by name. They are imported where they are needed: it
takes seconds, and training evaluates without them.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from evaluation.log_probabilities import LogProbabilities

# Examples times classes up to which slopes are computed: it doubles the time of the ranking scores.
_MOST_SLOPES = 2**28


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


class RankingSlopes(NamedTuple):
    """How the means of `RankingScores` depend on each of N examples, float64 [N].

    Were example k counted w_k times, the mean would be larger by the mean of w_k times its slope,
    to first order (the infinitesimal jackknife).
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


def ranking_scores(
    log_probabilities: LogProbabilities, labels: np.ndarray
) -> tuple[RankingScores, RankingSlopes | None]:
    """Area under the ROC curve and average precision of each class against all others.

    Only one class of all examples is in memory at a time.

    Args:
      log_probabilities: of N examples and C classes.
      labels: int [N].

    Returns:
      the scores, and the slopes of their means; None where N times C is above some 270 million.
    """
    counts = np.bincount(labels)
    areas, precisions = np.full((2, log_probabilities.num_classes), np.nan)
    defined = np.flatnonzero((counts > 0) & (counts < len(labels)))
    has_slopes = len(labels) * log_probabilities.num_classes <= _MOST_SLOPES
    slopes = np.zeros((2, len(labels)))
    for number in defined:
        scores, is_it = log_probabilities.of_class(number), labels == number
        places = _Places.of(scores, is_it)
        areas[number], precisions[number] = places.area, places.precision
        if has_slopes:
            slopes += places.slopes(scores, is_it)
    slopes /= max(len(defined), 1)
    return RankingScores(areas, precisions), RankingSlopes(*slopes) if has_slopes else None


@dataclasses.dataclass(frozen=True)
class _Places:
    """Where the n examples of a class stand among all N, from the lowest score on.

    Attributes:
      own: float [n], their scores.
      own_lower, own_upto: int [n], how many of them have a lower score, and at most the same.
      lower, upto: the same of all examples.
      count: N.
    """

    own: np.ndarray
    own_lower: np.ndarray
    own_upto: np.ndarray
    lower: np.ndarray
    upto: np.ndarray
    count: int

    @classmethod
    def of(cls, scores: np.ndarray, is_it: np.ndarray) -> "_Places":
        every, own = np.sort(scores), np.sort(scores[is_it])
        sides = [np.searchsorted(x, own, side) for x in (own, every) for side in ("left", "right")]
        return cls(own, *sides, len(scores))

    @property
    def won(self) -> np.ndarray:
        """float64 [n], the share of the others that each of the class is above; ties are half."""
        others_lower, others_upto = self.lower - self.own_lower, self.upto - self.own_upto
        return (others_lower + others_upto) / (2 * (self.count - len(self.own)))

    @property
    def precisions(self) -> np.ndarray:
        """float64 [n], the class's share of the examples that have at least each one's score."""
        return (len(self.own) - self.own_lower) / (self.count - self.lower)

    @property
    def area(self) -> float:
        """scikit-learn's roc_auc_score."""
        return float(self.won.mean())

    @property
    def precision(self) -> float:
        """scikit-learn's average_precision_score."""
        return float(self.precisions.mean())

    def slopes(self, scores: np.ndarray, is_it: np.ndarray) -> np.ndarray:
        """float64 [2, N], see `RankingSlopes`, of this class's area and average precision."""
        n, total = len(self.own), self.count
        below, upto = (np.searchsorted(self.own, scores, side) for side in ("left", "right"))
        # What an example lends to the precision of each of the class at or below it.
        taken = total - self.lower
        own_taken = n - self.own_lower
        for_own, for_other = (
            np.concatenate([[0.0], np.cumsum(part / taken**2)])[upto]
            for part in (taken - own_taken, -own_taken)
        )
        area = np.where(is_it, 0.0, (1 - (below + upto) / (2 * n) - self.area) / (total - n))
        precision = np.where(is_it, for_own, for_other) / n
        # Those of the class, in the order of their scores.
        place = np.flatnonzero(is_it)[np.argsort(scores[is_it], kind="stable")]
        area[place] = (self.won - self.area) / n
        precision[place] += (self.precisions - self.precision) / n
        return total * np.stack([area, precision])


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


def macro_average(scores: np.ndarray, support: np.ndarray) -> float:
    """Mean over the classes that have examples, each counting the same."""
    return float(np.mean(scores[support > 0]))


def most_confused(confusion: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """The most frequent errors as (true class, predicted class, how often), most frequent first."""
    rows, columns = np.nonzero(confusion)  # the other cells, nearly all, are not worth sorting
    wrong = rows != columns
    rows, columns = rows[wrong], columns[wrong]
    times = confusion[rows, columns]
    first = np.argsort(-times, kind="stable")[:count]
    return list(zip(*(part[first].tolist() for part in (rows, columns, times)), strict=True))


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
