"""run.json: what evaluation, export and a resumed training need to know of a run."""

import dataclasses
import glob
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from datasets import storage
from foundation import documents, files
from foundation.errors import InputError
from foundation.options import Options, values
from nets.options import MOST_PIXELS, PRETRAINED
from training import validation

FILE_NAME = "run.json"
_FORMAT = 1

# Options that must agree with the run, and the field that each of them speaks of.
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

_DATA = ("dataset_dir", "tfrecord_file", "path_to_csv")  # fields that are paths


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a train_dir was trained on and for.

    `labels` are the class names in the order of the logits; `image_size` is the side in pixels.
    In `preprocessing_options`, `zca_file` is the name of a file in run.json's folder.
    The dataset fields repeat the options, so that evaluation finds the same examples. `flags` holds
    all options of the training, and `mlflow_…` where MLflow has the run. `temperature` says by what
    the logits of one checkpoint are divided, of which one, and what it was fitted on; `trained` how
    long the training took: wall "seconds" with all that belongs to it, and the "images" seen then.
    `num_workers` took part in its last part, whose data had `num_examples`, and records of the
    `fingerprint`; None where an earlier version trained it.
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
    temperature: dict[str, Any] | None = None
    trained: dict[str, float] = dataclasses.field(default_factory=dict)
    num_workers: int | None = None
    num_examples: int | None = None
    fingerprint: str | None = None

    def __post_init__(self):
        if self.num_classes < 1:
            raise ValueError("no classes")
        if not 1 <= self.image_size <= MOST_PIXELS:
            raise ValueError(f"images of {self.image_size} pixels")
        if self.labels and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.num_classes} classes")
        files.check_is_name(self.preprocessing_options.get("zca_file", "none"))

    @property
    def channels(self) -> int:
        return 1 if self.use_grayscale else 3


def with_time(config: RunConfig, seconds: float, images: int) -> RunConfig:
    """The configuration after a further part of the training."""
    trained = {
        "seconds": config.trained.get("seconds", 0.0) + seconds,
        "images": config.trained.get("images", 0) + images,
    }
    return dataclasses.replace(config, trained=trained)


def flags_of(options: Options) -> dict[str, Any]:
    """All options of a job as run.json has them: pairs such as (1000, "A/b") as "1000:A/b"."""

    def plain(value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        return [":".join(map(str, one)) if isinstance(one, tuple) else one for one in value]

    return {name: plain(value) for name, value in values(options).items()}


def save(train_dir: str, config: RunConfig, companions_of: str | None = None) -> None:
    """Writes `train_dir`/run.json whole or not at all; raises OSError.

    Paths become absolute, so that they hold in any working directory. Files that it names are
    copied from the folder `companions_of`, where one is given.
    """
    name = config.preprocessing_options.get("zca_file")
    if companions_of and name:
        with (
            open(os.path.join(companions_of, name), "rb") as companion,
            files.whole(os.path.join(train_dir, name), "wb") as copy,
        ):
            shutil.copyfileobj(companion, copy)
    path = os.path.join(train_dir, FILE_NAME)
    content = {"format": _FORMAT, **dataclasses.asdict(config)}
    content |= {name: placed(name, content[name]) for name in _DATA}
    if config.flags.get("train_dir"):  # to know how the data lies to it, wherever both go
        content["flags"]["train_dir"] = _absolute(config.flags["train_dir"])
    with files.whole(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def load(path: str) -> RunConfig | None:
    """A checkpoint's configuration.

    Args:
      path: a train_dir, or a checkpoint in it (`train_dir/model.ckpt-100`).

    Returns:
      The configuration, with its data where they lie now; None where there is no run.json (a
      checkpoint of TF-Slim's own).

    Raises:
      InputError: there is nothing at `path`, or the file is no run.json that this version reads.
    """
    if path == PRETRAINED:
        return None  # a word, no place (nets.pretrained)
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    file_path = os.path.join(directory, FILE_NAME)
    if not os.path.exists(file_path):
        if not os.path.isdir(path) and not glob.glob(f"{glob.escape(path)}*"):
            raise InputError(f"{path}: there is no such folder or checkpoint.")
        return None
    try:
        with open(file_path, "rb") as file:
            content = documents.parsed(file.read())
        if content.pop("format") != _FORMAT:
            raise ValueError("another format version")
        return _with_data_found(documents.of(RunConfig, content), directory)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file_path} can't be read ({error}). It was damaged, or written by another version: "
            "restore it, or train into a new --train_dir."
        ) from error


def parsed(content: Mapping[str, Any]) -> RunConfig:
    """The configuration that a dictionary of its fields stands for; InputError where none does."""
    try:
        return documents.of(RunConfig, content)
    except ValueError as error:
        raise InputError(f"what is said of a training can't be used ({error}).") from error


def _with_data_found(config: RunConfig, folder: str) -> RunConfig:
    """The configuration in `folder`, with its data as they lie to it where that is needed.

    It is needed for data that moved together with the run, and for paths of earlier versions,
    which are relative to the working directory of the training.
    """
    train_dir = config.flags.get("train_dir")
    train_dir = "" if train_dir is None else train_dir
    if not isinstance(train_dir, str):
        raise ValueError(f"flags.train_dir is {train_dir!r}")
    now = os.path.abspath(folder)
    if os.path.basename(now) == validation.FOLDER:
        now = os.path.dirname(now)

    def found(path: str) -> str:
        is_absolute = os.path.isabs(path)
        if "://" in path or not train_dir or os.path.isabs(train_dir) != is_absolute:
            return path
        moved = os.path.normpath(os.path.join(now, os.path.relpath(path, train_dir)))
        candidates = (path, moved) if is_absolute else (moved, path)
        return next((one for one in candidates if storage.find(one)), path)

    places = {name: _each(found, name, getattr(config, name)) for name in _DATA}
    return dataclasses.replace(config, **places)


def placed(name: str, value: str | None) -> str | None:
    """The value of a field that may be a path, as run.json has it."""
    return _each(_absolute, name, value) if name in _DATA else value


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)


def _each(function: Callable[[str], str], name: str, value: str | None) -> str | None:
    """Applies a function to the path, or to each of the paths, that a field holds."""
    if value and name == "tfrecord_file":
        return ",".join(function(path.strip()) for path in value.split(",") if path.strip())
    return value and function(value)


def check_agrees(config: RunConfig, given: dict[str, Any], train_dir: str = "") -> None:
    """Compares options set by hand with the run.

    Args:
      config: of the run.
      given: option name → value; options that the run says nothing of, and the value None, are
        ignored.
      train_dir: where the run lies, for the message.

    Raises:
      InputError: some differ; the message shows both values of each.
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
        raise InputError(
            f"{'; '.join(differing)} ({place}). Leave the flag out to take the run's value, or "
            "train with other values into another --train_dir."
        )
