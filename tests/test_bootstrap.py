"""Bootstrapped intervals against known ones and a plain bootstrap with scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from evaluation import bootstrap, calibration, evaluator, results
from evaluation.log_probabilities import LogProbabilities


def evaluation(folder, logits, labels):
    """What the evaluator makes of logits, float [N, C]."""
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    kept = LogProbabilities(str(folder), logits.shape[1])
    kept.append(logs)
    order = np.argsort(-logs, axis=1)
    probabilities, true = np.exp(logs), logs[np.arange(len(labels)), labels]
    return evaluator.Evaluation(
        class_names=tuple(map(str, range(logits.shape[1]))),
        filenames=tuple(map(str, range(len(labels)))),
        labels=labels,
        top_classes=order,
        top_probabilities=np.take_along_axis(probabilities, order, axis=1),
        ranks=np.sum(logs > true[:, None], axis=1),
        losses=-true,
        briers=np.sum(probabilities**2, axis=1) - 2 * np.exp(true) + 1,
        seconds=1.0,
        log_probabilities=kept,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 500)
    logits = random.normal(size=(500, 4)) + 1.2 * np.eye(4)[labels]
    return evaluation(tmp_path_factory.mktemp("logs"), 2 * logits, labels)


@pytest.fixture(scope="module")
def numbers(found):
    return results.numbers(found)


def test_it_is_seeded(found, numbers):
    assert results.numbers(found) == numbers


def test_it_is_as_wide_as_wilsons(numbers):
    # Recall weighted by the classes' examples is the accuracy, of which Wilson's is known.
    expected = numbers["accuracy_interval_95"]
    assert numbers["weighted_recall_interval_95"] == pytest.approx(expected, abs=0.006)


def test_it_is_what_a_plain_bootstrap_gives(found, numbers):
    random = np.random.default_rng(1)
    scores = [np.exp(found.log_probabilities.of_class(i)) for i in range(4)]
    plain = {name: [] for name in ("roc_auc", "average_precision", "macro_f1", "brier", "ece")}
    for _ in range(150):
        drawn = random.integers(500, size=500)
        labels, predictions = found.labels[drawn], found.predictions[drawn]
        for name, score in (
            ("roc_auc", sklearn.roc_auc_score),
            ("average_precision", sklearn.average_precision_score),
        ):
            plain[name].append(np.mean([score(labels == i, scores[i][drawn]) for i in range(4)]))
        plain["macro_f1"].append(sklearn.f1_score(labels, predictions, average="macro"))
        plain["brier"].append(found.briers[drawn].mean())
        confidences, right = found.top_probabilities[drawn, 0], labels == predictions
        plain["ece"].append(calibration.reliability(confidences, right).error)
    for name, values in plain.items():
        low, high = np.percentile(values, [2.5, 97.5])
        if name == "ece":  # larger in resamples, and so shifted
            low, high = (end + numbers["ece"] - np.mean(values) for end in (low, high))
        width = high - low
        assert numbers[f"{name}_interval_95"] == pytest.approx([low, high], abs=0.2 * width), name


def test_each_number_lies_in_its_interval(numbers):
    names = [name for name in numbers if f"{name}_interval_95" in numbers]
    assert {"roc_auc", "average_precision", "ece", "ece_adaptive", "loss"} <= set(names)
    for name in names:
        low, high = numbers[f"{name}_interval_95"]
        assert low < numbers[name] < high, name


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_one_class_and_certain_answers(tmp_path):
    alone = results.numbers(evaluation(tmp_path, np.zeros((4, 1)), np.zeros(4, int)))
    assert alone["macro_f1_interval_95"] == [1, 1]
    assert alone["matthews_interval_95"] == [None, None] == alone["roc_auc_interval_95"]
    labels = np.array([0, 1, 0, 1])
    right = results.numbers(evaluation(tmp_path, 9.0 * np.eye(2)[labels], labels))
    assert right["roc_auc_interval_95"] == [1, 1] == right["average_precision_interval_95"]


def test_bins_are_those_of_the_diagram(found):
    confidences = found.top_probabilities[:, 0]
    for adaptive in (False, True):
        counts = np.bincount(calibration.bins(confidences, adaptive=adaptive), minlength=15)
        expected = calibration.reliability(confidences, found.correct, adaptive=adaptive).count
        assert counts[counts > 0].tolist() == expected.tolist()


def test_draws_are_of_all_examples_and_add_up():
    blocks = list(bootstrap._draws(3, 0))
    assert sum(map(len, blocks)) == bootstrap.NUM_RESAMPLES
    assert (blocks[0].sum(axis=1) == 3).all() and (blocks[0].mean(axis=0) > 0.9).all()
