import dataclasses
import pathlib

import pytest

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
