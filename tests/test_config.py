import dataclasses
import os

import pytest

from runs import config as run_config

CONFIG = run_config.RunConfig(
    model_name="inception_v3",
    num_classes=2,
    labels=("cat", "chien ñ"),
    image_size=250,
    preprocessing_name="inception",
    dataset_dir="data",
)


def test_a_saved_configuration_is_loaded_from_the_directory_or_a_checkpoint(tmp_path):
    run_config.save(str(tmp_path), CONFIG)
    assert run_config.load(str(tmp_path)) == CONFIG
    assert run_config.load(str(tmp_path / "model.ckpt-100")) == CONFIG
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_directory_without_run_json_gives_none(tmp_path):
    assert run_config.load(str(tmp_path)) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}', '{"format": 1, "labels": []}'])
def test_a_damaged_run_json_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json can't be read"):
        run_config.load(str(tmp_path))


def test_flags_that_contradict_the_run_are_shown_with_both_values():
    given = {"eval_image_size": 299, "model_name": "inception_v3", "batch_size": 8}
    with pytest.raises(ValueError, match=r"--eval_image_size=299, but the run has 250"):
        run_config.check_agrees(CONFIG, given)
    run_config.check_agrees(CONFIG, {"eval_image_size": 250, "use_grayscale": None})


def test_what_a_run_is_carried_on_with_must_be_the_same():
    flags = {"optimizer": "adam", "trainable_scopes": "", "unfreeze": ["5:A/b", " 9:A"]}
    earlier = dataclasses.replace(CONFIG, flags=flags)
    same = {"optimizer": "adam", "trainable_scopes": None, "unfreeze": ["5:A/b", "9:A"]}
    given = {"small_cnn_filters": (["8", "16"], (8, 16)), "head": ("dense:8,", "dense:8")}
    run_config.check_continues(earlier, given, same, "run")
    run_config.check_continues(earlier, given, same | {"unfreeze": ["9:A", "5:A/b"]}, "run")
    for changed in ({"optimizer": "sgd"}, {"trainable_scopes": "A"}, {"unfreeze": []}):
        with pytest.raises(ValueError, match=f"--{next(iter(changed))}=.*, but run was trained"):
            run_config.check_continues(earlier, given, same | changed, "run")
    with pytest.raises(ValueError, match="--fit=crop, but run was trained with --fit=letterbox"):
        run_config.check_continues(earlier, {"fit": ("crop", "letterbox")}, same, "run")
