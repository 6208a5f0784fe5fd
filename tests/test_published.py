"""The files of an evaluation take their places together, whatever moment a process is killed at."""

import os
import signal
import sys

import pytest

from evaluation import published
from foundation import files
from foundation.errors import InputError
from tests import forked
from tests.faults import plugs


def publish(folder, content, number=None):
    """Writes `content` to each file; the process is killed before its change `number`."""
    folder.mkdir(exist_ok=True)
    if number is not None:
        plugs.at_change(str(folder), number, plugs.kill)
    with published.publishing(str(folder)) as place:
        for name in published.FILES:
            with open(os.path.join(place, name), "w") as file:
                file.write(content)


def killed_at_each_change(place):
    """Publishes "new" beside "former" in folder after folder, once without a kill at the end."""
    files.settle = lambda path: None  # against losses of power, which no kill is
    for number in range(100):
        publish(place / str(number), "former")
        if os.fork() == 0:
            publish(place / str(number), "new", number)
            os._exit(0)
        _, end = os.wait()
        if end != signal.SIGKILL:
            sys.exit(end)


def contents(folder):
    return {
        name: (folder / name).read_text() for name in published.FILES if (folder / name).exists()
    }


def whole(content):
    return dict.fromkeys(published.FILES, content)


def test_a_kill_before_any_change_leaves_no_mixture(tmp_path, monkeypatch):
    """Who reads the files then gets all of one evaluation, and the next one leaves its own."""
    monkeypatch.setattr(files, "settle", lambda path: None)
    process = forked.context().Process(target=killed_at_each_change, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    *killed, undisturbed = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    ends = set()
    for folder in killed:
        assert len({*contents(folder).values()}) <= 1, folder
        with published.settled(str(folder)):
            assert contents(folder) in (whole("former"), whole("new")), folder
        ends |= {*contents(folder).values()}
        publish(folder, "next")
        assert contents(folder) == whole("next") and {*os.listdir(folder)} == {*published.FILES}
    assert len(killed) > 3 * len(published.FILES) and ends == {"former", "new"}
    assert contents(undisturbed) == whole("new")


def test_what_killed_evaluations_of_earlier_versions_left_is_removed(tmp_path):
    (tmp_path / "metrics.json.123.tmp").touch()
    publish(tmp_path, "new")
    assert {*os.listdir(tmp_path)} == {*published.FILES}


def test_files_that_can_not_be_moved_are_refused_in_one_line(tmp_path):
    publish(tmp_path / "made", "new")
    eval_dir = tmp_path / "eval"
    (eval_dir / "report.html").mkdir(parents=True)  # stands for what permissions would do
    os.rename(tmp_path / "made", eval_dir / ".evaluation.whole")
    with pytest.raises(InputError, match="an evaluation was ended while .* Evaluate again"):
        with published.settled(str(eval_dir)):
            pass
