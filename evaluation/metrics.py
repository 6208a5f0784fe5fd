"""Numbers that compare predicted classes with true ones. NumPy only; counts, never averages of
averages."""

import math
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
    cells = np.asarray(labels, np.int64) * num_classes + predictions
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Scores of each class from a confusion matrix."""
    correct, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    absent = support == 0
    precision = correct / np.maximum(predicted, 1)
    recall = np.where(absent, np.nan, correct / np.maximum(support, 1))
    f1 = np.where(absent, np.nan, 2 * correct / np.maximum(support + predicted, 1))
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
    z = 1.959964  # 97.5 % quantile of the normal distribution
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    margin = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - margin), min(1.0, middle + margin)
