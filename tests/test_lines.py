"""Lines for people and for machines."""

import json
import os

import numpy as np
import pytest

from foundation import lines
from foundation.lines import LEVELS, Line, Printer, errors_held_back

LINES = (
    "step 1",
    "Warning: slow",
    Line("step 2  loss 1.5", "progress", step=2, loss=np.float32(1.5)),
)


def printed(capsys, printer):
    for line in LINES:
        printer.say(line)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("verbosity", "count"), list(zip(LEVELS, (0, 1, 3, 3), strict=True)))
def test_a_level_shows_those_before_it(capsys, verbosity, count):
    assert len(printed(capsys, Printer(verbosity))) == count
    assert len(printed(capsys, Printer(verbosity, as_json=True))) == count


def test_names_in_a_line_neither_turn_nor_clear_the_terminal(capsys):
    for name in ("\u202egnp.exe", "\x1b[2Jgone", "a\rb", "a\u2028b"):
        Printer().say(f"{name}: 1\u202f000\u00a0pictures")
        Printer().note(name)
    shown = "".join(capsys.readouterr())
    assert not set("\u202e\x1b\r") & set(shown)
    assert shown.startswith("�gnp.exe: 1\u202f000\u00a0pictures\n�[2Jgone")


def test_json_has_a_lines_level_event_and_numbers(capsys):
    first, second, third = map(json.loads, printed(capsys, Printer(as_json=True)))
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "info", "event": "line", "message": "step 1"}
    assert (second["level"], second["message"]) == ("warning", "slow")
    assert (third["event"], third["step"], third["loss"]) == ("progress", 2, 1.5)
    assert third["message"] == LINES[2]


def test_what_is_not_finite_is_null_and_counts_stay_whole(capsys):
    printer = Printer(as_json=True)
    numbers = {"loss": np.float32("nan"), "rate": float("inf"), "count": np.int64(3), "on": True}
    printer.say(Line("x", "progress", metrics=numbers))
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["metrics"]
    assert found == {"loss": None, "rate": None, "count": 3, "on": True}


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_that_nobody_can_raise_ends_like_all_others(capsys, monkeypatch, as_json):
    monkeypatch.setattr("sys.argv", ["folder/train_image_classifier.py"])
    printer = Printer("error", as_json)
    printer.say(Line("Error: worker 1 is gone.", "end", exit_code=75))
    out, errors = capsys.readouterr()
    assert errors == "train_image_classifier.py: error: worker 1 is gone.\n"
    said = [json.loads(line) for line in out.splitlines()]
    assert [(one["event"], one["level"], one["exit_code"]) for one in said] == (
        [("end", "error", 75)] if as_json else []
    )


def test_notes_go_beside_answers(capsys):
    Printer().note("photo.tiff was left out")
    Printer("error").note("another")
    assert capsys.readouterr() == ("", "photo.tiff was left out\n")
    Printer(as_json=True).note("photo.tiff was left out")
    assert json.loads(capsys.readouterr().out)["level"] == "warning"


def test_what_libraries_write_is_held_back_unless_asked_for_or_needed(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    with errors_held_back():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError), errors_held_back():
        os.write(2, b"the reason\n")
        raise ValueError
    assert capfd.readouterr().err == "the reason\n"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with errors_held_back():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == "chatter\n"


@pytest.mark.parametrize(("verbosity", "as_json"), [("info", True), ("warning", False)])
def test_bars_are_hidden_where_lines_are_for_machines_or_left_out(monkeypatch, verbosity, as_json):
    assert lines.bars_hidden() is None  # the terminal decides
    monkeypatch.setattr(lines, "printer", Printer(verbosity, as_json))
    assert lines.bars_hidden() is True
