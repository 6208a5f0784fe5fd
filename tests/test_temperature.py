"""A temperature from its fitting to the answers of an export, on a net that is too sure."""

import dataclasses
import importlib.util
import io
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import schema
from foundation.errors import InputError, UsageError
from foundation.options import check
from nets import checkpoints, nets_factory
from preprocessing import preprocessing_factory
from runs import config as run_config
from runs import temperature
from runs.classify import classify
from runs.evaluate import evaluate
from runs.export import export
from runs.options import ClassifyImageOptions, EvaluateOptions, ExportModelOptions
from serving import export_config, latency
from tests.fixtures.slim_parity import weights

LABELS = ("cat", "dog", "emu", "fox")
SIZE = 28
pytestmark = pytest.mark.usefixtures("no_figures")
TRUE = 3.0  # by which the net's logits are too large
NUM_PICTURES, COPIES = 24, 100


def silent(_):
    pass


def pictures():
    found = []
    for i in range(NUM_PICTURES):
        buffer = io.BytesIO()
        pixels = np.roll(weights.test_image(SIZE, SIZE), 5 * i, axis=(0, 1))
        Image.fromarray(255 - pixels if i % 2 else pixels).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run, and of each picture as many copies of a class as the true probabilities say."""
    place = tmp_path_factory.mktemp("place")
    keras.utils.set_random_seed(0)
    model = nets_factory.build("lenet", len(LABELS), SIZE, 3)
    recipe = preprocessing_factory.get("lenet").evaluate
    images = np.stack([recipe(picture, SIZE) for picture in pictures()])
    values = checkpoints.values(model)
    logits = model(images, training=False)["logits"].numpy()
    # The head is scaled so that its logits spread as those of a trained net.
    head = [name for name in values if values[name].shape[-1:] == (len(LABELS),)]
    values |= {name: values[name] * (6.0 / logits.std()) for name in head}
    checkpoints.write(str(place / "train/model.ckpt-7"), {**values, "global_step": np.int64(7)})
    checkpoints.restore(model, str(place / "train"))
    logits = model(images, training=False)["logits"].numpy()
    shares = tf.nn.softmax(logits / TRUE).numpy()
    (place / "data").mkdir()
    random = np.random.default_rng(0)
    with open(place / "data/pets_validation-00000-of-00001.tfrecord", "wb") as file:
        for i, picture in enumerate(pictures()):
            # Of each class the whole number of copies, and by chance one more.
            counts = np.floor(shares[i] * COPIES + random.random()).astype(int)
            for label in np.repeat(np.arange(len(LABELS)), counts):
                record = schema.Example(
                    picture, "png", SIZE, SIZE, label, LABELS[label], f"{i}.png", (), f"{i:064x}"
                )
                file.write(schema.frame(record.serialize()))
    (place / "data/labels.txt").write_text("".join(f"{i}:{n}\n" for i, n in enumerate(LABELS)))
    config = run_config.RunConfig(
        "lenet", len(LABELS), LABELS, SIZE, "lenet", dataset_dir=str(place / "data")
    )
    run_config.save(str(place / "train"), config)
    for i, picture in enumerate(pictures()):
        (place / f"{i:02}.png").write_bytes(picture)
    return place


@pytest.fixture(scope="module")
def fitted(place):
    """The evaluation that fitted a temperature."""
    return evaluated(place, fit_temperature=True)


@pytest.fixture(scope="module")
def exported(place, fitted):
    """An export in all formats at the temperature that was fitted."""
    formats = ["saved_model", "frozen_graph", "tflite"]
    if importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime"):
        formats.append("onnx")
    return exported_to(place, "fitted", formats, temperature="fitted")


def exported_to(place, name, formats, **temperature):
    folder = str(place / f"export_{name}")
    given = {"checkpoint_path": str(place / "train"), "formats": tuple(formats)}
    given |= {"check_examples": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_SECONDS", 0.0)
        export(ExportModelOptions.of(output_dir=folder, **given, **temperature), silent)
    return folder


def evaluated(place, **options):
    folder = str(place / "eval")
    evaluate(
        EvaluateOptions.of(
            checkpoint_path=str(place / "train"),
            dataset_split_name="validation",
            eval_dir=folder,
            **options,
        ),
        silent,
    )
    return json.loads((place / "eval/metrics.json").read_text())


def answers(place, model, **options):
    """Probabilities of all classes for some of the pictures."""
    given = ClassifyImageOptions.of(
        model=model, image=(str(place / "0[0-5].png"),), top_k=len(LABELS), **options
    )
    found = classify(given, silent).classes
    return np.array([[dict(best)[name] for name in LABELS] for best in found.values()])


def test_an_evaluation_is_kept_where_no_temperature_is_best(place, monkeypatch):
    def none_is_best(*args):
        raise InputError("every answer is right", option="fit_temperature")

    monkeypatch.setattr(temperature, "fit", none_is_best)
    with pytest.raises(InputError, match="every answer is right"):
        evaluated(place, fit_temperature=True)
    metrics = json.loads((place / "eval/metrics.json").read_text())
    assert metrics["num_examples"] and "fitted_temperature" not in metrics


def test_from_fitting_to_the_answers_of_an_export(place, fitted, exported):
    before, fitted = fitted, run_config.load(str(place / "train")).temperature
    assert fitted["value"] == pytest.approx(TRUE, rel=0.02)
    assert (fitted["split"], fitted["checkpoint"]) == ("validation", "model.ckpt-7")
    assert fitted["num_examples"] == before["num_examples"]
    assert before["fitted_temperature"] == fitted and before["temperature"] == 1.0
    after = evaluated(place, temperature="fitted")
    assert after["temperature"] == fitted["value"]
    assert before["ece"] == pytest.approx(fitted["ece"][0]) and before["ece"] > 0.05
    assert after["ece"] == pytest.approx(fitted["ece"][1], abs=1e-4) and after["ece"] < 0.02
    assert after["loss"] < before["loss"] and after["accuracy"] == before["accuracy"]

    folders = {"fitted": exported}
    for name in ("none", None, "1.5"):
        given = {} if name is None else {"temperature": name}
        folders[name] = exported_to(place, name, ["frozen_graph"], **given)
    divisors = [
        export_config.load(f"{folder}/export.json").temperature for folder in folders.values()
    ]
    assert divisors == [fitted["value"], 1, fitted["value"], 1.5]
    found = {name: answers(place, folder) for name, folder in folders.items()}
    logits = np.log(found["none"])
    for divisor, name in zip(divisors, found, strict=True):
        np.testing.assert_allclose(found[name], tf.nn.softmax(logits / divisor), atol=1e-4)
    # A classification sets it whatever was exported, from any of the files.
    divisors = {"none": 1, "fitted": fitted["value"], "1.5": 1.5}
    asked = [
        (f"export_{of}/frozen_graph.pb", name) for of in ("none", "fitted") for name in divisors
    ]
    # Loading a SavedModel takes longest: one is enough.
    asked += [("export_fitted/saved_model/1", "1.5")]
    for model, name in asked:
        found = answers(place, str(place / model), temperature=name)
        np.testing.assert_allclose(found, tf.nn.softmax(logits / divisors[name]), atol=1e-4)


@dataclasses.dataclass
class Run:
    config: run_config.RunConfig
    checkpoint: str


def test_a_temperature_belongs_to_its_checkpoint():
    config = run_config.RunConfig("lenet", 4, LABELS, SIZE, "lenet")
    without = Run(config, "train/model.ckpt-9")
    assert temperature.of_run(None, without) == temperature.of_run("none", without) == 1
    assert temperature.of_run("0.5", without) == 0.5
    with pytest.raises(InputError, match="none was fitted to train/model.ckpt-9. Fit one with"):
        temperature.of_run("fitted", without)
    fitted = {"value": 2.0, "checkpoint": "model.ckpt-7"}
    other = Run(dataclasses.replace(config, temperature=fitted), "train/model.ckpt-9")
    assert temperature.of_run(None, other) == 1
    with pytest.raises(InputError, match="was fitted to model.ckpt-7, not to model.ckpt-9"):
        temperature.of_run("fitted", other)
    own = Run(other.config, "train/model.ckpt-7")
    assert temperature.of_run(None, own) == temperature.of_run("fitted", own) == 2


def test_options_that_make_no_sense():

    for word in ("hot", "0", "-1", "inf", "nan"):
        with pytest.raises(UsageError, match=f"--temperature={word}: write fitted, none or"):
            check(ExportModelOptions.of(temperature=word, output_dir="x"))
    with pytest.raises(UsageError, match="leave --tta out"):
        check(EvaluateOptions.of(fit_temperature=True, tta="flip"))
    with pytest.raises(UsageError, match="finds what --temperature sets"):
        check(EvaluateOptions.of(fit_temperature=True, temperature="2"))


def test_an_exported_model_gives_the_checkpoints_numbers(place, exported):
    files = {"saved_model": "", "frozen_graph": "frozen_graph.pb", "tflite": "model.tflite"}
    files["onnx"] = "model.onnx"
    few = {"max_num_batches": 3}
    expected = evaluated(place, temperature="fitted", **few)
    with open(place / "eval/predictions.csv", encoding="utf-8") as file:
        predictions = file.read()
    for name in export_config.load(f"{exported}/export.json").files:
        model = os.path.join(exported, files[name])
        eval_dir = str(place / f"eval_{name}")
        evaluate(
            EvaluateOptions.of(
                model=model, eval_dir=eval_dir, dataset_split_name="validation", **few
            ),
            silent,
        )
        with open(f"{eval_dir}/metrics.json", encoding="utf-8") as file:
            found = json.load(file)
        for number in ("accuracy", "loss", "brier", "ece", "macro_f1", "roc_auc"):
            assert found[number] == pytest.approx(expected[number], rel=1e-4), (name, number)
        for same in ("num_examples", "temperature", "global_step", "parameters", "multiply_adds"):
            assert found[same] == expected[same]
        assert found["checkpoint"].startswith(exported)
        with open(f"{eval_dir}/predictions.csv", encoding="utf-8") as file:
            lines = zip(file.read().splitlines(), predictions.splitlines(), strict=True)
            assert all(own.split(",")[:4] == line.split(",")[:4] for own, line in lines)
        with open(f"{eval_dir}/report.html", encoding="utf-8") as file:
            assert "image/jpeg" in file.read()  # the mistakes are shown
    plain = EvaluateOptions.of(
        **{"model": f"{exported}/frozen_graph.pb", "eval_dir": eval_dir, "temperature": "none"},
        dataset_split_name="validation",
        **few,
    )
    assert evaluate(plain, silent).loss > expected["loss"]


def test_exported_models_that_can_not_be_evaluated(place, exported, tmp_path):
    with pytest.raises(InputError, match="--model=/nowhere: does not exist"):
        evaluate(EvaluateOptions.of(model="/nowhere", eval_dir=str(tmp_path)), silent)
    with pytest.raises(UsageError, match="--tta is of checkpoints, --model of what was made"):
        check(EvaluateOptions.of(model="/nowhere", tta="flip"))
    given = {"model": exported, "eval_dir": str(tmp_path / "eval")}
    with pytest.raises(InputError, match="--use_grayscale=True, but the run has False"):
        evaluate(EvaluateOptions.of(use_grayscale=True, **given), silent)
    (tmp_path / "data").mkdir()
    shutil.copy(place / "data/pets_validation-00000-of-00001.tfrecord", tmp_path / "data")
    (tmp_path / "data/labels.txt").write_text("0:a\n1:b\n2:c\n3:d\n")
    other = EvaluateOptions.of(
        dataset_dir=str(tmp_path / "data"), dataset_split_name="validation", **given
    )
    with pytest.raises(InputError, match="the dataset has a, b, c"):
        evaluate(other, silent)
