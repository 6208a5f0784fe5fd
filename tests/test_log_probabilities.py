"""Probabilities of all classes on disk."""

import gc
import warnings

import numpy as np
import pytest

from evaluation import log_probabilities
from evaluation.log_probabilities import LogProbabilities


@pytest.mark.parametrize("block_values", [1, 30, 1000])
def test_gives_back_what_was_put_in(tmp_path, monkeypatch, block_values):
    monkeypatch.setattr(log_probabilities, "_BLOCK_VALUES", block_values)
    rows = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
    kept = LogProbabilities(str(tmp_path), 7)
    for part in (rows[:10], rows[10:11], rows[11:]):
        kept.append(part)
    assert len(kept) == 23
    assert np.array_equal(np.concatenate(list(kept.blocks())), rows)
    for number in range(7):
        assert np.array_equal(kept.of_class(number), rows[:, number])
    kept.append(rows[:2])
    assert np.array_equal(kept.of_class(6), np.append(rows[:, 6], rows[:2, 6]))


def test_empty(tmp_path):
    kept = LogProbabilities(str(tmp_path), 3)
    assert len(kept) == 0 and list(kept.blocks()) == [] and kept.of_class(2).shape == (0,)


def test_leaves_no_file(tmp_path):
    kept = LogProbabilities(str(tmp_path), 3)
    kept.append(np.zeros((5, 3)))
    assert list(kept.blocks())[0].shape == (5, 3)
    assert list(tmp_path.iterdir()) == []


def test_closes_its_file(tmp_path):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        LogProbabilities(str(tmp_path), 3).append(np.zeros((5, 3)))
        gc.collect()
    assert found == []
