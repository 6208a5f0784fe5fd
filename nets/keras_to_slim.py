"""Weights of keras.applications under the names of TF-Slim's nets of the same architecture.

Both nets compute the same, except at the edge of the pool that ResNets begin with: Keras pads both
sides, TF-Slim one, as the authors of ResNet did. So the convolutions of both come in the same
order, and so do the batch norms; the layers of the classifier go by their names.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np

COUNTERPARTS = {  # row of TF-Slim's net → row of Keras's
    "inception_v3": "keras_inception_v3",
    "mobilenet_v1": "keras_mobilenet_v1",
    "mobilenet_v2": "keras_mobilenet_v2",
    "resnet_v1_50": "keras_resnet_v1_50",
    "resnet_v1_101": "keras_resnet_v1_101",
    "resnet_v1_152": "keras_resnet_v1_152",
    "resnet_v2_50": "keras_resnet_v2_50",
    "resnet_v2_101": "keras_resnet_v2_101",
    "resnet_v2_152": "keras_resnet_v2_152",
    "vgg_16": "keras_vgg_16",
    "vgg_19": "keras_vgg_19",
}


def translate(
    values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Weights of Keras's row by the slim names of TF-Slim's.

    Args:
      values: of `keras_applications`, in its order, with or without the classifier.
      shapes: of TF-Slim's net by slim name, in the net's order; dense layers there are
        convolutions.

    Returns:
      Arrays of TF-Slim's shapes. Layers that TF-Slim's net does not have keep their names.
    """
    scopes = _scopes(values, shapes)
    found = {}
    for name, value in values.items():
        layer, _, leaf = name.rpartition("/")
        found[f"{scopes.get(layer, layer)}/{leaf}"] = value
    _drop_biases_before_batch_norm(found, shapes)
    for name, value in found.items():
        shape = shapes.get(name, ())
        # A dense layer on pixels in rows is a convolution of the image's size.
        if len(shape) == 4 and value.ndim == 2 and shape[-1] == value.shape[-1]:
            found[name] = value.reshape(*shape[:2], -1, value.shape[-1])
        elif len(shape) == 4 and value.ndim == 2:  # of another number of classes
            found[name] = value.reshape(1, 1, *value.shape)
    return found


def _scopes(
    values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """By Keras's layer, with its root scope, the scope of slim's."""
    theirs = next(iter(values)).partition("/")[0]
    ours = next(iter(shapes)).partition("/")[0]
    main = [name for name in shapes if "AuxLogits" not in name]
    logits = main[-1].rpartition("/")[0]
    scopes = {
        f"{theirs}/predictions": logits,
        f"{theirs}/conv_preds": logits,
        f"{theirs}/fc1": f"{ours}/fc6",
        f"{theirs}/fc2": f"{ours}/fc7",
    }
    of_images = [name for name, value in values.items() if value.ndim != 2]
    if theirs == "InceptionV3":  # where the order is that of Keras's numbers and of slim's names
        of_images.sort(key=lambda name: int((re.search(r"_(\d+)/", name) or (0, 0))[1]))
        main.sort()
    for kind in (("weights", "depthwise_weights"), ("beta",)):
        pairs = zip(
            _owners(of_images, kind, scopes), _owners(main, kind, scopes.values()), strict=False
        )
        scopes |= dict(pairs)
    return scopes


def _owners(names: Iterable[str], leaves: Collection[str], but: Collection[str]) -> list[str]:
    """The layers that have a variable of one of these names, in order, but for some."""
    parts = (name.rpartition("/") for name in names)
    return [layer for layer, _, leaf in parts if leaf in leaves and layer not in but]


def _drop_biases_before_batch_norm(
    values: dict[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """A bias before batch norm only shifts the mean: it is subtracted from the moving mean."""
    for name in [name for name in values if name.endswith("/biases") and name not in shapes]:
        mean = name.replace("/biases", "/BatchNorm/moving_mean")
        if mean in values:  # else it is of a layer that only Keras's net has
            values[mean] = values[mean] - values.pop(name)
