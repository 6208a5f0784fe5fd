"""Inception v4 (https://arxiv.org/abs/1602.07261), as in TF-Slim's nets/inception_v4.py."""

import functools

import keras

from nets import blocks, inception_v3
from nets.blocks import Blocks, Norm, Request
from nets.inception_v3 import AVERAGE, HALVE

_SCOPE = "InceptionV4"
_AUX_WINDOW = 5

# name, channels, kernel, stride, padding of what comes before the Mixed blocks
_STEM = (
    ("Conv2d_1a_3x3", 32, 3, 2, "VALID"),
    ("Conv2d_2a_3x3", 32, 3, 1, "VALID"),
    ("Conv2d_2b_3x3", 64, 3, 1, "SAME"),
)
_VALID = {"padding": "VALID"}
_inception_b = functools.partial(
    inception_v3.mixed_17,
    only=384,
    short=(192, 224, 256),
    long=(192, 192, 224, 224, 256),
    pooled=128,
)
_reduction_b = functools.partial(inception_v3.to_8, short=(192, 192), long=(256, 256, 320, 320))


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.8,
    create_aux_logits: bool = True,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    The auxiliary head's last convolution is as large as its map, as slim's is: 5 x 5 at 299 pixels.
    Below 107 pixels the net has no such head: its map is smaller than the head's pool.

    Args:
      create_aux_logits: whether to build the auxiliary head.

    Raises:
      InputError: an image below 75 pixels.
    """
    block = Blocks(blocks.he_normal, norm=Norm(), dtype=request.dtype)
    images = request.images(smallest=75)  # leaves one pixel after Mixed_7a
    end_points = block.stem(images, _SCOPE, _STEM)
    x = end_points["Conv2d_2b_3x3"]
    for add, names in (
        (_to_73, ["Mixed_3a"]),
        (_to_71, ["Mixed_4a"]),
        (_to_35, ["Mixed_5a"]),
        (_inception_a, ["Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_5e"]),
        (_reduction_a, ["Mixed_6a"]),
        (_inception_b, [f"Mixed_6{letter}" for letter in "bcdefgh"]),
        (_reduction_b, ["Mixed_7a"]),
        (_inception_c, ["Mixed_7b", "Mixed_7c", "Mixed_7d"]),
    ):
        for mixed in names:
            x = end_points[mixed] = add(block, x, f"{_SCOPE}/{mixed}")

    aux_logits = None
    if create_aux_logits and end_points["Mixed_6h"].shape[1] >= _AUX_WINDOW:
        aux_logits = _aux_logits(block, end_points["Mixed_6h"], request.num_classes)
        end_points["AuxLogits"] = aux_logits

    scope = f"{_SCOPE}/Logits"
    x = end_points["global_pool"] = block.global_pool(x, f"{scope}/AvgPool_1a")
    x = block.dropout(x, dropout_keep_prob, f"{scope}/Dropout_1b")
    x = end_points["PreLogitsFlatten"] = block.flatten(x, f"{scope}/PreLogitsFlatten")
    logits = _dense_logits(block, x, request.num_classes, f"{scope}/Logits")
    return request.model(images, end_points, logits, f"{scope}/Predictions", aux_logits)


def _to_73(block: Blocks, x, scope: str):
    """The map's size from here on is that of an image of 299 pixels."""
    return block.branches(
        x, scope, [("MaxPool_0a_3x3", None, 3)], [("Conv2d_0a_3x3", 96, 3, HALVE)]
    )


def _to_71(block: Blocks, x, scope: str):
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", 64, 1), ("Conv2d_1a_3x3", 96, 3, _VALID)],
        [
            ("Conv2d_0a_1x1", 64, 1),
            ("Conv2d_0b_1x7", 64, (1, 7)),
            ("Conv2d_0c_7x1", 64, (7, 1)),
            ("Conv2d_1a_3x3", 96, 3, _VALID),
        ],
    )


def _to_35(block: Blocks, x, scope: str):
    return block.branches(
        x, scope, [("Conv2d_1a_3x3", 192, 3, HALVE)], [("MaxPool_1a_3x3", None, 3)]
    )


def _inception_a(block: Blocks, x, scope: str):
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", 96, 1)],
        [("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3)],
        [("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_0c_3x3", 96, 3)],
        [AVERAGE, ("Conv2d_0b_1x1", 96, 1)],
    )


def _reduction_a(block: Blocks, x, scope: str):
    return block.branches(
        x,
        scope,
        [("Conv2d_1a_3x3", 384, 3, HALVE)],
        [("Conv2d_0a_1x1", 192, 1), ("Conv2d_0b_3x3", 224, 3), ("Conv2d_1a_3x3", 256, 3, HALVE)],
        [("MaxPool_1a_3x3", None, 3)],
    )


def _inception_c(block: Blocks, x, scope: str):
    branch_1 = block.chain(x, f"{scope}/Branch_1", ("Conv2d_0a_1x1", 384, 1))
    branch_2 = block.chain(
        x,
        f"{scope}/Branch_2",
        ("Conv2d_0a_1x1", 384, 1),
        ("Conv2d_0b_3x1", 448, (3, 1)),
        ("Conv2d_0c_1x3", 512, (1, 3)),
    )
    ends = [
        block.chain(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 256, 1)),
        block.chain(branch_1, f"{scope}/Branch_1", ("Conv2d_0b_1x3", 256, (1, 3))),
        block.chain(branch_1, f"{scope}/Branch_1", ("Conv2d_0c_3x1", 256, (3, 1))),
        block.chain(branch_2, f"{scope}/Branch_2", ("Conv2d_0d_1x3", 256, (1, 3))),
        block.chain(branch_2, f"{scope}/Branch_2", ("Conv2d_0e_3x1", 256, (3, 1))),
        block.chain(x, f"{scope}/Branch_3", AVERAGE, ("Conv2d_0b_1x1", 256, 1)),
    ]
    return block.concat(ends, scope)


def _aux_logits(block: Blocks, x, num_classes: int):
    scope = f"{_SCOPE}/AuxLogits"
    x = block.avg_pool(x, _AUX_WINDOW, f"{scope}/AvgPool_1a_5x5", stride=3)
    x = block.conv(x, 128, 1, f"{scope}/Conv2d_1b_1x1")
    x = block.conv(x, 768, x.shape[1:3], f"{scope}/Conv2d_2a", padding="VALID")
    x = block.flatten(x, f"{scope}/Flatten")
    return _dense_logits(block, x, num_classes, f"{scope}/Aux_logits")


def _dense_logits(block: Blocks, x, num_classes: int, scope: str):
    return block.for_logits().fully_connected(
        x, num_classes, scope, weights_initializer=blocks.glorot_uniform
    )
