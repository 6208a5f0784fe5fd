import os
import pathlib

import pytest

from runs import config as run_config

FIXTURES = pathlib.Path(__file__).parent / "fixtures/run_json"
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


def test_a_run_json_of_an_earlier_version_is_loaded():
    config = run_config.load(str(FIXTURES / "earlier"))
    assert (config.model_name, config.image_size) == ("small_cnn", 16)
    assert config.labels == ("blue", "green", "red")
    assert (
        config.net_options == {"filters": [4, 4], "dense_units": 4}
        and config.moving_average_decay == 0.9
    )
    assert config.preprocessing_options == {"fit": "letterbox"}
