"""What is evaluated: the net of a checkpoint, or an exported model. Both answer in the same way."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from datasets.tfrecord_dataset import Dataset
from evaluation import views
from foundation.errors import InputError
from nets import costs, maps, nets_factory
from nets.costs import Cost
from runs import config as run_config
from runs import opened, preparation, temperature
from runs.config import RunConfig
from runs.opened import OpenRun
from runs.options import EvaluateOptions
from serving import classifier, explain, export_config, saved_model

Say = Callable[[str], None]
# Pictures that are explained at once.
_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A net and how it is asked.

    Attributes:
      config: run.json, or what export.json has of it.
      checkpoint: path of the checkpoint or of the exported model.
      folder: where that lies.
      step: of the checkpoint; 0 where it is unknown.
      uses_averages: whether the weights are moving averages.
      temperature: by which the logits are divided.
      value_range: least and greatest value of the pixels; None if they have no bounds.
      cost: of the net.
      decode: from an encoded picture, scalar string, to what `predict` takes a batch of.
      predict: from such a batch to logits [B, C] of the dataset's C classes.
      pixels: from such a batch to float32 [B, H, W, channels], as the net sees them.
      run: the opened checkpoint; None for an exported model.
      inputs: from such a batch to what `heat` takes of its examples, by their places.
      heat: from N of these and N classes of the dataset to Grad-CAM's heat, float32 [N, h, w]; None
        where there is none to be had.
    """

    config: RunConfig
    checkpoint: str
    folder: str
    step: int
    uses_averages: bool
    temperature: float
    value_range: tuple[float, float] | None
    cost: Cost
    decode: Callable[[tf.Tensor], Any]
    predict: Callable[[Any], tf.Tensor]
    pixels: Callable[[Any], tf.Tensor] = lambda batch: batch
    run: OpenRun | None = None
    inputs: Callable[[Any], Callable[[int], Any]] = lambda batch: lambda i: None
    heat: Callable[[Sequence[Any], Sequence[int]], np.ndarray] | None = None


def of_checkpoint(options: EvaluateOptions, dataset: Dataset, say: Say) -> Evaluated:
    """Restores a net; raises InputError where it, the options and the dataset do not fit."""
    run = opened.open_run(
        options.checkpoint.checkpoint_path,
        options,
        names=dataset.labels,
        precision=options.evaluation.precision,
        say=say,
    )
    num_hidden = _num_hidden(run, dataset)
    if num_hidden:
        say(f"The checkpoint's class 0 is the background of {run.net.name}, and is left out.")
    tta, side = options.evaluation.tta, run.config.image_size
    size = views.whole_size(tta, side)
    recipe = preparation.recipe_of(run.config, functools.partial(os.path.join, run.folder), [size])
    averaged = "" if tta == "none" else f", mean of --tta={tta}"
    say(f"{run}, {options.evaluation.precision}{averaged}")
    divisor = temperature.of_run(options.temperature.temperature or "none", run)
    shape = [None, side, side, run.config.channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def predict(images):
        return run.model(images, training=False)["logits"][:, num_hidden:] / divisor

    predict.get_concrete_function()  # traced here, so that it doesn't count as the net's time
    return Evaluated(
        config=run.config,
        checkpoint=run.checkpoint,
        folder=run.folder,
        step=run.step or 0,
        uses_averages=run.uses_averages,
        temperature=divisor,
        value_range=recipe.value_range,
        cost=costs.of(run.model),
        decode=functools.partial(
            recipe.evaluate, size=size, use_grayscale=run.config.use_grayscale
        ),
        predict=views.mean_of(predict, side, tta),
        run=run,
        inputs=lambda batch: lambda i: batch[i].numpy(),
        heat=functools.partial(_heat, run.model, num_hidden) if tta == "none" else None,
    )


def _heat(
    model: keras.Model, num_hidden: int, images: Sequence[np.ndarray], classes: Sequence[int]
) -> np.ndarray:
    # Not compiled: a few pictures are done before a graph is traced.
    halves, classes = maps.halves(model), tf.constant(classes, tf.int32) + num_hidden
    parts = [
        explain.heat(halves, tf.stack(images[i : i + _AT_ONCE]), classes[i : i + _AT_ONCE])
        for i in range(0, len(images), _AT_ONCE)
    ]
    return tf.concat(parts, axis=0).numpy()


def of_export(options: EvaluateOptions, dataset: Dataset, say: Say) -> Evaluated:
    """Loads an exported model; raises InputError where it and the dataset do not fit.

    A SavedModel gets the encoded pictures, and its own recipe prepares them. The other files get
    pixels, which the recipe named in export.json prepares as it does for a checkpoint.
    """
    path = options.evaluation.model
    export, model_file = classifier.config_of(path), classifier.model_file(path)
    config = run_config.parsed(export.run)
    model = classifier.load(path, lambda *_: lambda pixels: pixels)
    hidden = (opened.BACKGROUND,) if len(model.labels) > dataset.num_classes else ()
    if model.labels != (*hidden, *dataset.labels):
        raise opened.other_classes("The model", model.labels, dataset.labels)
    path_of = functools.partial(classifier.companion, path)
    recipe = preparation.recipe_of(config, path_of, said_by=path_of(export_config.FILE_NAME))
    evaluate = functools.partial(
        recipe.evaluate, size=config.image_size, use_grayscale=config.use_grayscale
    )
    takes_encoded = os.path.isdir(model_file)

    def decode(encoded):
        pixels = evaluate(encoded)
        return {"encoded": encoded, "pixels": pixels} if takes_encoded else pixels

    asked = options.temperature.temperature
    wanted = temperature.number(asked, config.temperature, path) if asked else export.temperature
    divisor = np.float32(wanted / export.temperature)

    def predict(batch):
        inputs = batch["encoded"] if takes_encoded else batch
        return model.outputs(list(inputs.numpy()))["logits"][:, len(hidden) :] / divisor

    def heat(encoded, classes):
        return saved_model.load_explainer(model_file)(encoded, np.add(classes, len(hidden)))["heat"]

    say(f"Model: {model_file}, {config.model_name}, {len(model.labels)} classes")
    return Evaluated(
        config=config,
        checkpoint=model_file,
        folder=os.path.dirname(model_file),
        step=export.global_step or 0,
        uses_averages=export.moving_averages,
        temperature=wanted,
        value_range=recipe.value_range,
        cost=_cost(config),
        decode=decode,
        predict=predict,
        pixels=lambda batch: batch["pixels"] if takes_encoded else batch,
        inputs=lambda batch: lambda i: batch["encoded"][i].numpy() if takes_encoded else None,
        heat=heat if takes_encoded else None,
    )


def _cost(config: RunConfig) -> Cost:
    """Of a net whose weights are in a file of another format."""
    with keras.StatelessScope(initialize_variables=False):
        return costs.of(
            nets_factory.build(
                config.model_name,
                config.num_classes,
                config.image_size,
                config.channels,
                **config.net_options,
            )
        )


def _num_hidden(run: OpenRun, dataset: Dataset) -> int:
    """How many of the net's classes no example is of: the background of a zoo checkpoint."""
    num_hidden = run.config.num_classes - dataset.num_classes
    if num_hidden and not run.net.background_class:
        raise InputError(
            f"{run.checkpoint} has {run.config.num_classes} classes, the dataset "
            f"{dataset.num_classes}, and checkpoints of {run.net.name} have no background class.",
            remedy="Evaluate on a dataset with the same classes.",
        )
    return num_hidden
