"""run.json: what evaluation, export and a resumed training need to know of a run."""

import dataclasses
import glob
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from nets.options import PRETRAINED

FILE_NAME = "run.json"
_FORMAT = 1

# Flags of the scripts that must agree with the run, and the field each of them speaks of.
_FIELD_OF_FLAG = {
    "model_name": "model_name",
    "num_classes": "num_classes",
    "labels_offset": "labels_offset",
    "train_image_size": "image_size",
    "eval_image_size": "image_size",
    "image_size": "image_size",
    "preprocessing_name": "preprocessing_name",
    "use_grayscale": "use_grayscale",
    "moving_average_decay": "moving_average_decay",
}

# Flags that decide which variables a checkpoint of the run has, and what its slots mean.
_CARRIED_ON = ("optimizer", "trainable_scopes", "unfreeze", "frozen_batch_norm")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a train_dir was trained on and for.

    `labels` are the class names in the order of the logits; `image_size` is the side in pixels.
    In `preprocessing_options`, `zca_file` is the name of a file beside run.json.
    The dataset fields repeat the flags, so that evaluation finds the same examples. The last two
    say where MLflow has the run.
    """

    model_name: str
    num_classes: int
    labels: tuple[str, ...]
    image_size: int
    preprocessing_name: str
    use_grayscale: bool = False
    labels_offset: int = 0
    moving_average_decay: float | None = None
    dataset_dir: str | None = None
    dataset_name: str | None = None
    dataset_split_name: str | None = None
    tfrecord_file: str | None = None
    path_to_csv: str | None = None
    net_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    preprocessing_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)
    mlflow_run_id: str | None = None
    mlflow_uri: str | None = None

    @property
    def channels(self) -> int:
        return 1 if self.use_grayscale else 3


def save(train_dir: str, config: RunConfig, companions_of: str | None = None) -> None:
    """Writes `train_dir`/run.json whole or not at all; raises OSError.

    Files that it names are copied from the folder `companions_of`, where one is given.
    """
    name = config.preprocessing_options.get("zca_file")
    if companions_of and name:
        shutil.copyfile(os.path.join(companions_of, name), os.path.join(train_dir, name))
    path = os.path.join(train_dir, FILE_NAME)
    content = {"format": _FORMAT, **dataclasses.asdict(config)}
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
    os.replace(f"{path}.tmp", path)


def load(path: str) -> RunConfig | None:
    """The configuration beside a checkpoint.

    Args:
      path: a train_dir, or a checkpoint in it (`train_dir/model.ckpt-100`).

    Returns:
      The configuration, or None where there is no run.json (a checkpoint of TF-Slim's own).

    Raises:
      ValueError: there is nothing at `path`, or the file is no run.json that this version reads.
    """
    if path == PRETRAINED:
        return None  # a word, no place (nets.pretrained)
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    file_path = os.path.join(directory, FILE_NAME)
    if not os.path.exists(file_path):
        if not os.path.isdir(path) and not glob.glob(f"{glob.escape(path)}*"):
            raise ValueError(f"{path}: there is no such folder or checkpoint.")
        return None
    try:
        with open(file_path, encoding="utf-8") as file:
            content = json.load(file)
        if content.pop("format") != _FORMAT:
            raise ValueError("another format version")
        return parsed(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file_path} can't be read ({error}). It was damaged, or written by another version: "
            "restore it, or train into a new --train_dir."
        ) from error


def parsed(content: Mapping[str, Any]) -> RunConfig:
    """The configuration that a dictionary of its fields stands for."""
    return RunConfig(**{**content, "labels": tuple(content["labels"])})


def check_agrees(config: RunConfig, given: dict[str, Any], train_dir: str = "") -> None:
    """Holds flags set by hand against the run.

    Args:
      config: of the run.
      given: flag name → value, for flags set by hand; flags that the run says nothing of, and
        the value None, are passed over.
      train_dir: where the run lies, for the message.

    Raises:
      ValueError: some differ; the message shows both values of each.
    """
    differing = [
        f"--{flag}={value}, but the run has {getattr(config, field)}"
        for flag, value in given.items()
        if (field := _FIELD_OF_FLAG.get(flag))
        and value is not None
        and value != getattr(config, field)
    ]
    if differing:
        place = os.path.join(train_dir, FILE_NAME)
        raise ValueError(
            f"{'; '.join(differing)} ({place}). Leave the flag out to take the run's value, or "
            "train with other values into another --train_dir."
        )


def check_continues(
    earlier: RunConfig,
    given: Mapping[str, tuple[Any, Any]],
    flags: Mapping[str, Any],
    train_dir: str,
) -> None:
    """Holds a training that is to go on against its earlier part; beside `check_agrees`.

    Args:
      earlier: the run so far.
      given: flag → what it was set to by hand, and what the run so far had.
      flags: all flags of the training.
      train_dir: where the run lies, for the message.

    Raises:
      ValueError: they differ; the message shows both values.
    """
    carried_on = {flag: (flags.get(flag), earlier.flags.get(flag)) for flag in _CARRIED_ON}
    carried_on = {flag: pair for flag, pair in carried_on.items() if flag in earlier.flags}
    for flag, values in (given | carried_on).items():
        now, before = map(_written, values)
        same = now == before
        if flag in carried_on:  # scopes, in any order
            same = set(now.split(",")) == set(before.split(","))
        if not same:
            raise ValueError(
                f"--{flag}={now}, but {train_dir} was trained with --{flag}={before}. Give the "
                f"same, or start another --train_dir with --checkpoint_path={train_dir}."
            )


def _written(value: object) -> str:
    """A flag's value as a command line has it, lists without blanks and empty entries."""
    entries = value if isinstance(value, list | tuple) else [] if value is None else [value]
    words = ",".join(map(str, entries)).split(",")
    return ",".join(word.strip() for word in words if word.strip())
