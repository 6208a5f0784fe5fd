"""Calibration errors by hand, and temperatures that were put in."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax

from evaluation import calibration
from evaluation.log_probabilities import LogProbabilities
from foundation.errors import InputError


def kept(folder, logs):
    found = LogProbabilities(str(folder), logs.shape[1])
    for part in np.array_split(logs, 3):
        found.append(part)
    return found


def test_bins_by_hand():
    confidences = np.array([0.0, 0.05, 1 / 15, 0.5, 0.51, 1.0])
    correct = np.array([0, 0, 1, 1, 0, 1], bool)
    found = calibration.reliability(confidences, correct)
    # (0, 1/15] holds its upper edge; 0 is in the first.
    assert found.count.tolist() == [3, 2, 1]
    np.testing.assert_allclose(found.low, [0, 7 / 15, 14 / 15])
    np.testing.assert_allclose(found.high, [1 / 15, 8 / 15, 1])
    np.testing.assert_allclose(found.confidence, [(0.05 + 1 / 15) / 3, 0.505, 1.0])
    np.testing.assert_allclose(found.accuracy, [1 / 3, 0.5, 1.0])
    gaps = (1 / 3 - found.confidence[0]) * 3 + 0.005 * 2
    assert found.error == pytest.approx(gaps / 6)


def test_adaptive_bins_hold_as_many_each():
    random = np.random.default_rng(0)
    confidences = random.beta(8, 1, 300)
    found = calibration.reliability(confidences, random.random(300) < 0.5, adaptive=True)
    assert found.count.tolist() == [20] * 15
    assert found.low[0] == confidences.min() and found.high[-1] == confidences.max()
    few = calibration.reliability(np.array([0.4, 0.9]), np.array([True, False]), adaptive=True)
    assert few.count.tolist() == [1, 1] and few.error == pytest.approx((0.6 + 0.9) / 2)


def test_calibrated_answers_have_little_error():
    random = np.random.default_rng(1)
    confidences = random.uniform(0.2, 1, 100_000)
    correct = random.random(100_000) < confidences
    for adaptive in (False, True):
        assert calibration.reliability(confidences, correct, adaptive=adaptive).error < 0.01


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_finds_the_temperature_that_was_put_in(tmp_path, temperature):
    """Labels are drawn from a net's true probabilities; its logits are then made too sure."""
    random = np.random.default_rng(2)
    true = log_softmax(random.normal(0, 1.5, (40_000, 10)), axis=1)
    labels = np.argmax(true + random.gumbel(size=true.shape), axis=1)
    sure = log_softmax(true * temperature, axis=1)
    probabilities = kept(tmp_path, sure)
    found = calibration.fit_temperature(probabilities, labels)
    assert found == pytest.approx(temperature, rel=0.02)
    correct = np.argmax(true, axis=1) == labels
    before = calibration.reliability(np.exp(sure.max(axis=1)), correct).error
    after = calibration.confidences_at(probabilities, found)
    assert calibration.reliability(after, correct).error < 0.01
    if temperature > 2:
        assert before > 0.1


def test_answers_without_a_best_temperature(tmp_path):
    right = kept(tmp_path, log_softmax(np.eye(3) * 4, axis=1))
    with pytest.raises(InputError, match="all are right"):
        calibration.fit_temperature(right, np.arange(3))
    wrong = kept(tmp_path, log_softmax(np.eye(3) * 4, axis=1))
    with pytest.raises(InputError, match="for these 3 examples"):
        calibration.fit_temperature(wrong, np.array([1, 2, 0]))
    even = kept(tmp_path, np.log(np.full((3, 3), 1 / 3)))
    with pytest.raises(InputError, match="does not tell their classes apart"):
        calibration.fit_temperature(even, np.arange(3))


def test_diagram():
    found = calibration.reliability(np.linspace(0, 1, 50), np.arange(50) % 3 == 0)
    with Image.open(io.BytesIO(calibration.diagram(found, "Reliability of $a net$"))) as picture:
        assert picture.format == "PNG" and min(picture.size) > 400
