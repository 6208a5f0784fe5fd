"""Opens a run: from a checkpoint to the restored net, its recipe, its classes and its step.

Evaluation and export go through here, and so does a notebook:

    run = open_run("train_dir")
    run.model(images, training=False)["logits"]
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from foundation import labels
from foundation.errors import InputError
from nets import checkpoints, imagenet, nets_factory, pretrained
from nets import precision as precisions
from nets.nets_factory import Net
from preprocessing.preprocessing_factory import Recipe
from runs import checks, preparation
from runs import config as run_config
from runs.config import RunConfig
from runs.options import OpenOptions

BACKGROUND = imagenet.BACKGROUND


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A trained net and what belongs to it.

    Attributes:
      config: run.json, or what a checkpoint without one is taken as.
      net: its row in `nets_factory`.
      model: restored; float32 [N, S, S, C] → {"logits": float32 [N, number of classes]}.
      recipe: from encoded images to what the model is fed.
      checkpoint: path of the checkpoint.
      folder: where it lies.
      step: at which it was written; None where that is unknown.
      has_run_json: whether the folder has a run.json.
    """

    config: RunConfig
    net: Net
    model: keras.Model
    recipe: Recipe
    checkpoint: str
    folder: str
    step: int | None
    has_run_json: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits; the first may be `BACKGROUND`."""
        return self.config.labels

    @property
    def uses_averages(self) -> bool:
        """Whether the weights are moving averages."""
        return bool(self.config.moving_average_decay)

    def __str__(self) -> str:
        size = self.config.image_size
        return (
            f"Net: {self.net.name}, {self.config.num_classes} classes; images {size} x {size} x "
            f"{self.config.channels}, preprocessing {self.config.preprocessing_name}"
            + (", moving averages" if self.uses_averages else "")
        )


def open_run(
    path: str,
    given: OpenOptions | None = None,
    *,
    names: Sequence[str] | None = None,
    precision: str = "float32",
    say: Callable[[str], None] = print,
) -> OpenRun:
    """Finds a checkpoint, builds its net and restores it.

    Args:
      path: a training folder, a checkpoint, a .keras or .h5 file, or the word pretrained.
      given: what is set by hand. It must agree with run.json; without one it says what the
        checkpoint holds.
      names: class names for a checkpoint without run.json, without the background; None numbers
        the classes.
      precision: what the layers compute in, of `nets.precision.PRECISIONS`.
      say: gets lines for the screen.

    Raises:
      InputError: no checkpoint, a damaged one, or one that does not fit the options or the names.
      OSError: a download failed.
    """
    given = given or OpenOptions()
    config = checks.known_run(path, given)
    has_run_json = config is not None
    net = nets_factory.get(config.model_name if config else given.net.model_name)
    num_classes = config.num_classes if config else len(names or ()) or net.checkpoint_outputs
    reader = pretrained.read(net.name, path, num_classes, given.download.cache_dir, say)
    if config:
        _check_recipe(config, given, path)
    else:
        config = _config_without_run(net, reader, given, names, say)
    folder = checks.folder_of(path)
    recipe = preparation.recipe_of(config, functools.partial(os.path.join, folder))
    model = nets_factory.build(
        net.name,
        config.num_classes,
        config.image_size,
        config.channels,
        dtype=precisions.choose(precision),
        **config.net_options,
    )
    averages = bool(config.moving_average_decay)
    report = checkpoints.restore(model, reader, use_moving_averages=averages)
    step = checkpoints.global_step(reader)
    # Of a run of ours all variables are known, and what is left over are the optimizer's.
    is_plain = has_run_json and not (report.missing or report.other_shape or report.excluded)
    restored = f"{reader.path}: {len(report.restored)} variables restored."
    say(restored if is_plain else str(report))
    return OpenRun(config, net, model, recipe, reader.path, folder, step, has_run_json)


def other_classes(subject: str, own: Sequence[str], of_dataset: Sequence[str]) -> InputError:
    """What to say where a net and a dataset have different classes."""
    return InputError(
        f"{subject} was trained on the classes {labels.shortened(own)}, the dataset has "
        f"{labels.shortened(of_dataset)}.",
        remedy="Evaluate on a dataset with the same classes.",
    )


def share_gpus() -> None:
    """Takes no more of the GPUs' memory than is needed: a training may be running on them."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # it is in use by this process already
            tf.config.experimental.set_memory_growth(gpu, True)


def _check_recipe(config: RunConfig, given: OpenOptions, path: str) -> None:
    """Compares a recipe that is set by hand with the run's; a net's name stands for its recipe."""
    name = given.recipe.preprocessing_name
    if name:
        name = preparation.recipe_name(name)
    run_config.check_agrees(config, {"preprocessing_name": name}, checks.folder_of(path))


def _config_without_run(
    net: Net,
    reader: checkpoints.Reader | checkpoints.Values,
    given: OpenOptions,
    names: Sequence[str] | None,
    say: Callable[[str], None],
) -> RunConfig:
    """What a checkpoint of TF-Slim's own holds: by the options, its shapes and the class names."""
    guess = len(names or ()) or net.checkpoint_outputs
    num_classes = checkpoints.head_size(
        net, reader, guess, given.size_by_hand, 1 if given.recipe.use_grayscale else None
    )
    recipe = preparation.recipe_name(given.recipe.preprocessing_name or net.preprocessing)
    say(
        f"{reader.path} has no run.json: taken as {net.name} with {num_classes} classes, "
        f"preprocessing {recipe}."
    )
    return RunConfig(
        model_name=net.name,
        num_classes=num_classes,
        labels=named_outputs(names, num_classes, reader.path, say),
        image_size=given.size_by_hand or net.image_size,
        preprocessing_name=recipe,
        use_grayscale=bool(given.recipe.use_grayscale),
        labels_offset=given.source.labels_offset,
        moving_average_decay=given.checkpoint.moving_average_decay,
        net_options=pretrained.net_options(net.name, reader),
    )


def named_outputs(
    names: Sequence[str] | None, num_classes: int, path: str, say: Callable[[str], None]
) -> tuple[str, ...]:
    """A name for each output of a checkpoint that brings none."""
    if names is None and (known := imagenet.names(num_classes)):
        say(
            f"The {num_classes:,} outputs are named as ImageNet's; --labels_file=FILE names others."
        )
        return known
    if names is None:
        say("The classes are named by their numbers; --labels_file=FILE would name them.")
        return tuple(str(number) for number in range(num_classes))
    if len(names) == num_classes - 1:
        say("The checkpoint has one class more than there are names: class 0 is the background.")
        return (BACKGROUND, *names)
    if len(names) != num_classes:
        raise InputError(
            f"{path} has {num_classes} classes, but {len(names)} are named.",
            remedy="Give the dataset or the class names that it was trained with, or another "
            "checkpoint.",
        )
    return tuple(names)
