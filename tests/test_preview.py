"""The contact sheet, and flags of pixels through the command lines."""

import json

import numpy as np
import pytest
from PIL import Image

from runs import classify, evaluate, export
from runs.options import ClassifyImageOptions, EvaluateOptions, ExportModelOptions
from tests.conftest import run_script

SCRIPT = "train_image_classifier.py"
SMALL = ("--model_name=small_cnn", "--small_cnn_filters=4", "--small_cnn_dense_units=4")
SMALL += ("--train_image_size=32", "--batch_size=8", "--max_number_of_steps=2")


def test_a_sheet_is_written_and_nothing_trained(colours, tmp_path):
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *SMALL)
    flags += ("--rotation_range=20", "--mixup_alpha=0.4", f"--preview={tmp_path}/sheet.png")
    result = run_script(SCRIPT, *flags)
    assert result.returncode == 0, result.stderr
    assert "sheet.png shows 8 images" in result.stdout
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    assert sheet.shape == (8 * 180 + 6, 7 * 166 + 6, 3)
    # The first record is blue; its original is in the upper left corner.
    assert np.abs(sheet[60:100, 60:100].mean((0, 1)) - (40, 60, 200)).max() < 30
    assert not (tmp_path / "run").exists()


def test_a_look_reaches_evaluation_and_export_by_run_json(colours, tmp_path, no_figures):
    run_dir = str(tmp_path / "run")
    flags = (f"--dataset_dir={colours}", f"--train_dir={run_dir}", *SMALL)
    look = ("--fit=letterbox", "--normalization=torch", "--means=0.5,0.5,0.5", "--equalize")
    drawn = ("--cutmix_alpha=1", "--randaugment_layers=1", "--class_weights=red:2")
    result = run_script(SCRIPT, *flags, *look, *drawn)
    assert result.returncode == 0, result.stderr
    options = json.loads((tmp_path / "run" / "run.json").read_text())["preprocessing_options"]
    assert options == {
        "fit": "letterbox",
        "normalization": "torch",
        "equalize": True,
        "means": [0.5, 0.5, 0.5],
    }
    lines, folder = [], str(tmp_path / "eval")
    asked = EvaluateOptions.of(checkpoint_path=run_dir, eval_dir=folder, tta="ten_crop")
    evaluate.evaluate(asked, lines.append)
    assert any("mean of --tta=ten_crop" in str(line) for line in lines)
    exported = {"checkpoint_path": run_dir, "output_dir": str(tmp_path / "export")}
    export.export(ExportModelOptions.of(**exported), print)
    # The graph takes prepared pixels: they are to be prepared as the SavedModel does.
    picture = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)).save(picture)
    said = []
    for model in ("export", "export/frozen_graph.pb"):
        asked = {"model": str(tmp_path / model), "image": (str(picture),)}
        asked |= {"json": str(tmp_path / "answers.json")}
        assert not classify.classify(ClassifyImageOptions.of(**asked), print).failures
        said.append(_numbers(json.loads((tmp_path / "answers.json").read_text())))
    assert len(said[0]) >= 3
    np.testing.assert_allclose(said[0], said[1], atol=1e-5)
    other = run_script(SCRIPT, *flags, "--fit=stretch")
    assert other.returncode == 1
    assert "--fit=stretch, but" in other.stderr and "trained with --fit=letterbox" in other.stderr


def _numbers(found) -> list[float]:
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        return [number for part in found for number in _numbers(part)]
    return [found] if isinstance(found, float) else []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--means=0.5,0.5,0.5",), "need --normalization=torch"),
        (("--brightness_range=1",), "write two numbers"),
        (("--augment=false", "--zoom_range=0.2"), "--augment=false leaves no augmentation"),
    ],
)
def test_flags_of_pixels_that_make_no_sense(tmp_path, flags, message):
    result = run_script(SCRIPT, f"--dataset_dir={tmp_path}", *flags)
    assert result.returncode == 2 and message in result.stderr.splitlines()[0]
