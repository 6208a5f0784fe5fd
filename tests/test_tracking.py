"""Runs in MLflow, where it is installed (extra mlflow)."""

import json
import sys
import time

import pytest

from foundation.errors import InputError
from runs.export import export
from runs.options import ExportModelOptions, TrainOptions
from runs.train import train
from training import tracking
from training.loop import Progress


def test_without_mlflow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"--tracking=mlflow needs the extra mlflow.*pip install"):
        tracking.MlflowRun(None, "animals")


@pytest.fixture
def mlflow():
    return pytest.importorskip("mlflow")


def test_mlflow_tells_its_makers_nothing(mlflow, monkeypatch):
    disabled = mlflow.environment_variables.MLFLOW_DISABLE_TELEMETRY
    with monkeypatch.context() as before_import:
        before_import.setenv(disabled.name, "")
        before_import.delenv(disabled.name)
        before_import.setitem(sys.modules, "mlflow", None)
        with pytest.raises(InputError):
            tracking.require()
        assert disabled.get()  # it is said before the import, which would send
        before_import.setenv(disabled.name, "false")
        with pytest.raises(InputError):
            tracking.require()
        assert not disabled.get()


def test_a_run_is_begun_and_carried_on(mlflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # artifacts go beside the database
    uri = f"sqlite:///{tmp_path}/store.db"
    first = tracking.MlflowRun(uri, "animals")
    first.parameters({f"flag_{i}": "x" * 9000 for i in range(150)} | {"optimizer": "sgd"})
    first.progress(Progress(10, {"loss": 2.0, "main": float("nan")}, 0.1, 50.0, 0.0, 0.1, None))
    first.close("KILLED")
    again = tracking.MlflowRun(uri, "animals", first.run_id)
    again.progress(Progress(20, {"loss": 1.0, "main": 1.0}, 0.1, 50.0, 0.0, 0.1, None))
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "labels.txt").write_text("0:cat\n")
    again.file(str(tmp_path / "exported"), "exported_model")
    again.close("FINISHED")
    client = mlflow.MlflowClient(uri)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer"] == "sgd" and len(run.data.params["flag_149"]) == 6000
    history = client.get_metric_history(first.run_id, "losses/total")
    assert [(one.step, one.value) for one in history] == [(10, 2.0), (20, 1.0)]
    assert set(run.data.metrics) == set(
        Progress(20, {"loss": 1, "main": 1}, 1, 1, 1, 1, 1).tagged()
    )
    kept = client.list_artifacts(first.run_id, "exported_model")
    assert [one.path for one in kept] == ["exported_model/labels.txt"]


def test_a_store_that_stops_answering_ends_no_training(mlflow, tmp_path, monkeypatch):
    lines = []
    run = tracking.MlflowRun(f"sqlite:///{tmp_path}/store.db", "animals", say=lines.append)

    def gone(*_, **__):
        raise ConnectionError("the server is gone\nand more")

    monkeypatch.setattr(run._client, "log_batch", gone)
    run.metrics({"loss": 1.0}, 1)
    run.metrics({"loss": 1.0}, 2)
    run.close("FINISHED")
    assert len(lines) == 1 and lines[0].endswith("takes no more of this run: the server is gone")


def test_a_store_that_cant_be_used_is_one_line(mlflow):
    with pytest.raises(ValueError, match="--mlflow_uri=nonsense://x: can't be used"):
        tracking.MlflowRun("nonsense://x", "animals")


def test_a_folder_that_cant_be_written_is_one_line_at_once(mlflow):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"sqlite:////proc/mlflow.db: can't be used: unable to"):
        tracking.MlflowRun("sqlite:////proc/mlflow.db", "animals")
    assert time.monotonic() - began < 5


def test_a_training_and_its_export(mlflow, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # artifacts go beside the database
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    train(
        TrainOptions.of(
            dataset_dir=str(colours),
            train_dir=str(tmp_path / "run"),
            model_name="small_cnn",
            train_image_size=16,
            batch_size=8,
            max_number_of_steps=2,
            eval_every_n_steps=1,
            tracking="mlflow",
            mlflow_uri=f"sqlite:///{tmp_path}/store.db",
        ),
        say=lambda line: None,
    )
    run_id = json.loads((tmp_path / "run" / "run.json").read_text())["mlflow_run_id"]
    exported = {"checkpoint_path": "run", "output_dir": "export", "formats": ("frozen_graph",)}
    export(ExportModelOptions.of(**exported, tracking="mlflow"), say=lambda line: None)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/store.db")
    tracked = client.get_run(run_id)
    assert client.get_experiment(tracked.info.experiment_id).name == "colours"
    assert tracked.info.run_name == "run"
    (given,) = tracked.inputs.dataset_inputs
    assert given.dataset.name == "colours" and json.loads(given.dataset.profile)["num_classes"] == 3
    params = tracked.data.params
    expected = {"dataset": "colours", "dataset_split": "train", "num_examples": "24"}
    expected |= {"small_cnn_filters": "32,64,128", "small_cnn_dropout": "0.5", "fit": "crop"}
    expected |= {"head": "the net's own", "normalization": "inception", "images_per_step": "8"}
    assert {name: params.get(name) for name in expected} == expected
    assert params["precision"] in ("float32", "bfloat16") and int(params["parameters"]) > 1000
    assert len(params["dataset_fingerprint"]) == 16
    assert not {"None", "()", ""} & set(params.values()) and "train_dir" not in params
    assert tracked.data.metrics["best/Accuracy"] >= tracked.data.metrics["eval/Accuracy"]
    assert "system/cpu_utilization_percentage" in tracked.data.metrics
    kept = {one.path for one in client.list_artifacts(run_id)}
    assert kept == {"curves.png", "history.csv", "run.json", "exported_model"}
    assert client.get_run(run_id).data.params["model_name"] == "small_cnn"
