"""Inception v3 (https://arxiv.org/abs/1512.00567), as in TF-Slim's nets/inception_v3.py.

Some layers bear odd names (`Mixed_5c/Branch_1/Conv_1_0c_5x5`; a 3 x 3 convolution called
`Conv2d_1a_1x1`; `Conv2d_0b_3x1` in Mixed_7b where Mixed_7c has `Conv2d_0c_3x1`). Checkpoints have
them, so they stay.
"""

from collections.abc import Sequence

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

Widths = Sequence[int]
_SCOPE = "InceptionV3"
_AUX_WINDOW = 5

# name, channels, kernel, stride, padding of what comes before the Mixed blocks; no channels: pool
_STEM = (
    ("Conv2d_1a_3x3", 32, 3, 2, "VALID"),
    ("Conv2d_2a_3x3", 32, 3, 1, "VALID"),
    ("Conv2d_2b_3x3", 64, 3, 1, "SAME"),
    ("MaxPool_3a_3x3", None, 3, 2, "VALID"),
    ("Conv2d_3b_1x1", 80, 1, 1, "VALID"),
    ("Conv2d_4a_3x3", 192, 3, 1, "VALID"),
    ("MaxPool_5a_3x3", None, 3, 2, "VALID"),
)
HALVE = {"stride": 2, "padding": "VALID"}
AVERAGE = ("AvgPool_0a_3x3", None, 3, blocks.KEEP_SIZE)


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.8,
    create_aux_logits: bool = True,
    global_pool: bool = False,
    spatial_squeeze: bool = True,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    The auxiliary head's last window is 5 x 5 at 299 pixels and shrinks with smaller images, as
    slim's does, in shape and name: `AuxLogits/Conv2d_2a_3x3` at 250 pixels. Below 107 pixels
    the net has no such head: its map is smaller than the head's pool.

    Args:
      create_aux_logits: whether to build the auxiliary head.
      global_pool: average the whole last map, not only slim's window of 8 x 8, which from 331 to
        362 pixels passes over the last row and column.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes], one for each place of slim's
        window; there are several from 363 pixels up, which are averaged otherwise.

    Raises:
      InputError: an image below 75 pixels.
    """
    block = Blocks(blocks.he_normal, norm=Norm(), dtype=request.dtype)
    images = request.images(smallest=75)  # leaves one pixel after Mixed_7a
    end_points = block.stem(images, _SCOPE, _STEM)
    x = end_points["MaxPool_5a_3x3"]
    for mixed, add, setting in (
        ("Mixed_5b", _mixed_35, (32, "Conv2d_0a_1x1", "Conv2d_0b_5x5")),
        ("Mixed_5c", _mixed_35, (64, "Conv2d_0b_1x1", "Conv_1_0c_5x5")),
        ("Mixed_5d", _mixed_35, (64, "Conv2d_0a_1x1", "Conv2d_0b_5x5")),
        ("Mixed_6a", _to_17, ()),
        ("Mixed_6b", mixed_17, (192, (128, 128, 192), (128, 128, 128, 128, 192), 192)),
        ("Mixed_6c", mixed_17, (192, (160, 160, 192), (160, 160, 160, 160, 192), 192)),
        ("Mixed_6d", mixed_17, (192, (160, 160, 192), (160, 160, 160, 160, 192), 192)),
        ("Mixed_6e", mixed_17, (192, (192, 192, 192), (192, 192, 192, 192, 192), 192)),
        ("Mixed_7a", to_8, ((192, 320), (192, 192, 192, 192))),
        ("Mixed_7b", _mixed_8, ("Conv2d_0b_3x1",)),
        ("Mixed_7c", _mixed_8, ("Conv2d_0c_3x1",)),
    ):
        x = end_points[mixed] = add(block, x, f"{_SCOPE}/{mixed}", *setting)

    aux_logits = None
    if create_aux_logits and end_points["Mixed_6e"].shape[1] >= _AUX_WINDOW:
        aux_logits = _aux_logits(
            block, end_points["Mixed_6e"], request.num_classes, spatial_squeeze
        )
        end_points["AuxLogits"] = aux_logits

    scope = f"{_SCOPE}/Logits"
    x = block.last_pool(
        x, 8, f"{scope}/AvgPool_1a", global_pool=global_pool, single=spatial_squeeze
    )
    end_points["global_pool" if global_pool else "AvgPool_1a"] = x
    x = end_points["PreLogits"] = block.dropout(x, dropout_keep_prob, f"{scope}/Dropout_1b")
    logits = block.for_logits().conv(x, request.num_classes, 1, f"{scope}/Conv2d_1c_1x1")
    if spatial_squeeze:
        logits = block.squeeze(logits, f"{scope}/SpatialSqueeze")
    return request.model(images, end_points, logits, f"{_SCOPE}/Predictions", aux_logits)


def _mixed_35(block: Blocks, x, scope: str, pooled: int, name_1x1: str, name_5x5: str):
    """A Mixed block at 35 x 35 pixels (of an image of 299)."""
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", 64, 1)],
        [(name_1x1, 48, 1), (name_5x5, 64, 5)],
        [("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_0c_3x3", 96, 3)],
        [AVERAGE, ("Conv2d_0b_1x1", pooled, 1)],
    )


def _to_17(block: Blocks, x, scope: str):
    return block.branches(
        x,
        scope,
        [("Conv2d_1a_1x1", 384, 3, HALVE)],
        [("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_1a_1x1", 96, 3, HALVE)],
        [("MaxPool_1a_3x3", None, 3)],
    )


def mixed_17(block: Blocks, x, scope: str, only: int, short: Widths, long: Widths, pooled: int):
    """A Mixed block at 17 x 17 pixels, of version 3 or 4, with these channels."""
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", only, 1)],
        [
            ("Conv2d_0a_1x1", short[0], 1),
            ("Conv2d_0b_1x7", short[1], (1, 7)),
            ("Conv2d_0c_7x1", short[2], (7, 1)),
        ],
        [
            ("Conv2d_0a_1x1", long[0], 1),
            ("Conv2d_0b_7x1", long[1], (7, 1)),
            ("Conv2d_0c_1x7", long[2], (1, 7)),
            ("Conv2d_0d_7x1", long[3], (7, 1)),
            ("Conv2d_0e_1x7", long[4], (1, 7)),
        ],
        [AVERAGE, ("Conv2d_0b_1x1", pooled, 1)],
    )


def to_8(block: Blocks, x, scope: str, short: Widths, long: Widths):
    """Halves the map of 17 x 17 pixels, in version 3 or 4, with these channels."""
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", short[0], 1), ("Conv2d_1a_3x3", short[1], 3, HALVE)],
        [
            ("Conv2d_0a_1x1", long[0], 1),
            ("Conv2d_0b_1x7", long[1], (1, 7)),
            ("Conv2d_0c_7x1", long[2], (7, 1)),
            ("Conv2d_1a_3x3", long[3], 3, HALVE),
        ],
        [("MaxPool_1a_3x3", None, 3)],
    )


def _mixed_8(block: Blocks, x, scope: str, name_3x1: str):
    branch_1 = block.chain(x, f"{scope}/Branch_1", ("Conv2d_0a_1x1", 384, 1))
    branch_2 = block.chain(
        x, f"{scope}/Branch_2", ("Conv2d_0a_1x1", 448, 1), ("Conv2d_0b_3x3", 384, 3)
    )
    ends = [
        block.chain(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 320, 1)),
        block.chain(branch_1, f"{scope}/Branch_1", ("Conv2d_0b_1x3", 384, (1, 3))),
        block.chain(branch_1, f"{scope}/Branch_1", (name_3x1, 384, (3, 1))),
        block.chain(branch_2, f"{scope}/Branch_2", ("Conv2d_0c_1x3", 384, (1, 3))),
        block.chain(branch_2, f"{scope}/Branch_2", ("Conv2d_0d_3x1", 384, (3, 1))),
        block.chain(x, f"{scope}/Branch_3", AVERAGE, ("Conv2d_0b_1x1", 192, 1)),
    ]
    return block.concat(ends, scope)


def _aux_logits(block: Blocks, x, num_classes: int, spatial_squeeze: bool):
    scope = f"{_SCOPE}/AuxLogits"
    x = block.avg_pool(x, _AUX_WINDOW, f"{scope}/AvgPool_1a_5x5", stride=3)
    x = block.conv(x, 128, 1, f"{scope}/Conv2d_1b_1x1")
    size = min(x.shape[1], _AUX_WINDOW)
    x = block.conv(
        x,
        768,
        size,
        f"{scope}/Conv2d_2a_{size}x{size}",
        padding="VALID",
        weights_initializer=blocks.truncated_normal(0.01),
    )
    if spatial_squeeze and x.shape[1] > 1:  # more than 299 pixels, which slim's squeeze refuses
        x = block.global_pool(x, f"{scope}/global_pool")
    logits = block.for_logits().conv(
        x,
        num_classes,
        1,
        f"{scope}/Conv2d_2b_1x1",
        weights_initializer=blocks.truncated_normal(0.001),
    )
    return block.squeeze(logits, f"{scope}/SpatialSqueeze") if spatial_squeeze else logits
