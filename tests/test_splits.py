import hashlib

import pytest

from datasets import splits
from datasets.splits import Choice

_DIGESTS = [hashlib.sha256(str(i).encode()).digest() for i in range(4000)]


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("test", [0.0, 0.2])
def test_the_fractions_are_kept(validation, test):
    chosen = [splits.by_hash(digest, validation, test) for digest in _DIGESTS]
    assert chosen.count("validation") / len(chosen) == pytest.approx(validation, abs=0.03)
    assert chosen.count("test") / len(chosen) == pytest.approx(test, abs=0.03)


def test_a_larger_fraction_only_takes_from_training():
    for digest in _DIGESTS:
        before, after = splits.by_hash(digest, 0.1, 0.1), splits.by_hash(digest, 0.3, 0.1)
        assert after == before or (before, after) == ("train", "validation")


def test_the_extremes():
    low, high = bytes(32), b"\xff" * 32
    assert splits.by_hash(low, 0.0, 0.0) == splits.by_hash(high, 0.0, 0.0) == "train"
    assert splits.by_hash(low, 0.001, 0.001) == "validation"
    assert splits.by_hash(high, 0.001, 0.001) == "test"


def test_without_a_word_a_fifth_is_for_validation():
    chosen = [Choice({""}).of("", digest) for digest in _DIGESTS]
    assert chosen.count("validation") / len(chosen) == pytest.approx(0.2, abs=0.03)
    assert "test" not in chosen


def test_splits_of_the_source_stay():
    choice = Choice({"train", "test", ""})
    for digest in _DIGESTS[:50]:
        assert choice.of("train", digest) == "train"
        assert choice.of("test", digest) == "test"
        assert choice.of("", digest) == "train"


def test_a_fraction_that_is_asked_for_is_taken_from_training():
    choice = Choice({"train", "test"}, validation_fraction=0.25)
    chosen = [choice.of("train", digest) for digest in _DIGESTS]
    assert chosen.count("validation") / len(chosen) == pytest.approx(0.25, abs=0.03)
    assert {choice.of("test", digest) for digest in _DIGESTS[:50]} == {"test"}


def test_a_split_that_is_there_is_not_made_again():
    with pytest.raises(ValueError, match="--validation_fraction=0.1: .* validation split already"):
        Choice({"train", "validation"}, validation_fraction=0.1)
    with pytest.raises(ValueError, match="--test_fraction=0.1: .* a test split already"):
        Choice({"test"}, test_fraction=0.1)


def test_something_must_be_left_for_training():
    with pytest.raises(ValueError, match="are 0.6 and 0.4 together: nothing is left for training"):
        Choice({""}, 0.6, 0.4)


@pytest.mark.parametrize(
    ("word", "split"),
    [("Train", "train"), (" val ", "validation"), ("valid", "validation"), ("TEST", "test"),
     ("cats", ""), ("", "")],
)  # fmt: skip
def test_names_of_splits(word, split):
    assert splits.named(word) == split


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("training_set", "train"),
        ("Test Images", "test"),
        ("val-data", "validation"),
        ("val2017", "validation"),
        ("2017", ""),
        ("set", ""),
        ("testament", ""),
    ],
)
def test_folders_may_call_a_split_a_set(word, split):
    assert splits.named(word) == split
