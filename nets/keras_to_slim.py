"""Weights of keras.applications under the names of TF-Slim's nets of the same architecture.

Both nets compute the same, except at the edge of the pool that ResNets begin with: Keras pads both
sides, TF-Slim one, as the authors of ResNet did.
"""

import re
from collections.abc import Mapping

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

_LOGITS = "Logits/Conv2d_1c_1x1"
_NAMES = {  # of layers, below the root scope
    "mobilenet_v1": {
        r"conv1(_bn)?": r"Conv2d_0\1",
        r"conv_dw_(\d+)(_bn)?": r"Conv2d_\1_depthwise\2",
        r"conv_pw_(\d+)(_bn)?": r"Conv2d_\1_pointwise\2",
        r"conv_preds": _LOGITS,
    },
    "mobilenet_v2": {
        r"Conv1": r"Conv",
        r"bn_Conv1": r"Conv_bn",
        r"Conv_1(_bn)?": r"Conv_1\1",
        r"expanded_conv_(\w+?)(_BN)?": r"expanded_conv/\1\2",
        r"block_(\d+)_(\w+?)(_BN)?": r"expanded_conv_\1/\2\3",
        r"predictions": _LOGITS,
    },
    "resnet_v1": {
        r"conv1_(conv|bn)": r"conv1_\1",
        r"conv(\d)_block(\d+)_0_(conv|bn)": r"block\1/unit_\2/bottleneck_v1/shortcut_\3",
        r"conv(\d)_block(\d+)_(\d)_(conv|bn)": r"block\1/unit_\2/bottleneck_v1/conv\3_\4",
        r"predictions": "logits",
    },
    "resnet_v2": {
        r"conv1_conv": r"conv1",
        r"conv(\d)_block(\d+)_preact_bn": r"block\1/unit_\2/bottleneck_v2/preact",
        r"conv(\d)_block(\d+)_0_conv": r"block\1/unit_\2/bottleneck_v2/shortcut",
        r"conv(\d)_block(\d+)_(\d)_(conv|bn)": r"block\1/unit_\2/bottleneck_v2/conv\3_\4",
        r"post_bn": r"postnorm",
        r"predictions": "logits",
    },
    "vgg": {
        r"block(\d)_conv(\d)": r"conv\1/conv\1_\2",
        r"fc1": "fc6",
        r"fc2": "fc7",
        r"predictions": "fc8",
    },
}


def translate(
    model_name: str, values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Weights of Keras's row by the slim names of TF-Slim's.

    Args:
      model_name: a key of `COUNTERPARTS`.
      values: of `keras_applications`, with or without the classifier.
      shapes: of TF-Slim's net by slim name; dense layers there are convolutions.
    """
    root = next(iter(shapes)).partition("/")[0]
    if model_name == "inception_v3":
        names = _inception_names(values, shapes)
    else:
        family = next(family for family in _NAMES if model_name.startswith(family))
        names = {name: _renamed(name, root, _NAMES[family]) for name in values}
    found = {names[name]: value for name, value in values.items()}
    if model_name.startswith("resnet_v1"):
        _drop_biases_before_batch_norm(found, shapes)
    for name, value in found.items():
        shape = shapes.get(name, ())
        # A dense layer on pixels in rows is a convolution of the image's size.
        if len(shape) == 4 and value.ndim == 2 and shape[-1] == value.shape[-1]:
            found[name] = value.reshape(*shape[:2], -1, value.shape[-1])
        elif len(shape) == 4 and value.ndim == 2:  # of another number of classes
            found[name] = value.reshape(1, 1, *value.shape)
    return found


def _renamed(name: str, root: str, patterns: Mapping[str, str]) -> str:
    layer, leaf = name.split("/")[1:]
    for pattern, replacement in patterns.items():
        if match := re.fullmatch(pattern, layer):
            layer = match.expand(replacement)
            break
    if number := re.match(r"block(\d)", layer):  # Keras's conv2 is slim's block1
        layer = f"block{int(number[1]) - 1}{layer[number.end() :]}"
    layer = re.sub(r"_(bn|BN)$", "/BatchNorm", layer).removesuffix("_conv")
    return f"{root}/{layer}/{leaf}"


def _inception_names(
    values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Keras numbers its layers in the order in which slim's names sort."""
    scopes = sorted(
        {
            name.rpartition("/")[0]
            for name in shapes
            if name.endswith("/weights") and "Logits" not in name
        }
    )
    names = {}
    for name in values:
        layer, leaf = name.split("/")[1:]
        kind, _, number = layer.rpartition("_") if layer[-1].isdigit() else (layer, "", "0")
        if layer == "predictions":
            names[name] = f"InceptionV3/{_LOGITS}/{leaf}"
        elif kind == "batch_normalization" or layer == "batch_normalization":
            names[name] = f"{scopes[int(number)]}/BatchNorm/{leaf}"
        else:
            names[name] = f"{scopes[0 if layer == 'conv2d' else int(number)]}/{leaf}"
    return names


def _drop_biases_before_batch_norm(
    values: dict[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """A bias before batch norm only shifts the mean: it is subtracted from the moving mean."""
    for name in [name for name in values if name.endswith("/biases") and name not in shapes]:
        mean = name.replace("/biases", "/BatchNorm/moving_mean")
        values[mean] = values[mean] - values.pop(name)
