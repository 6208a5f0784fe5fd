"""Numbers that compare predicted classes with true ones.

scikit-learn and SciPy compute what is known by name. They are imported where they are needed: it
takes seconds, and training evaluates without them.
"""

from typing import NamedTuple

import numpy as np


class ClassScores(NamedTuple):
    """Scores of each class, float64 [C] in 0..1, and counts, int64 [C].

    recall and f1 are NaN for classes without examples; precision is 0 for classes never predicted.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray  # examples of the class
    predicted: np.ndarray  # examples that were taken for it


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 [C, C]: row the true class, column the predicted one.

    Args:
      labels, predictions: int [N], in 0..num_classes-1.
    """
    from sklearn import metrics

    return metrics.confusion_matrix(labels, predictions, labels=range(num_classes))


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
    from scipy import stats

    interval = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
