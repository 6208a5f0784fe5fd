import csv
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.conftest import events
from training import curves
from training.loop import Progress
from training.summaries import RunLog


def progress(step, loss):
    return Progress(step, {"main": loss, "loss": loss + 1}, 0.01, 120.0, 0.02, 0.1, 3.0)


def rows(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_events_that_cant_be_written_are_an_error_of_the_folder(tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    log = RunLog(str(tmp_path), 0)
    monkeypatch.setattr(tf.summary, "scalar", full)
    with pytest.raises(OSError, match=f"{tmp_path}: events can't be written: No space left"):
        log.progress(progress(10, 2.0))


def test_a_log_line_reaches_tensorboard_history_and_curves(tmp_path):
    log = RunLog(str(tmp_path), 0)
    log.progress(progress(10, 2.0))
    log.progress(progress(20, 1.0))
    log.images(np.linspace(-1, 1, 5 * 8 * 8 * 3, dtype=np.float32).reshape(5, 8, 8, 3), 20)
    log.save()
    log.plot()
    log.close("FINISHED")
    assert [row["step"] for row in rows(tmp_path)] == ["10", "20"]
    assert float(rows(tmp_path)[1]["loss"]) == 2.0
    found = events(tmp_path)
    assert [(step, tf.make_ndarray(t).item()) for step, t in found["losses/total"]] == [
        (10, 3.0),
        (20, 2.0),
    ]
    assert {"losses/main", "learning_rate", "speed/images_per_second", "inputs"} <= set(found)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (800, 900)


def test_rows_of_a_lost_stretch_go_when_the_run_resumes(tmp_path):
    log = RunLog(str(tmp_path), 0)
    for step in (10, 20, 30):
        log.progress(progress(step, 1.0))
    log.save()
    log.close("FINISHED")
    resumed = RunLog(str(tmp_path), 20)
    resumed.progress(progress(25, 9.0))
    resumed.save()
    resumed.close("FINISHED")
    assert [row["step"] for row in rows(tmp_path)] == ["10", "20", "25"]


@pytest.mark.parametrize(
    "damage", ["step,loss\n10,1.5\n20,\x00oo\n", "step,loss\n10,1.5\n20,1,2,3\n", "loss\n1.5\n"]
)
def test_a_damaged_history_is_set_aside_and_the_run_goes_on(tmp_path, damage):
    (tmp_path / "history.csv").write_text(damage)
    lines = []
    log = RunLog(str(tmp_path), 20, lines.append)
    log.progress(progress(30, 1.0))
    log.save()
    log.close("FINISHED")
    assert [row["step"] for row in rows(tmp_path)] == ["30"]
    assert (tmp_path / "history.csv.damaged").read_text() == damage
    assert len(lines) == 1 and f"{tmp_path}/history.csv is damaged" in lines[0]


def test_hyperparameters_histograms_and_sparsity_reach_tensorboard(tmp_path):
    log = RunLog(str(tmp_path), 0)
    log.hyperparameters({"optimizer": "sgd", "learning_rate": 0.1})
    spread = np.linspace(-1, 3, 1_000_000, dtype=np.float32)
    spread[7] = np.nan
    sparse = np.array([[0, 0], [0, 5]], np.float32)
    log.histograms({"Net/weights": spread}, {"Mixed_7c": sparse}, 40)
    log.close("FINISHED")
    found = events(tmp_path)
    assert "_hparams_/session_start_info" in found
    step, buckets = found["Net/weights"][0]
    buckets = tf.make_ndarray(buckets)  # rows of left edge, right edge, count
    assert step == 40
    np.testing.assert_allclose([buckets[0, 0], buckets[-1, 1]], [-1, 3], atol=1e-3)
    assert 90_000 <= buckets[:, 2].sum() <= 100_000
    assert tf.make_ndarray(found["sparsity/Mixed_7c"][0][1]) == 0.75
    assert tf.make_ndarray(found["activations/Mixed_7c"][0][1])[:, 2].sum() == 4


def test_the_accuracy_of_training_stands_beside_that_of_validation(tmp_path):
    log = RunLog(str(tmp_path), 0)
    for step, accuracy, found in ((10, 0.5, 0.4), (20, 0.75, 0.6), (30, 1.0, 0.6)):
        log.progress(dataclasses.replace(progress(step, 1.0), accuracy=accuracy))
        log.evaluation({"Accuracy": found}, step)
    log.save()
    log.close("FINISHED")
    assert [row["accuracy"] for row in rows(tmp_path)] == ["0.5", "0.75", "1.0"]
    assert [row["eval_accuracy"] for row in rows(tmp_path)] == ["0.4", "0.6", "0.6"]
    numbers = [{name: float(cell) for name, cell in row.items()} for row in rows(tmp_path)]
    assert curves.best_step(numbers) == (20, 0.6)  # the first of equal ones, as best/ keeps it
    assert curves.best_step([{"step": 1, "loss": 2.0}]) is None
    found = events(tmp_path)["train/accuracy"]
    assert [(step, tf.make_ndarray(t).item()) for step, t in found] == [
        (10, 0.5),
        (20, 0.75),
        (30, 1.0),
    ]
