"""Checkpoints that come while a training goes on."""

import glob
import json
import os
import threading

import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError, UsageError
from foundation.options import check
from nets import checkpoints, nets_factory
from runs import checks, watch
from runs import config as run_config
from runs.options import EvaluateOptions
from tests.test_validation_data import LABELS, NET, SIZE, place, silent  # noqa: F401


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_figures):
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.01)


@pytest.fixture
def write(place, tmp_path):  # noqa: F811
    """Writes a checkpoint of a step, and the run.json first, as a training does."""
    values = checkpoints.values(nets_factory.build(NET, len(LABELS), SIZE, 3))
    train_dir = tmp_path / "train"

    def write_step(step):
        train_dir.mkdir(exist_ok=True)
        config = run_config.RunConfig(
            NET, len(LABELS), LABELS, SIZE, "lenet", dataset_dir=str(place)
        )
        run_config.save(str(train_dir), config)
        prefix = str(train_dir / f"model.ckpt-{step}")
        checkpoints.write(prefix, {**values, "global_step": np.int64(step)})

    return write_step


def options_for(tmp_path, **given):
    return EvaluateOptions.of(
        checkpoint_path=str(tmp_path / "train"),
        dataset_split_name="validation",
        eval_dir=str(tmp_path / "eval"),
        eval_interval_secs=0,
        **given,
    )


def curve(folder):
    """Step and accuracy in TensorBoard, in the order in which it reads the files."""
    found = []
    for path in sorted(glob.glob(f"{folder}/events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(path):
            found += [event.step for value in event.summary.value if value.tag == "eval/Accuracy"]
    return found


def test_each_new_checkpoint_is_evaluated_once(write, tmp_path):
    """The folder comes later; one checkpoint is deleted as soon as it is found."""
    options = options_for(tmp_path, max_number_of_evaluations=2)
    lines = []

    def say(line):
        lines.append(line)
        if "Waiting for the next one" in line:
            write(3)
        elif line.startswith("eval/Accuracy") and not os.path.exists(tmp_path / "deleted"):
            (tmp_path / "deleted").touch()
            write(2)

    real = watch.evaluate

    def evaluate(given, say):
        if given.checkpoint.checkpoint_path.endswith("-2"):
            for path in glob.glob(f"{given.checkpoint.checkpoint_path}.*"):
                os.remove(path)
        return real(given, say)

    timer = threading.Timer(0.3, write, [1])
    timer.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "evaluate", evaluate)
        assert watch.watch(options, say) == 2
    timer.join()
    assert sum("model.ckpt-2 was deleted while it was read" in line for line in lines) == 1
    assert json.loads((tmp_path / "eval/metrics.json").read_text())["global_step"] == 3
    assert curve(tmp_path / "eval") == [1, 3]


def test_stops_when_nothing_new_comes(write, tmp_path):
    lines = []
    assert watch.watch(options_for(tmp_path, timeout_secs=0.05), lines.append) == 0
    assert lines[-1] == "No new checkpoint for 0.05 seconds: 0 were evaluated."
    write(5)
    assert watch.watch(options_for(tmp_path, timeout_secs=0.05), lines.append) == 1
    assert lines[-1] == "No new checkpoint for 0.05 seconds: 1 were evaluated."


def test_a_damaged_checkpoint_that_is_there_is_an_error(write, tmp_path):
    write(1)
    (tmp_path / "train/model.ckpt-1.index").write_bytes(b"damaged")
    with pytest.raises(InputError, match="model.ckpt-1"):
        watch.watch(options_for(tmp_path, timeout_secs=1), silent)


def test_options_that_make_no_sense(tmp_path):
    with pytest.raises(UsageError, match="--timeout_secs needs --eval_interval_secs"):
        check(EvaluateOptions.of(timeout_secs=3))
    with pytest.raises(UsageError, match="is of one checkpoint"):
        check(EvaluateOptions.of(eval_interval_secs=3, fit_temperature=True))
    (tmp_path / "train.index").touch()
    with pytest.raises(InputError, match="Name the folder"):
        checks.watching(options_for(tmp_path))
