"""Options: the same checks in Python and on the command line."""

import dataclasses
import pickle

import pytest

from foundation import options as foundation_options
from foundation.errors import InputError, UsageError
from foundation.options import Options, group, option, options


@options
class Schedule(Options):
    """Learning rate."""

    learning_rate: float = option(0.01, "First.", bounds=(0, None))
    decay: str = option("fixed", "How.", choices=("fixed", "cosine"))
    scopes: tuple[str, ...] = option((), "Which.")
    folder: str | None = option(None, "Where.", path=True)
    data: str | None = option(None, "Of what.", path=True, remote=True)

    def check(self):
        if self.decay == "cosine" and not self.scopes:
            raise UsageError("needs --scopes.", option="decay", value=self.decay)


@options
class Job(Options):
    """A job."""

    schedule: Schedule = group(Schedule, decay="cosine")
    verbose: bool = option(False, "Whether.")


def test_given_are_the_options_set_by_hand_be_it_to_their_default():
    assert Schedule(learning_rate=0.01).given == {"learning_rate"}
    assert Schedule().replace(decay="cosine").given == {"decay"}
    assert Job().schedule.given == frozenset()
    assert Job().schedule.decay == "cosine"
    changed = foundation_options.changed(Job(), {"learning_rate": 0.1})
    assert foundation_options.given_values(changed) == {"learning_rate": 0.1}
    assert changed.schedule.decay == "cosine"
    assert pickle.loads(pickle.dumps(changed)).schedule.given == {"learning_rate"}


def test_values_out_of_bounds_are_refused_wherever_they_come_from():
    with pytest.raises(UsageError, match=r"--learning_rate=-1: write a number of at least 0\."):
        Schedule(learning_rate=-1)
    with pytest.raises(UsageError, match=r"--learning_rate=nan: write a number of at least 0\."):
        Schedule(learning_rate=float("nan"))
    with pytest.raises(UsageError, match=r"--decay=cosinus: unknown. Choose of fixed, cosine\."):
        Schedule(decay="cosinus")
    with pytest.raises(UsageError, match=r"--decay=cosine: needs --scopes\."):
        foundation_options.check(Job())
    foundation_options.check(Job(schedule=Schedule(decay="cosine", scopes=["a"])))


def test_text_is_read_by_the_annotation():
    known = {one.name: one for one in foundation_options.listed(Schedule)}
    assert known["scopes"].read("a, b,") == ("a", "b")
    assert known["learning_rate"].read("1e-3") == 1e-3
    with pytest.raises(UsageError, match="--learning_rate=much: write a number"):
        known["learning_rate"].read("much")


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Schedule(folder="~/run").folder == "/home/somebody/run"


def test_a_path_is_of_this_machine_unless_it_may_be_elsewhere():
    assert Schedule(data="gs://bucket/animals").data == "gs://bucket/animals"
    assert Schedule(folder="file:///runs/a").folder == "/runs/a"
    with pytest.raises(UsageError, match="--folder=gs://bucket/run: it lies on this machine"):
        Schedule(folder="gs://bucket/run")


def test_groups_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Schedule().decay = "fixed"


def test_an_error_can_be_about_another_option():
    error = InputError("there is no such split.", option="dataset_split_name", value="x")
    assert str(error.about("eval_split_name", "Name another.")) == (
        "--eval_split_name=x: there is no such split. Name another."
    )
