"""The jobs that write, small: how each is started, and what must hold of what it leaves."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets.conversion.destination import DATASET_JSON
from evaluation import published
from nets import checkpoints
from nets.checkpoints import find
from runs import config as run_config
from runs import trial_process
from runs.opened import open_run
from serving import export_config
from tests import tiny_net
from tests.conftest import COLOURS
from tests.forked import run_script
from training import validation

# Stands for train_image_classifier.py in a search: its training is killed by itself elsewhere.
_STAND_IN = """
import os, sys, time
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
with open(os.path.join(given["train_dir"], "history.csv"), "w") as file:
    file.write("step,loss,eval_accuracy\\n")
    for step in range(1, 6):
        file.write(f"{step},,{step / 5 - abs(float(given['learning_rate']) - 0.1)}\\n")
        file.flush()
        time.sleep(0.05)
"""


@dataclasses.dataclass(frozen=True)
class Job:
    """A script with its command line, and what is asked of a place that it writes to.

    Attributes:
      script: its file.
      words: its command line, from the place.
      former: fills a place with what an earlier and different command left.
      check_whole: asserts that no half file passes for a whole one, at any moment.
      check_finished: asserts that a place holds what the command makes; also gets the place of an
        undisturbed run.
      first: as of `forked.Script`.
    """

    script: str
    words: Callable[[pathlib.Path], list[str]]
    former: Callable[[pathlib.Path], None]
    check_whole: Callable[[pathlib.Path], None]
    check_finished: Callable[[pathlib.Path, pathlib.Path], None]
    first: Callable[[], None] | None = None

    def run(self, place: pathlib.Path, *more: str, first: Callable[[], None] | None = None):
        """Runs it to its end."""
        return run_script(
            self.script, *self.words(place), *more, first=_both(self.first, first), timeout=300
        )


def _both(*functions):
    present = [function for function in functions if function]
    return partial(_call_all, present) if present else None


def _call_all(functions) -> None:
    for function in functions:
        function()


def training(colours: pathlib.Path, *more: str) -> Job:
    """A dozen steps with an evaluation and a checkpoint every two."""

    def words(place):
        return [
            f"--dataset_dir={colours}",
            f"--train_dir={place}/run",
            *("--model_name=small_cnn", "--small_cnn_filters=4", "--small_cnn_dense_units=4"),
            *("--train_image_size=32", "--batch_size=8", "--max_number_of_steps=12"),
            *("--eval_every_n_steps=2", "--average_checkpoints=3", "--log_every_n_steps=2"),
            *("--deterministic", "--num_preprocessing_threads=1", *more),
        ]

    def former(place):
        pass  # a run is gone on with: what is there belongs to it

    def check_whole(place):
        run = place / "run"
        check_files(run)
        check_checkpoints(run)
        best = run / validation.FOLDER
        if checkpoints.latest(str(best)):
            assert open_run(str(best), say=_silent).step > 0
            check_files(best)

    def check_finished(place, undisturbed):
        check_whole(place)
        run, other = place / "run", undisturbed / "run"
        # A checkpoint that could not be recorded any more stays, whole and besides.
        more = _names(run) - _names(other)
        assert _names(other) <= _names(run) and all("model.ckpt-" in name for name in more), more
        for folder in ("", validation.FOLDER):
            found, expected = (checkpoints.read(str(one / folder)) for one in (run, other))
            assert found.names == expected.names
            for name in found.names:
                np.testing.assert_array_equal(found.get(name), expected.get(name), err_msg=name)
        assert (run / "best/best.json").read_text() == (other / "best/best.json").read_text()
        steps = [[int(row[0]) for row in _rows(one / "history.csv")[1:]] for one in (run, other)]
        # The first step after each start has a row besides.
        assert sorted({*steps[0]}) == steps[0] and {*steps[1]} <= {*steps[0]}

    return Job("train_image_classifier.py", words, former, check_whole, check_finished)


def conversion(photographs: pathlib.Path) -> Job:
    """A folder of photographs, with the report, in place of an earlier dataset or not."""

    def words(place):
        return [
            f"--image_dir={photographs}",
            f"--output_dir={place}/animals",
            *("--num_workers=2", "--num_shards=2", "--report", "--overwrite"),
        ]

    def former(place):
        done = run_script("convert_data.py", *words(place), "--num_shards=3", "--max_side=100")
        assert done.returncode == 0, done.stderr

    def check_whole(place):
        folder = place / "animals"
        check_files(folder)
        if not (folder / DATASET_JSON).exists():
            return
        content = json.loads((folder / DATASET_JSON).read_text())
        assert {*content["files"]} <= _names(folder)
        shards = [path.name for path in folder.glob("*.tfrecord")]
        assert {*shards} <= {*content["files"]}
        for name in shards:
            for record in tf.data.TFRecordDataset(str(folder / name)):
                assert record.numpy()  # and its checksum is right

    def check_finished(place, undisturbed):
        check_whole(place)
        assert _bytes(place / "animals") == _bytes(undisturbed / "animals")

    return Job("convert_data.py", words, former, check_whole, check_finished)


def evaluation(colours: pathlib.Path, trained: pathlib.Path) -> Job:
    """A tiny net on the validation split."""

    def words(place):
        return [
            f"--checkpoint_path={trained}",
            f"--dataset_dir={colours}",
            f"--eval_dir={place}/eval",
            "--dataset_split_name=validation",
        ]

    def former(place):
        done = run_script(
            "eval_image_classifier.py", *words(place), "--batch_size=2", "--max_num_batches=1"
        )
        assert done.returncode == 0, done.stderr

    def check_whole(place):
        folder = place / "eval"
        check_files(folder)
        if folder.exists():
            check_one_evaluation(folder)
            with published.settled(str(folder)):
                shown = {name for name in _names(folder) if not name.startswith(".")}
                assert shown in ({*published.FILES}, set())
                check_one_evaluation(folder)

    def check_finished(place, undisturbed):
        check_whole(place)
        folder, other = place / "eval", undisturbed / "eval"
        assert _names(folder) == _names(other) == {*published.FILES}
        for name in published.FILES:
            if name.endswith(".csv"):
                assert (folder / name).read_bytes() == (other / name).read_bytes()

    return Job("eval_image_classifier.py", words, former, check_whole, check_finished)


def export(colours: pathlib.Path, trained: pathlib.Path) -> Job:
    """A SavedModel and a frozen graph of a tiny net, in place of an earlier export or not."""

    def words(place):
        return [
            f"--checkpoint_path={trained}",
            f"--dataset_dir={colours}",
            f"--output_dir={place}/export",
            *("--overwrite", "--formats=saved_model,frozen_graph", "--check_examples=4"),
        ]

    def former(place):
        done = run_script("export_model.py", *words(place), "--formats=frozen_graph")
        assert done.returncode == 0, done.stderr

    def check_whole(place):
        folder = place / "export"
        if folder.exists():
            check_files(folder)
            config = export_config.load(str(folder / export_config.FILE_NAME))
            assert all((folder / file).exists() for file in config.files.values())
            if "saved_model" in config.files:
                tf.saved_model.load(str(folder / config.files["saved_model"]))

    def check_finished(place, undisturbed):
        check_whole(place)
        assert {path.name for path in place.iterdir()} == {"export"}
        assert _tree(place / "export") == _tree(undisturbed / "export")

    return Job("export_model.py", words, former, check_whole, check_finished)


def search(colours: pathlib.Path, folder: pathlib.Path) -> Job:
    """Four trials of a stand-in for training."""
    script = folder / "stand_in_for_training.py"
    script.write_text(_STAND_IN)
    return _search(colours, 4, partial(_stand_in, str(script)), "--num_epochs=10")


def search_of_trainings(colours: pathlib.Path) -> Job:
    """Two trials that train a small net."""
    net = ("--small_cnn_filters=4", "--small_cnn_dense_units=4", "--train_image_size=32")
    return _search(colours, 2, _attentive, "--num_epochs=2", "--batch_size=8", *net)


def _search(colours, trials: int, first: Callable[[], None], *more: str) -> Job:
    def words(place):
        return [
            f"--dataset_dir={colours}",
            f"--train_dir={place}/tuned",
            *("--model_name=small_cnn", f"--max_trials={trials}", *more),
            "--search=learning_rate=0.01:0.5",
        ]

    def former(place):
        pass  # a search is gone on with

    def check_whole(place):
        check_files(place / "tuned")
        for trial in (place / "tuned").glob("trial_*"):
            check_files(trial)
            check_checkpoints(trial)
        if (place / "tuned/study.db").exists():
            import sqlite3

            with sqlite3.connect(place / "tuned/study.db") as study:
                assert study.execute("pragma integrity_check").fetchone() == ("ok",)

    def check_finished(place, undisturbed):
        import optuna

        check_whole(place)
        storage = f"sqlite:///{place}/tuned/study.db"
        states = [
            trial.state.name for trial in optuna.load_study(study_name=None, storage=storage).trials
        ]
        assert states.count("COMPLETE") + states.count("PRUNED") >= trials, states
        assert {"study.db", "tuning.html"} <= _names(place / "tuned")

    return Job("tune_image_classifier.py", words, former, check_whole, check_finished, first)


def _stand_in(script: str) -> None:
    """In the process of a search: its trials are the stand-in, and it looks at them often."""
    _attentive()
    from runs import tune

    trial_process.SCRIPT, tune.POLL_SECS = script, 0.05


def _attentive() -> None:
    """In the process of a search: it soon takes the trial of a killed one for dead."""
    sys.path.insert(0, os.getcwd())
    from runs import tune

    tune.HEARTBEAT_SECS, tune.GRACE_SECS = 1, 2


def tiny_training(folder: pathlib.Path) -> pathlib.Path:
    """A training folder of a tiny net of the colours."""
    folder.mkdir()
    return pathlib.Path(tiny_net.train(folder, tuple(COLOURS)))


def photographs(folder: pathlib.Path, count: int = 60) -> pathlib.Path:
    """So many noisy pictures in each of three folders."""
    for i, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for j in range(count):
            noise = np.random.default_rng(count * i + j).integers(-40, 40, (120, 160, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{j}.jpg")
    return folder


def check_files(folder: pathlib.Path) -> None:
    """Asserts that each file directly in a folder that has its name is whole."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or path.name.endswith(".tmp") or path.is_dir():
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".csv":
            rows = _rows(path)
            assert len({len(row) for row in rows}) == 1 and content.endswith(b"\n"), path
        elif path.suffix == ".png":
            Image.open(io.BytesIO(content)).load()
        elif path.suffix == ".html":
            assert content.rstrip().endswith((b"</script>", b"</html>")), path
        elif path.suffix == ".pb":
            assert tf.compat.v1.GraphDef.FromString(content).node
        elif path.suffix == ".npz":
            assert np.load(path).files
        elif path.suffix == ".txt" and path.name != trial_process.LOG:  # which grows line by line
            assert content, path
    if (folder / run_config.FILE_NAME).exists():
        assert run_config.load(str(folder)).labels


def check_one_evaluation(folder: pathlib.Path) -> None:
    """Asserts that the files there are of one evaluation: they say one number of examples."""
    table = partial(_body_of, folder)
    counts = {
        "predictions.csv": len(table("predictions.csv")),
        "per_class.csv": sum(int(row[4]) for row in table("per_class.csv")),
        "confusion_matrix.csv": sum(
            int(n) for row in table("confusion_matrix.csv") for n in row[1:]
        ),
    }
    if (folder / published.METRICS).exists():
        content = json.loads((folder / published.METRICS).read_text())
        counts[published.METRICS] = content["num_examples"]
    if (folder / "report.html").exists():
        (found,) = {*re.findall(r"\d+ of (\d+) right", (folder / "report.html").read_text())}
        counts["report.html"] = int(found)
    assert len({*counts.values()} - {0}) <= 1, counts


def check_checkpoints(folder: pathlib.Path) -> None:
    """Asserts that each checkpoint that counts as one can be read, in the order of their steps."""
    known = find.in_order(str(folder))
    for prefix in known:
        reader = checkpoints.read(prefix)
        for name in reader.names:
            assert np.isfinite(reader.get(name)).all()
    steps = [int(re.search(r"ckpt-(\d+)", prefix)[1]) for prefix in known]
    assert steps == sorted(steps)


def new(folder: pathlib.Path, name: object) -> pathlib.Path:
    """An empty place in a folder."""
    place = folder / str(name)
    place.mkdir()
    return place


def _rows(path: pathlib.Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _body_of(folder: pathlib.Path, table: str) -> list[list[str]]:
    """The rows of a table without its heading; none where it isn't there."""
    return _rows(folder / table)[1:] if (folder / table).exists() else []


def _names(folder: pathlib.Path) -> set[str]:
    """Names in a folder, without events, trials, locks, and what a killed process began."""
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    return {n for n in names if "tfevents" not in n and not n.startswith(("trial_", ".lock"))}


def _tree(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _bytes(folder: pathlib.Path) -> dict[str, bytes]:
    """The files of a folder but for its page, which has the time in it."""
    return {n: (folder / n).read_bytes() for n in _names(folder) if not n.endswith(".html")}


def _silent(line: str) -> None:
    pass
