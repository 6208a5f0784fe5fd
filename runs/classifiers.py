"""Opens what names pictures: an export of any format, a training folder, or a graph alone."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from foundation import labels as class_names
from foundation.errors import InputError
from foundation.options import given_values
from nets import checkpoints
from runs import category_names, checks, explained, opened, plain_graphs, preparation, temperature
from runs import config as run_config
from runs.explained import Explainer
from runs.opened import OpenRun
from runs.options import AloneOptions
from serving import classifier, export_config, frozen_graph
from serving.classifier import Classifier
from serving.export_config import ExportConfig
from serving.options import ModelOptions

Say = Callable[[str], None]
Prepare = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class OpenModel:
    """A model that pictures can be shown to.

    Attributes:
      classifier: names what is in them.
      labels: its classes as they were trained, which may be called otherwise.
      explainer: opens Grad-CAM of the same net; raises InputError where its format has none.
    """

    classifier: Classifier
    labels: tuple[str, ...]
    explainer: Callable[[], Explainer]


def open_model(
    model: ModelOptions,
    alone: AloneOptions | None = None,
    asked_temperature: str | None = None,
    say: Say = print,
) -> OpenModel:
    """Opens a model of any kind.

    Args:
      model: where it is, and what its classes are to be called.
      alone: what a graph or a checkpoint without companions does not know of itself.
      asked_temperature: as --temperature has it.
      say: gets lines for the screen.

    Raises:
      InputError: no model, a damaged one, or one that does not fit the options.
      OSError: it can't be read.
    """
    alone = alone or AloneOptions()
    opened.share_gpus()
    path = model.model
    # What gives no gradients is refused by `explained.of_export` in words of its own.
    explainer = functools.partial(explained.of_export, path)
    if checks.is_plain_graph(path):
        found = plain_graphs.of_file(path, alone, say)
        divisor = temperature.number(asked_temperature or "none", None, path)
        found = found if divisor == 1 else found.at_temperature(divisor)
    elif checks.is_export(path):
        found = _of_export(path, alone, asked_temperature, say)
    else:
        run = _opened_run(path, alone, say)
        found = _of_run(run, asked_temperature)
        explainer = functools.partial(explained.of_run, run)
    labels = found.labels
    if model.category_names:
        names, line = category_names.shown(found.labels, model.category_names)
        found = found.called(names)
        if line:
            say(line)
    return OpenModel(found, labels, explainer)


def _of_export(path: str, alone: AloneOptions, asked: str | None, say: Say) -> Classifier:
    found = classifier.load(path, _recipe)
    used = {"labels", *_nodes_as_exported(path, alone)}
    if unused := sorted(name for name in given_values(alone) if name not in used):
        say(
            f"export.json knows how {path} is fed: "
            f"{', '.join(f'--{name}' for name in unused)} {'is' if len(unused) == 1 else 'are'} "
            "left aside."
        )
    if asked:
        export = classifier.config_of(path)
        wanted = temperature.number(asked, export.run.get("temperature"), path)
        found = found.at_temperature(wanted / export.temperature)
    if given := alone.graph.labels:
        try:
            found = found.called(class_names.read(given))
        except InputError as error:
            raise InputError(error.problem, option="labels", value=given) from error
    return found


def _nodes_as_exported(path: str, alone: AloneOptions) -> Iterator[str]:
    """The options that name nodes of an exported graph, where they are those that it is run by.

    Raises:
      InputError: the graph has no such node.
    """
    names = ("input_layer", "output_layer")
    asked = {name: node for name in names if (node := getattr(alone.graph, name))}
    file = classifier.model_file(path)
    if not asked or not file.endswith(".pb") or not os.path.isfile(file):
        return
    nodes = classifier.config_of(path).nodes
    for name, node in frozen_graph.named_nodes(file, asked).items():
        if (node == nodes["input"]) if name == "input_layer" else node in nodes.values():
            yield name


def _recipe(export: ExportConfig, path_of: Callable[[str], str]) -> Prepare:
    """The preprocessing of a file that holds the net alone; `path_of` finds files of the export."""
    config = run_config.parsed(export.run)
    recipe = preparation.recipe_of(config, path_of, said_by=path_of(export_config.FILE_NAME))
    return _compiled(
        functools.partial(
            recipe.evaluate, size=config.image_size, use_grayscale=config.use_grayscale
        )
    )


def _opened_run(path: str, alone: AloneOptions, say: Say) -> OpenRun:
    given = alone.graph.labels
    names = class_names.read(given) if given else None
    if os.path.isdir(path) and checkpoints.latest(path) is None:
        raise InputError(
            "is neither an export (no export.json) nor a training folder (no checkpoint).",
            option="model",
            value=path,
            remedy="Name a folder that export_model.py or train_image_classifier.py wrote.",
        )
    run = opened.open_run(path, alone.of_run, names=names, say=say)
    say(f"{run}")
    return run


def _of_run(run: OpenRun, asked: str | None) -> Classifier:
    """The net of a training folder or a checkpoint."""
    size, channels = run.config.image_size, run.config.channels
    divisor = temperature.of_run(asked, run)
    prepare = _compiled(
        functools.partial(run.recipe.evaluate, size=size, use_grayscale=run.config.use_grayscale)
    )

    @tf.function(
        input_signature=[tf.TensorSpec([None, size, size, channels], tf.float32)], autograph=False
    )
    def predict(images):
        logits = run.model(images, training=False)["logits"] / divisor
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    def classify(encoded):
        pixels = np.stack([prepare(one).numpy() for one in encoded])
        return {name: x.numpy() for name, x in predict(pixels).items()}

    return Classifier(classify, run.labels)


def _compiled(prepare: Prepare) -> Prepare:
    """A recipe as one graph, which takes less time than its operations one by one."""
    return tf.function(prepare, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
