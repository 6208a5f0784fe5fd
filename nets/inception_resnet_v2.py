"""Inception-ResNet v2 (https://arxiv.org/abs/1602.07261), as TF-Slim's inception_resnet_v2.py."""

import dataclasses

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

_SCOPE = "InceptionResnetV2"
_AUX_WINDOW = 5


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.8,
    batch_norm_scale: bool = False,
    activation: str = "relu",
    create_aux_logits: bool = True,
    output_stride: int = 16,
    align_feature_maps: bool = False,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    The auxiliary head's last convolution is as large as its map, as slim's is: 5 x 5 at 299 pixels.
    Where its first pool has less than 5 x 5 pixels (images below 107 pixels) the net has none.

    Args:
      batch_norm_scale: whether batch norm has a gamma.
      activation: of the convolutions and the residual blocks.
      create_aux_logits: whether to build the auxiliary head.
      output_stride: pixels of the image for one of PreAuxLogits, 16 or 8. With 8, Mixed_6a does
        not halve the map, and the convolutions of the blocks behind it are dilated by 2. Slim's
        net ends there; this one goes on.
      align_feature_maps: pad SAME throughout; any image size will do.

    Raises:
      InputError: an image below 75 pixels (59 with an output stride of 8).
      ValueError: another output stride.
    """
    if output_stride not in (8, 16):
        raise ValueError(f"{request.name}: output_stride={output_stride}; it must be 8 or 16.")
    dense = output_stride == 8
    padding = "SAME" if align_feature_maps else "VALID"
    halve = {"stride": 2, "padding": padding}
    halve_6a = {"stride": 1 if dense else 2, "padding": padding}

    block = Blocks(
        blocks.glorot_uniform,
        norm=Norm(scale=batch_norm_scale),
        activation=activation,
        regularized=("weights", "biases"),
        dtype=request.dtype,
    )
    to_7a = 59 if dense else 75  # pixels that leave one after Mixed_7a
    images = request.images(smallest=1 if align_feature_maps else to_7a)
    end_points = block.stem(
        images,
        _SCOPE,
        (  # name, channels, kernel, stride, padding; no channels: max pool
            ("Conv2d_1a_3x3", 32, 3, 2, padding),
            ("Conv2d_2a_3x3", 32, 3, 1, padding),
            ("Conv2d_2b_3x3", 64, 3, 1, "SAME"),
            ("MaxPool_3a_3x3", None, 3, 2, padding),
            ("Conv2d_3b_1x1", 80, 1, 1, padding),
            ("Conv2d_4a_3x3", 192, 3, 1, padding),
            ("MaxPool_5a_3x3", None, 3, 2, padding),
        ),
    )
    x = _mixed_5b(block, end_points["MaxPool_5a_3x3"], f"{_SCOPE}/Mixed_5b")
    end_points["Mixed_5b"] = x
    for i in range(1, 11):
        x = _block35(block, x, f"{_SCOPE}/Repeat/block35_{i}", scale=0.17)
    x = end_points["Mixed_6a"] = _mixed_6a(block, x, f"{_SCOPE}/Mixed_6a", halve_6a)
    for i in range(1, 21):
        scope = f"{_SCOPE}/Repeat_1/block17_{i}"
        x = _block17(block, x, scope, scale=0.1, rate=2 if dense else 1)
    end_points["PreAuxLogits"] = x
    x = end_points["Mixed_7a"] = _mixed_7a(block, x, f"{_SCOPE}/Mixed_7a", halve)
    for i in range(1, 10):
        x = _block8(block, x, f"{_SCOPE}/Repeat_2/block8_{i}", scale=0.2)
    x = _block8(block, x, f"{_SCOPE}/Block8", scale=1.0, activation="linear")
    x = end_points["Conv2d_7b_1x1"] = block.conv(x, 1536, 1, f"{_SCOPE}/Conv2d_7b_1x1")

    aux_logits = None
    if create_aux_logits and end_points["PreAuxLogits"].shape[1] >= _AUX_WINDOW:
        aux_logits = _aux_logits(block, end_points["PreAuxLogits"], request.num_classes)
        end_points["AuxLogits"] = aux_logits

    scope = f"{_SCOPE}/Logits"
    x = end_points["global_pool"] = block.global_pool(x, f"{scope}/AvgPool_1a_8x8")
    x = block.flatten(x, f"{scope}/Flatten")
    x = end_points["PreLogitsFlatten"] = block.dropout(x, dropout_keep_prob, f"{scope}/Dropout")
    logits = block.for_logits().fully_connected(x, request.num_classes, f"{scope}/Logits")
    return request.model(images, end_points, logits, f"{scope}/Predictions", aux_logits)


def _mixed_5b(block: Blocks, x, scope: str):
    return block.branches(
        x,
        scope,
        [("Conv2d_1x1", 96, 1)],
        [("Conv2d_0a_1x1", 48, 1), ("Conv2d_0b_5x5", 64, 5)],
        [("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_0c_3x3", 96, 3)],
        [("AvgPool_0a_3x3", None, 3, blocks.KEEP_SIZE), ("Conv2d_0b_1x1", 64, 1)],
    )


def _block35(block: Blocks, x, scope: str, scale: float):
    found = block.branches(
        x,
        scope,
        [("Conv2d_1x1", 32, 1)],
        [("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 32, 3)],
        [("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 48, 3), ("Conv2d_0c_3x3", 64, 3)],
    )
    return _residual(block, x, found, scope, scale)


def _mixed_6a(block: Blocks, x, scope: str, halve: dict):
    return block.branches(
        x,
        scope,
        [("Conv2d_1a_3x3", 384, 3, halve)],
        [("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 256, 3), ("Conv2d_1a_3x3", 384, 3, halve)],
        [("MaxPool_1a_3x3", None, 3, halve)],
    )


def _block17(block: Blocks, x, scope: str, scale: float, rate: int):
    atrous = {"rate": rate}
    found = block.branches(
        x,
        scope,
        [("Conv2d_1x1", 192, 1)],
        [
            ("Conv2d_0a_1x1", 128, 1, atrous),
            ("Conv2d_0b_1x7", 160, (1, 7), atrous),
            ("Conv2d_0c_7x1", 192, (7, 1), atrous),
        ],
    )
    return _residual(block, x, found, scope, scale)


def _mixed_7a(block: Blocks, x, scope: str, halve: dict):
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 384, 3, halve)],
        [("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 288, 3, halve)],
        [("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 288, 3), ("Conv2d_1a_3x3", 320, 3, halve)],
        [("MaxPool_1a_3x3", None, 3, halve)],
    )


def _block8(block: Blocks, x, scope: str, scale: float, activation: str | None = None):
    found = block.branches(
        x,
        scope,
        [("Conv2d_1x1", 192, 1)],
        [
            ("Conv2d_0a_1x1", 192, 1),
            ("Conv2d_0b_1x3", 224, (1, 3)),
            ("Conv2d_0c_3x1", 256, (3, 1)),
        ],
    )
    return _residual(block, x, found, scope, scale, activation)


def _residual(block: Blocks, x, found, scope: str, scale: float, activation: str | None = None):
    """Adds `scale` times what the branches found, brought to the channels of x."""
    linear = dataclasses.replace(block, norm=None, activation="linear")
    up = linear.conv(found, x.shape[-1], 1, f"{scope}/Conv2d_1x1")
    return block.activate(x + scale * up, activation or block.activation, f"{scope}/activation")


def _aux_logits(block: Blocks, x, num_classes: int):
    scope = f"{_SCOPE}/AuxLogits"
    x = block.avg_pool(x, _AUX_WINDOW, f"{scope}/Conv2d_1a_3x3", stride=3)
    x = block.conv(x, 128, 1, f"{scope}/Conv2d_1b_1x1")
    x = block.conv(x, 768, x.shape[1:3], f"{scope}/Conv2d_2a_5x5", padding="VALID")
    x = block.flatten(x, f"{scope}/Flatten")
    return block.for_logits().fully_connected(x, num_classes, f"{scope}/Logits")
