import pytest

from datasets.conversion import summary
from datasets.conversion.destination import Destination
from datasets.conversion.tally import Conversion
from datasets.findings import Effect, Finding


def _lines(classes, counts=None, findings=(), dry_run=False):
    counts = counts or {"train": dict.fromkeys(classes, 2)}
    conversion = Conversion(tuple(classes), counts, ["a.tfrecord"], list(findings))
    return "\n".join(summary.lines(conversion, Destination("out", "pets"), dry_run))


@pytest.mark.parametrize(
    "alike", [("Healthy", "healthy"), ("big cat", "big-cat"), ("epagneul", "épagneul")]
)
def test_classes_that_look_alike_are_named(alike):
    said = _lines(["dog", *alike])
    assert (
        f"Warning: classes that differ only in case, blanks or accents: {', '.join(alike)}" in said
    )


def test_a_number_and_its_negative_do_not_look_alike():
    assert "Warning" not in _lines(["-1", "0", "1"])


def test_classes_that_are_numbers_but_not_their_own():
    said = _lines(["0", "1", "10", "2"])
    assert "class names are numbers, and not those of the labels: label 2 is class 10." in said
    assert "Warning" not in _lines(["0", "1", "2"])
    assert "Warning" not in _lines(["4", "many"])


def test_a_class_without_validation_photographs_and_one_class_alone_are_warned_of():
    counts = {"train": {"cat": 3, "dog": 2}, "validation": {"cat": 1}}
    said = _lines(["cat", "dog"], counts)
    assert "Warning: no validation photograph of the classes dog (1)." in said
    assert "Warning: there is one class only, cat: " in _lines(["cat"])


def test_a_dataset_for_training_alone_is_told_so():
    note = "No photograph is held back for an evaluation"
    assert note in _lines(["cat", "dog"])
    counts = {"train": {"cat": 3, "dog": 2}, "test": {"cat": 1, "dog": 1}}
    assert note not in _lines(["cat", "dog"], counts)
    assert note not in _lines(["cat", "dog"], {"all": {"cat": 3, "dog": 2}})


def test_many_photographs_without_annotation_are_warned_of():
    findings = [Finding(f"{i}.jpg", "no annotation", Effect.LEFT_OUT) for i in range(9)]
    assert "Warning: 9 photographs have no annotation" in _lines(["a", "b"], findings=findings)
    assert "Warning" not in _lines(["a", "b"], findings=findings[:2])
