"""Metrics against counts by hand."""

import numpy as np
import pytest

from evaluation import metrics

LABELS = np.array([0, 0, 0, 1, 1, 3])
PREDICTIONS = np.array([0, 0, 1, 1, 0, 0])
CONFUSION = [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_confusion_matrix_has_true_classes_as_rows():
    confusion = metrics.confusion_matrix(LABELS, PREDICTIONS, 4)
    assert confusion.tolist() == CONFUSION
    assert confusion.dtype == np.int64


def test_class_scores():
    scores = metrics.class_scores(LABELS, PREDICTIONS, 4)
    np.testing.assert_allclose(scores.precision, [2 / 4, 1 / 2, 0, 0])
    np.testing.assert_allclose(scores.recall, [2 / 3, 1 / 2, np.nan, 0])
    np.testing.assert_allclose(scores.f1, [4 / 7, 1 / 2, np.nan, 0])
    assert scores.support.tolist() == [3, 2, 0, 1]
    assert scores.predicted.tolist() == [4, 2, 0, 0]


def test_macro_average_leaves_out_classes_without_examples():
    scores = metrics.class_scores(LABELS, PREDICTIONS, 4)
    expected = (2 / 3 + 1 / 2 + 0) / 3
    assert metrics.macro_average(scores.recall, scores.support) == pytest.approx(expected)


def test_most_confused():
    assert metrics.most_confused(np.array(CONFUSION), 10) == [(0, 1, 1), (1, 0, 1), (3, 0, 1)]
    assert metrics.most_confused(np.array([[5, 1], [7, 5]]), 1) == [(1, 0, 7)]
    assert metrics.most_confused(np.diag([3, 4]), 10) == []


def test_wilson_interval():
    # R: prop.test(81, 263, correct = FALSE)
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert metrics.wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert metrics.wilson_interval(0, 10)[0] == 0.0
