"""What a job refuses before TensorFlow is imported, from its options and what lies on the disk."""

import dataclasses
import os
from collections.abc import Sequence

from datasets import tfrecord_dataset
from evaluation import published
from foundation import files, picture_formats
from foundation.errors import InputError, UsageError
from foundation.options import given_values
from nets import exported, names
from nets.options import PRETRAINED
from runs import category_names, pictures
from runs import config as run_config
from runs.config import RunConfig
from runs.options import (
    AloneOptions,
    ClassifyImageOptions,
    CompareRunsOptions,
    EvaluateOptions,
    ExportModelOptions,
    OpenOptions,
    TrainOptions,
    WebDemoOptions,
)
from serving import export_config
from serving.options import ModelOptions

# Options that must agree with the run where they are set by hand. The recipe is compared later:
# the name of a net stands for its recipe, and the table of recipes needs TensorFlow.
_AGREEING = ("model_name", "eval_image_size", "image_size", "use_grayscale", "labels_offset")

# Models of an export that are files, and the one in a SavedModel's folder that makes it one.
_MODEL_SUFFIXES = (".pb", ".tflite", ".onnx")
_SAVED_MODEL = "saved_model.pb"
# What shows that a folder is an evaluation's or a training's.
_COMPARABLE = (published.METRICS, run_config.FILE_NAME)


def folder_of(checkpoint_path: str) -> str:
    """The folder in which a checkpoint and its run.json lie."""
    if os.path.isdir(checkpoint_path):
        return checkpoint_path
    return os.path.dirname(checkpoint_path) or "."


def known_run(path: str, given: OpenOptions) -> RunConfig | None:
    """A checkpoint's configuration, or None where there is no run.json.

    Raises:
      InputError: there is nothing at `path`, or an option set by hand contradicts the run.
    """
    config = run_config.load(path)
    if config is None:
        exported.refuse_file(path)
        names.check(given.net.model_name)
        return None
    averages = given.checkpoint.moving_average_decay
    agrees(config, given, folder_of(path))
    return dataclasses.replace(config, moving_average_decay=None) if averages == 0 else config


def agrees(config: RunConfig, given: OpenOptions, place: str) -> None:
    """Raises InputError where an option set by hand contradicts the run that lies at `place`."""
    by_hand = {name: v for name, v in given_values(given).items() if name in _AGREEING}
    by_hand["moving_average_decay"] = given.checkpoint.moving_average_decay or None
    run_config.check_agrees(config, by_hand, place)


def training(given: TrainOptions) -> None:
    """Checks the names of net and dataset of a training."""
    if given.net.model_name != names.AUTO:
        names.check(given.net.model_name)
    if given.listing.list_models or given.listing.list_scopes:
        return
    source = given.source
    tfrecord_dataset.check_files(
        source.dataset_dir, source.dataset_name, source.dataset_split_name, source.tfrecord_file
    )
    if given.recipe.preprocessing_name == "addons":
        # The addons need Keras 2, which TensorFlow must know before it is imported.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"


def visualization(given: EvaluateOptions) -> None:
    """Checks the checkpoint and the pictures that are drawn."""
    known_run(given.checkpoint.checkpoint_path, given)
    pictures.find(given.visualization.visualize, option="visualize")


def evaluation(given: EvaluateOptions) -> RunConfig | None:
    """Checks an evaluation and makes its folder.

    Returns:
      what `known_run` does; None for an exported model, whose export.json is read with it.
    """
    path, config = given.checkpoint.checkpoint_path, None
    if given.evaluation.model:
        _check_model(given.evaluation.model)
    else:
        config = known_run(path, given)
        names_data(config, given, path)
        check_tracked(given.tracking.tracking, config, path)
    if given.evaluation.fit_temperature and config is None:
        raise InputError(
            f"the checkpoint {path} has no run.json that would keep the temperature.",
            option="fit_temperature",
            remedy="Leave the flag out.",
        )
    _check_folder(given.source.dataset_dir)
    eval_dir = given.evaluation.eval_dir
    _check_takes_files("eval_dir", eval_dir, eval_dir)
    return config


def _check_takes_files(option: str, value: str, folder: str) -> None:
    try:
        files.check_takes_files(folder)
    except OSError as error:
        raise InputError(
            f"{folder} can't be made or written: {error.strerror}.",
            option=option,
            value=value,
            remedy="Name a place that can be written.",
        ) from error


def names_data(config: RunConfig | None, given: EvaluateOptions, path: str) -> None:
    """Checks that the options or the run at `path` say where the data is.

    Raises:
      UsageError: neither does.
      InputError: neither does, and no checkpoint is there either.
    """
    places = (config, given.source) if config else (given.source,)
    if not any(place.dataset_dir or place.tfrecord_file for place in places):
        if os.path.isdir(path) and not os.listdir(path):
            raise InputError(f"{path}: no checkpoint there.")
        raise UsageError(
            "say where the data is: --dataset_dir=FOLDER or --tfrecord_file=FILE. "
            f"({path} has no run.json that would know.)"
        )


def watching(given: EvaluateOptions) -> None:
    """Checks an evaluation of checkpoints to come; their folder need not be there yet."""
    path = given.checkpoint.checkpoint_path
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, run_config.FILE_NAME)) or given.source.is_given:
            evaluation(given)
    elif os.path.exists(path) or os.path.exists(f"{path}.index") or path == PRETRAINED:
        raise InputError(
            "--eval_interval_secs waits for checkpoints of a training's folder.",
            option="checkpoint_path",
            value=path,
            remedy="Name the folder.",
        )


def export(given: ExportModelOptions) -> RunConfig | None:
    """Checks an export; returns what `known_run` does."""
    path = given.checkpoint.checkpoint_path
    config = known_run(path, given)
    if config and given.export.labels_file:
        raise InputError(
            f"the run.json in {folder_of(path)} names the classes.",
            option="labels_file",
            value=given.export.labels_file,
            remedy="Leave the flag out.",
        )
    _check_folder(given.source.dataset_dir)
    return config


def classification(given: ClassifyImageOptions, pictures: Sequence[str]) -> None:
    """Checks the model of a classification, and where its answers go."""
    asked_model(given.model, given.alone)
    plot = given.drawn.plot
    if plot and plot.lower().endswith(".png") and len(pictures) > 1:
        raise UsageError(
            f"one file, and {len(pictures)} pictures.",
            option="plot",
            value=plot,
            remedy="Name a folder: each picture gets a file of its own.",
        )
    answers = {"csv": given.classify.csv, "json": given.classify.json, "html": given.drawn.html}
    for option, path in answers.items():
        if path and os.path.isdir(path):
            raise InputError("is a folder.", option=option, value=path, remedy="Name a file in it.")
        if path and (os.path.isfile(path) or not os.path.exists(path)):  # else /dev/stdout, a pipe
            _check_takes_files(option, path, os.path.dirname(path) or ".")
    if plot:
        is_file = plot.lower().endswith(".png")
        _check_takes_files("plot", plot, (os.path.dirname(plot) or ".") if is_file else plot)


def web_demo(given: WebDemoOptions) -> None:
    """Checks the model of a demo, and the pages that it shows."""
    asked_model(given.model, given.alone)
    for name in ("report", "comparison"):
        if path := getattr(given.demo, name):
            with published.settled(os.path.dirname(path) or "."):
                is_there = os.path.isfile(path)
            if not is_there:
                raise InputError("there is no such file.", option=name, value=path)
    for path in pictures.find(given.demo.examples, option="examples").pictures:
        if not os.path.isfile(path):
            raise InputError("there is no such picture.", option="examples", value=path)


def asked_model(given: ModelOptions, alone: AloneOptions) -> None:
    """Checks that a model is there, and the files that name its classes."""
    for name, path in (("labels", alone.graph.labels), ("category_names", given.category_names)):
        if path and not os.path.isfile(path):
            raise InputError("there is no such file.", option=name, value=path)
    if given.category_names:
        category_names.read(given.category_names)
    path = given.model
    if path == PRETRAINED:
        names.check(alone.net.model_name)
    elif not is_export(path) and not is_plain_graph(path):
        if not os.path.exists(f"{path}.index"):  # of a checkpoint in several files
            _check_model(path)
            _refuse_picture(path)
        known_run(path, alone.of_run)


def is_plain_graph(path: str) -> bool:
    """Whether this is a frozen graph without an export.json."""
    if not path.endswith(".pb") or os.path.basename(path) == _SAVED_MODEL:
        return False
    companion = export_config.path_of(path, export_config.FILE_NAME)
    return _is_model_file(path) and not os.path.exists(companion)


def is_export(path: str) -> bool:
    """Whether this is what an export wrote, or a model in a format of one."""
    if not os.path.isdir(path):
        return _is_model_file(path) and not is_plain_graph(path)
    folders = [path, *(os.path.join(path, name) for name in os.listdir(path) if name.isdecimal())]
    return os.path.exists(os.path.join(path, export_config.FILE_NAME)) or any(
        os.path.exists(os.path.join(folder, _SAVED_MODEL)) for folder in folders
    )


def _is_model_file(path: str) -> bool:
    return os.path.isfile(path) and path.endswith(_MODEL_SUFFIXES)


def _check_model(model: str) -> None:
    if not os.path.exists(model):
        raise InputError(
            "does not exist.", option="model", value=model, remedy="Write one with export_model.py."
        )


def _refuse_picture(model: str) -> None:
    if os.path.isfile(model) and picture_formats.is_picture(model, b""):
        raise InputError(
            "is a picture by its name, no model.",
            option="model",
            value=model,
            remedy="Name the folder that training or export_model.py wrote, a checkpoint, or a "
            ".pb, .tflite or .onnx file. --image names pictures.",
        )


def check_tracked(tracking: str, config: RunConfig | None, path: str) -> None:
    """Refuses to add to MLflow's record of a run that it does not have."""
    if tracking == "mlflow" and not (config and config.mlflow_run_id):
        raise InputError(
            f"MLflow knows no run of {path}.",
            option="tracking",
            value=tracking,
            remedy="Train it with --tracking=mlflow, or leave the flag out.",
        )


def _check_folder(dataset_dir: str | None) -> None:
    # Folders with a scheme, such as gs://, are TensorFlow's to read.
    if dataset_dir and "://" not in dataset_dir and not os.path.isdir(dataset_dir):
        raise InputError("there is no such folder.", option="dataset_dir", value=dataset_dir)


def comparison(given: CompareRunsOptions) -> None:
    """Checks that the runs and exports are there."""
    for path in given.comparison.run:
        with published.settled(path):
            there = [name for name in _COMPARABLE if os.path.exists(os.path.join(path, name))]
        if not there:
            raise InputError(
                "has neither an evaluation's metrics.json nor a training's run.json.",
                option="run",
                value=path,
                remedy="Name an --eval_dir or a --train_dir.",
            )
    for path in given.comparison.exports:
        if path != "-" and not os.path.exists(path):
            raise InputError(
                "does not exist.",
                option="exports",
                value=path,
                remedy="Write one with export_model.py.",
            )
