import dataclasses
import pathlib

import pytest

from datasets.tfrecord_dataset import Dataset
from foundation import options as foundation_options
from runs import config as run_config
from runs import continuing
from runs.options import TrainOptions

FIXTURES = pathlib.Path(__file__).parent / "fixtures/run_json"
CONFIG = run_config.RunConfig("inception_v3", 2, ("cat", "dog"), 250, "inception")


def test_what_a_run_is_carried_on_with_must_be_the_same():
    flags = {"optimizer": "adam", "trainable_scopes": "", "unfreeze": ["5:A/b", " 9:A"]}
    earlier = dataclasses.replace(CONFIG, flags=flags)
    same = {"optimizer": "adam", "trainable_scopes": None, "unfreeze": ["5:A/b", "9:A"]}
    given = {"small_cnn_filters": (["8", "16"], (8, 16)), "head": ("dense:8,", "dense:8")}
    continuing.check_continues(earlier, given, same, "run")
    continuing.check_continues(earlier, given, same | {"unfreeze": ["9:A", "5:A/b"]}, "run")
    for changed in ({"optimizer": "sgd"}, {"trainable_scopes": "A"}, {"unfreeze": []}):
        with pytest.raises(ValueError, match=f"--{next(iter(changed))}=.*, but run was trained"):
            continuing.check_continues(earlier, given, same | changed, "run")
    with pytest.raises(ValueError, match="--fit=crop, but run was trained with --fit=letterbox"):
        continuing.check_continues(earlier, {"fit": ("crop", "letterbox")}, same, "run")


def test_what_differs_from_the_run_so_far_is_told():
    begun = TrainOptions.of(
        dataset_dir="animals", train_dir="run", learning_rate=0.01, batch_size=16, rotation_range=9
    )
    earlier = dataclasses.replace(
        CONFIG,
        flags=run_config.flags_of(begun),
        dataset_dir=run_config.placed("dataset_dir", "animals"),
        dataset_split_name="train",
    )
    data = Dataset("x", "train", ("f",), (9,), 1, ("cat", "dog"), 0, "", fingerprint="a")
    assert continuing.changes(earlier, begun, data) == ""
    longer = {"max_number_of_steps": 9, "log_every_n_steps": 3, "dataset_dir": "./animals"}
    assert continuing.changes(earlier, foundation_options.changed(begun, longer), data) == ""
    other = {"learning_rate": 0.001, "label_smoothing": 0.1, "balanced_sampling": True}
    assert continuing.changes(earlier, foundation_options.changed(begun, other), data) == (
        "learning_rate 0.01 → 0.001, label_smoothing 0.0 → 0.1, balanced_sampling False → True"
    )
    left_out = TrainOptions.of(dataset_dir="other", train_dir="run", learning_rate=0.01)
    told = continuing.changes(earlier, left_out, data)
    assert told.startswith("rotation_range 9") and "batch_size 16 → 32" in told
    assert told.endswith("/other")
    since = dataclasses.replace(earlier, num_examples=9, fingerprint="a")
    assert continuing.changes(since, begun, data) == ""
    others = dataclasses.replace(data, file_counts=(8,), fingerprint="b")
    told = "examples 9 → 8, records those of before → others"
    assert continuing.changes(since, begun, others) == told


def test_what_other_workers_and_clones_mean_is_told():
    begun = TrainOptions.of(dataset_dir="animals", batch_size=16, num_clones=2)
    earlier = dataclasses.replace(CONFIG, flags=run_config.flags_of(begun), num_workers=2)
    assert continuing.other_replicas(earlier, begun, 2) == ""
    told = continuing.other_replicas(earlier, begun, 1)
    assert told.startswith("workers 2 → 1. The data goes on")
    assert told.endswith(
        "an update is from 32 images, not 64: --batch_size=32 keeps 64, or a --learning_rate 0.5 "
        "times as high suits 32, as a rule of thumb."
    )
    clones = TrainOptions.of(dataset_dir="animals", batch_size=16, num_clones=3)
    told = continuing.other_replicas(earlier, clones, 2)
    assert told.startswith("clones 2 → 3.") and "--batch_size" not in told
    assert "a --learning_rate 1.5 times as high suits 96" in told
    kept = TrainOptions.of(dataset_dir="animals", batch_size=32, num_clones=2)
    told = continuing.other_replicas(earlier, kept, 1)
    assert told.endswith("and an update is from 64 images as before.")
    of_before = dataclasses.replace(earlier, num_workers=None)
    assert continuing.other_replicas(of_before, begun, 1) == ""


def test_a_run_of_an_earlier_version_goes_on():
    earlier = run_config.load(str(FIXTURES / "earlier"))
    options = TrainOptions.of(
        dataset_dir="animals",
        trainable_scopes=("SmallCnn/logits", "SmallCnn/conv2"),
        unfreeze=((1000, "SmallCnn/conv1"),),
    )
    flags = run_config.flags_of(options)
    continuing.check_continues(earlier, {}, flags, "run")
    # Options that did not change are written as they were.
    assert {name: flags[name] for name in ("unfreeze", "optimizer", "cache")} == {
        name: earlier.flags[name] for name in ("unfreeze", "optimizer", "cache")
    }
