"""What a dry run of --checkpoint_path says."""

import shutil

import pytest

from foundation.errors import InputError
from tests.test_checkpoints import SLIM
from training import restoring
from training.options import TrainingOptions

DATA = "model.ckpt-3.data-00000-of-00001"


def dry_run(folder):
    lines = []
    net = restoring.NetConfig("mobilenet_v1_025", 5, 128)
    restoring.dry_run(TrainingOptions.of(checkpoint_path=str(folder)), net, lines.append)
    return lines


@pytest.fixture
def train_dir(tmp_path):
    return shutil.copytree(SLIM / "train_dir", tmp_path / "train_dir")


def test_a_dry_run_says_what_is_restored(train_dir):
    assert "137 variables restored" in dry_run(train_dir)[0]


def test_a_dry_run_of_a_checkpoint_without_its_data_names_the_file(train_dir):
    (train_dir / DATA).unlink()
    with pytest.raises(InputError, match=f"{DATA}: it is missing"):
        dry_run(train_dir)


def test_a_dry_run_of_a_checkpoint_that_was_cut_names_the_file(train_dir):
    content = (train_dir / DATA).read_bytes()
    (train_dir / DATA).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{DATA}: it is cut short"):
        dry_run(train_dir)
