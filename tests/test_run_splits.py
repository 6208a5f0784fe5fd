"""Which data of a run are taken, and how the errors speak of them."""

import pytest

from datasets.options import SourceOptions
from foundation.errors import InputError
from runs import splits
from runs.config import RunConfig

CONFIG = RunConfig("lenet", 2, ("a", "b"), 28, "lenet")


def message(config, **given):
    with pytest.raises(InputError) as error:
        splits.first_there(config, SourceOptions.of(**given), ("test", "validation"))
    return str(error.value)


def test_the_runs_own_place_is_not_called_a_flag(tmp_path):
    config = RunConfig("lenet", 2, ("a", "b"), 28, "lenet", dataset_dir=f"{tmp_path}/gone")
    assert message(config) == (
        f"{tmp_path}/gone: there is no such folder. That is what run.json says. Name the data with "
        "--dataset_dir or --tfrecord_file."
    )


def test_a_place_set_by_hand_is(tmp_path):
    said = message(CONFIG, dataset_dir=f"{tmp_path}/gone")
    assert said == f"--dataset_dir={tmp_path}/gone: there is no such folder."


def test_a_split_that_nobody_named_is_not_called_a_flag(tmp_path):
    (tmp_path / "pets_train-00000-of-00001.tfrecord").write_bytes(b"")
    said = message(CONFIG, dataset_dir=str(tmp_path))
    assert said.startswith(f"split test: {tmp_path} has no such split, but train. Choose one")
    said = message(CONFIG, dataset_dir=str(tmp_path), dataset_split_name="test")
    assert said.startswith("--dataset_split_name=test: ")
