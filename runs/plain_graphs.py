"""A frozen graph without the files of an export, and how its pictures are prepared."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from foundation import labels as class_names
from foundation.errors import InputError
from nets import nets_factory
from preprocessing import ops, preprocessing_factory
from runs import opened, preparation
from runs.options import AloneOptions
from serving import classifier, frozen_graph
from serving.classifier import Classifier

# What TensorFlow's label_image takes where nothing else is said.
_SIDE, _MEAN, _STD = 299, 0.0, 255.0

Prepare = Callable[[tf.Tensor], tf.Tensor]


def of_file(path: str, alone: AloneOptions, say: Callable[[str], None]) -> Classifier:
    """Opens a frozen graph by the options' word.

    Args:
      path: a binary GraphDef.
      alone: its nodes, its classes' names, and how its pictures are prepared: by a recipe, or as
        TensorFlow's label_image does.
      say: gets a line that says how it is understood.

    Raises:
      InputError: no frozen graph, or not as the options say.
      OSError: it can't be read.
    """
    given = alone.graph
    net, shape = frozen_graph.load_foreign(path, given.input_layer, given.output_layer)
    batch_size, *image = shape or (None,) * 4
    size = _size(path, image, alone)
    channels = image[2] or 3
    prepare, how = _preparation(size, channels, alone)
    say(f"{path} is a graph alone: images of {size} x {size} x {channels}, {how}.")
    blank = np.zeros((batch_size or 1, size, size, channels), np.float32)
    num_classes = net(blank)["logits"].shape[1]
    names = class_names.read(given.labels) if given.labels else None
    labels = opened.named_outputs(names, num_classes, path, say)

    def classify(encoded):
        pixels = np.stack([prepare(one).numpy() for one in encoded])
        return classifier.in_batches(net, pixels, batch_size or len(pixels))

    return Classifier(classify, labels)


def _size(path: str, image: list[int | None], alone: AloneOptions) -> int:
    """Side of the images, (height, width, channels) being what the graph says of them."""
    height, width, _ = image
    given = alone.graph.side
    if height != width:
        raise InputError(f"{path} takes images of {height} x {width}: only squares are supported.")
    if height and given and given != height:
        raise InputError(
            f"the graph takes images of {height} pixels.", option="image_size", value=given
        )
    by_name = nets_factory.get(alone.net.model_name) if "model_name" in alone.net.given else None
    return height or given or (by_name.image_size if by_name else _SIDE)


def _preparation(size: int, channels: int, alone: AloneOptions) -> tuple[Prepare, str]:
    """From encoded pictures to what the graph takes, and that in words."""
    given, wanted = alone.graph, alone.recipe.preprocessing_name
    if not wanted and "model_name" in alone.net.given:
        wanted = nets_factory.get(alone.net.model_name).preprocessing
    if wanted:
        recipe = preprocessing_factory.get(preparation.recipe_name(wanted))
        prepare = functools.partial(recipe.evaluate, size=size, use_grayscale=channels == 1)
        how = f"recipe {recipe.name}"
    else:
        mean = _MEAN if given.input_mean is None else given.input_mean
        std = _STD if given.input_std is None else given.input_std
        how = f"stretched and (x - {mean:g}) / {std:g}, as label_image does"

        def prepare(encoded):
            image = ops.resize_bilinear(ops.decode(encoded), size, size)
            image = ops.grayscale(image) if channels == 1 else image
            return (image - mean) / std

    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(prepare, input_signature=signature, autograph=False), how
