"""The evaluation inside a run says what the script says, which also tells MLflow."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from datasets import schema
from foundation.errors import InputError
from nets import checkpoints, nets_factory, slim_names
from preprocessing import preprocessing_factory
from runs import config as run_config
from runs.data import ValidationData
from runs.evaluate import evaluate
from runs.options import EvaluateOptions, TrainOptions
from tests.fixtures.slim_parity import weights

LABELS = ("cat", "dog", "emu")
NET, SIZE = "lenet", 28


def silent(_):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    with open(place / "pets_validation-00000-of-00001.tfrecord", "wb") as file:
        for i in range(30):
            picture = io.BytesIO()
            Image.fromarray(np.roll(weights.test_image(40, 50), 7 * i, axis=1)).save(picture, "PNG")
            label = i % len(LABELS)
            record = schema.Example(
                picture.getvalue(), "png", 40, 50, label, LABELS[label], f"{i}.png", (), f"{i:064x}"
            )
            file.write(schema.frame(record.serialize()))
    (place / "labels.txt").write_text("".join(f"{i}:{name}\n" for i, name in enumerate(LABELS)))
    return place


@dataclasses.dataclass
class OneOfTwo:
    """The part of a `distribution.Distribution` that evaluation asks of it; remembers its part."""

    worker: int
    num_workers: int = 2

    def weighted_means(self, values, weight):
        self.part = values, weight
        return dict(values)


def test_two_workers_evaluate_a_part_each_and_together_all(place):
    keras.utils.set_random_seed(0)
    config = run_config.RunConfig(NET, len(LABELS), LABELS, SIZE, "lenet", dataset_dir=str(place))
    options = TrainOptions.of(dataset_dir=str(place), eval_every_n_steps=1)
    model = nets_factory.build(NET, len(LABELS), SIZE, 3)

    def metrics(distribution=None):
        recipe = preprocessing_factory.get("lenet")
        data = ValidationData(options, config, recipe, silent, distribution)
        return data.metrics(model, lambda: False)

    parts = [OneOfTwo(0), OneOfTwo(1)]
    for part in parts:
        metrics(part)
    whole = metrics()
    assert [weight for _, weight in (part.part for part in parts)] == [15, 15]
    for name, value in whole.items():
        found = [values[name] for values, _ in (part.part for part in parts)]
        assert np.mean(found) == pytest.approx(value, rel=1e-6)
    assert parts[0].part[0]["loss"] != parts[1].part[0]["loss"]
    many = OneOfTwo(5, num_workers=31)  # there is no part for each: all evaluate all
    metrics(many)
    assert many.part == (whole, 30)


def test_a_net_that_trains_in_bfloat16_is_evaluated_in_float32(place):
    keras.utils.set_random_seed(0)
    config = run_config.RunConfig(NET, len(LABELS), LABELS, SIZE, "lenet", dataset_dir=str(place))
    options = TrainOptions.of(
        dataset_dir=str(place), train_dir=str(place / "run"), eval_every_n_steps=1
    )
    data = ValidationData(options, config, preprocessing_factory.get("lenet"), silent)
    model = nets_factory.build(NET, len(LABELS), SIZE, 3, dtype="mixed_bfloat16")
    for step in (1, 2):
        for variable in slim_names.variables(model).values():
            variable.assign(variable + 0.01 * step)  # as a training would
        found = data.metrics(model, lambda: False)
        assert list(found) == ["Accuracy", "loss"]  # Recall_5 of three classes is always 1
        values = {**checkpoints.values(model), "global_step": np.int64(step)}
        checkpoints.write(str(place / f"run/model.ckpt-{step}"), values)
        run_config.save(str(place / "run"), config)
        eval_dir = str(place / "eval")
        evaluate(
            EvaluateOptions.of(
                checkpoint_path=str(place / f"run/model.ckpt-{step}"),
                dataset_split_name="validation",
                eval_dir=eval_dir,
            ),
            silent,
        )
        numbers = json.loads((place / "eval/metrics.json").read_text())
        assert found["Accuracy"] == numbers["accuracy"]
        assert found["loss"] == pytest.approx(numbers["loss"], rel=1e-6)


def test_numbers_and_files_go_into_the_runs_record_in_mlflow(place, tmp_path, no_figures):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/store.db"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("pets", artifact_location=str(tmp_path / "artifacts"))
    run_id = client.create_run(experiment).info.run_id
    base = dict(
        checkpoint_path=str(place / "run"),
        dataset_split_name="validation",
        eval_dir=str(tmp_path / "eval"),
        tracking="mlflow",
    )
    with pytest.raises(InputError, match="--tracking=mlflow: MLflow knows no run of"):
        evaluate(EvaluateOptions.of(**base), silent)
    config = run_config.load(str(place / "run"))
    tracked = dataclasses.replace(config, mlflow_uri=uri, mlflow_run_id=run_id)
    run_config.save(str(place / "run"), tracked)
    found = evaluate(EvaluateOptions.of(**base), silent)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    assert metrics["evaluation/validation/Accuracy"] == found.accuracy
    low = metrics["evaluation/validation/accuracy_interval_95_low"]
    assert low < found.accuracy < metrics["evaluation/validation/accuracy_interval_95_high"]
    names = {entry.path for entry in client.list_artifacts(run_id, "evaluation/validation")}
    for name in ("per_class.csv", "confusion_matrix.png", "report.html", "metrics.json"):
        assert f"evaluation/validation/{name}" in names


def written(folder, labels, names, split="validation"):
    """A dataset of pictures with these classes, and a run of it; the folder of the run."""
    folder.mkdir()
    with open(folder / f"pets_{split}-00000-of-00001.tfrecord", "wb") as file:
        for i, label in enumerate(labels):
            picture = io.BytesIO()
            Image.fromarray(np.roll(weights.test_image(40, 50), 7 * i, axis=1)).save(picture, "PNG")
            record = schema.Example(
                picture.getvalue(), "png", 40, 50, label, names[label], f"{i}.png", (), f"{i:064x}"
            )
            file.write(schema.frame(record.serialize()))
    (folder / "labels.txt").write_text("".join(f"{i}:{name}\n" for i, name in enumerate(names)))
    config = run_config.RunConfig(NET, len(names), names, SIZE, "lenet", dataset_dir=str(folder))
    values = checkpoints.values(nets_factory.build(NET, len(names), SIZE, 3))
    checkpoints.write(str(folder / "run/model.ckpt-1"), {**values, "global_step": np.int64(1)})
    run_config.save(str(folder / "run"), config)
    return folder / "run"


def options_of(run):
    return EvaluateOptions.of(
        checkpoint_path=str(run), dataset_split_name="validation", eval_dir=str(run / "eval")
    )


@pytest.mark.filterwarnings("error:.*(divide|invalid|single|Mean of empty|undefined):")
def test_one_class_and_classes_without_examples(tmp_path):
    lines = []
    found = evaluate(options_of(written(tmp_path / "one", [0, 0], ("cat",))), lines.append)
    assert found.accuracy == 1
    numbers = json.loads((tmp_path / "one/run/eval/metrics.json").read_text())
    assert numbers["roc_auc"] is numbers["matthews"] is numbers["cohen_kappa"] is None
    assert lines[-1] == "eval/Accuracy[1.0000]"
    evaluate(options_of(written(tmp_path / "gap", [0, 2, 0], LABELS)), lines.append)
    assert "Without an example in this split: dog (1 of 3 classes)." in lines
    numbers = json.loads((tmp_path / "gap/run/eval/metrics.json").read_text())
    assert numbers["classes_without_examples"] == 1 and numbers["roc_auc"] is not None


def test_a_net_of_nan_and_an_empty_split_are_said_and_leave_the_former_numbers(
    tmp_path, no_figures
):
    run = written(tmp_path / "nan", [0, 1, 2], LABELS)
    evaluate(options_of(run), silent)
    before = (run / "eval/metrics.json").read_bytes()
    values = checkpoints.values(nets_factory.build(NET, len(LABELS), SIZE, 3))
    broken = {name: np.full_like(value, 1e30) for name, value in values.items()}
    checkpoints.write(str(run / "model.ckpt-2"), {**broken, "global_step": np.int64(2)})
    with pytest.raises(InputError, match="0.png: the net's output is not finite"):
        evaluate(options_of(run), silent)
    (tmp_path / "nan/pets_validation-00000-of-00001.tfrecord").write_bytes(b"")
    with pytest.raises(InputError, match="(?i)no (examples|records)|empty"):
        evaluate(options_of(run), silent)
    assert (run / "eval/metrics.json").read_bytes() == before
