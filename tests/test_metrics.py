"""Metrics against counts by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from evaluation import metrics
from evaluation.log_probabilities import LogProbabilities

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


def test_wilson_intervals_of_many_shares():
    low, high = metrics.wilson_intervals(np.array([81, 0, 10]), np.array([263, 0, 10]))
    assert (low[0], high[0]) == metrics.wilson_interval(81, 263)
    assert np.isnan([low[1], high[1]]).all()
    assert high[2] == 1.0


def averages_of(labels, predictions, count):
    confusion = metrics.confusion_matrix(labels, predictions, count)
    return metrics.averages(confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal())


@pytest.mark.parametrize("seed", range(5))
def test_averages_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, 50)
    predictions = np.where(random.random(50) < 0.5, labels, random.integers(0, 8, 50))
    found = averages_of(labels, predictions, 9)  # 6 and 7 are only predicted, 8 is nowhere
    for kind in ("macro", "weighted"):
        expected = sklearn.precision_recall_fscore_support(
            labels, predictions, labels=np.unique(labels), average=kind, zero_division=0
        )
        names = (f"{kind}_{name}" for name in ("precision", "recall", "f1"))
        assert [found[name] for name in names] == pytest.approx(expected[:3])
    assert found["matthews"] == pytest.approx(sklearn.matthews_corrcoef(labels, predictions))
    assert found["cohen_kappa"] == pytest.approx(sklearn.cohen_kappa_score(labels, predictions))


@pytest.mark.filterwarnings("error")
def test_one_class_leaves_agreement_undefined():
    found = averages_of(np.zeros(4, int), np.zeros(4, int), 1)
    assert found["macro_f1"] == found["weighted_recall"] == 1.0
    assert np.isnan(found["matthews"]) and np.isnan(found["cohen_kappa"])


def test_ranking_scores_are_of_all_examples(tmp_path):
    random = np.random.default_rng(1)
    # Rounded, so that some tie.
    logs = np.log(random.dirichlet(np.ones(4), 50)).round(1).astype(np.float32)
    labels = random.integers(0, 3, 50)  # class 3 has no example
    kept = LogProbabilities(str(tmp_path), 4)
    for part in np.array_split(logs, 7):
        kept.append(part)
    found, slopes = metrics.ranking_scores(kept, labels)
    for number in range(3):
        expected = sklearn.roc_auc_score(labels == number, logs[:, number])
        assert found.roc_auc[number] == pytest.approx(expected, abs=1e-6)
        expected = sklearn.average_precision_score(labels == number, logs[:, number])
        assert found.average_precision[number] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found.roc_auc[3]) and np.isnan(found.average_precision[3])
    only, _ = metrics.ranking_scores(kept, np.zeros(50, int))
    assert np.isnan(only.roc_auc).all()
    assert np.abs(np.sum(slopes, axis=1)).max() < 1e-9
    # An example more, or a hundredth of one more, as scikit-learn weighs it.
    for k in range(0, 50, 6):
        weights = np.ones(50)
        weights[k] += 0.001
        for name, score in (
            ("roc_auc", sklearn.roc_auc_score),
            ("average_precision", sklearn.average_precision_score),
        ):
            changed, plain = (
                np.mean(
                    [
                        score(labels == number, logs[:, number], sample_weight=w)
                        for number in range(3)
                    ]
                )
                for w in (weights, np.ones(50))
            )
            slope = getattr(slopes, name)[k] / 50
            assert slope == pytest.approx((changed - plain) / 0.001, abs=1e-4)


def test_slopes_of_too_many_numbers_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "_MOST_SLOPES", 7)
    kept = LogProbabilities(str(tmp_path), 2)
    kept.append(np.log([[0.2, 0.8]] * 4))
    assert metrics.ranking_scores(kept, np.array([0, 1, 1, 0]))[1] is None
