import dataclasses
import os
import pathlib
import shutil

import pytest

from runs import config as run_config

FIXTURES = pathlib.Path(__file__).parent / "fixtures/run_json"
CONFIG = run_config.RunConfig(
    model_name="inception_v3",
    num_classes=2,
    labels=("cat", "chien ñ"),
    image_size=250,
    preprocessing_name="inception",
    dataset_dir="/data",
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


def run_folder(place, data, train_dir, **changes):
    """A dataset's folder, and a run.json that was saved with these paths."""
    (place / "animals").mkdir(parents=True)
    (place / "output").mkdir()
    config = dataclasses.replace(
        CONFIG, dataset_dir=data, flags={"train_dir": train_dir}, **changes
    )
    run_config.save(train_dir, config)


def test_the_data_is_found_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path, "animals", "output", path_to_csv="labels.csv")
    monkeypatch.chdir("/")
    config = run_config.load(str(tmp_path / "output"))
    assert config.dataset_dir == str(tmp_path / "animals")
    assert config.path_to_csv == str(tmp_path / "labels.csv")


def test_data_that_moved_together_with_the_run_are_found(tmp_path, monkeypatch):
    before, after = tmp_path / "before", tmp_path / "after"
    files = f"{before}/animals/a.tfrecord, {before}/animals/b-*.tfrecord"
    run_folder(before, str(before / "animals"), str(before / "output"), tfrecord_file=files)
    for name in ("a.tfrecord", "b-1.tfrecord"):
        (before / "animals" / name).write_bytes(b"")
    (before / "output/best").mkdir()
    shutil.copy(before / "output/run.json", before / "output/best/run.json")
    before.rename(after)
    for folder in (after / "output", after / "output/best"):
        config = run_config.load(str(folder))
        assert config.dataset_dir == str(after / "animals")
        assert config.tfrecord_file == f"{after}/animals/a.tfrecord,{after}/animals/b-*.tfrecord"
    monkeypatch.chdir(after / "output")
    assert os.path.samefile(run_config.load(".").dataset_dir, after / "animals")


def test_relative_paths_of_an_earlier_version_are_those_of_the_run(tmp_path, monkeypatch):
    """The fixture was trained by --dataset_dir=animals --train_dir=run in some folder."""
    shutil.copytree(FIXTURES / "earlier", tmp_path / "some/run")
    (tmp_path / "some/animals").mkdir()
    (tmp_path / "animals").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_config.load("some/run").dataset_dir == str(tmp_path / "some/animals")
    (tmp_path / "some/animals").rmdir()  # the run moved alone
    assert run_config.load("some/run").dataset_dir == "animals"


def test_paths_of_nowhere_and_with_a_scheme_stay(tmp_path):
    run_folder(tmp_path, "gs://bucket/animals", str(tmp_path / "output"))
    assert run_config.load(str(tmp_path / "output")).dataset_dir == "gs://bucket/animals"
    run_config.save(str(tmp_path), dataclasses.replace(CONFIG, dataset_dir="/gone/animals"))
    assert run_config.load(str(tmp_path)).dataset_dir == "/gone/animals"
