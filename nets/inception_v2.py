"""Inception v2 (https://arxiv.org/abs/1502.03167), as in TF-Slim's nets/inception_v2.py."""

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

_SCOPE = "InceptionV2"

# Channels of the branches of Mixed blocks:
# 1 x 1 | 1 x 1, 3 x 3 | 1 x 1, twice 3 x 3 | 1 x 1 after a pool; those that halve the map:
# 1 x 1, 3 x 3 | 1 x 1, twice 3 x 3 | pool.
_MIXED = {
    "Mixed_3b": (64, (64, 64), (64, 96), 32),
    "Mixed_3c": (64, (64, 96), (64, 96), 64),
    "Mixed_4a": ((128, 160), (64, 96)),
    "Mixed_4b": (224, (64, 96), (96, 128), 128),
    "Mixed_4c": (192, (96, 128), (96, 128), 128),
    "Mixed_4d": (160, (128, 160), (128, 160), 96),
    "Mixed_4e": (96, (128, 192), (160, 192), 96),
    "Mixed_5a": ((128, 192), (192, 256)),
    "Mixed_5b": (352, (192, 320), (160, 224), 128),
    "Mixed_5c": (352, (192, 320), (192, 224), 128),
}
_HALVE = {"stride": 2}
# 1 x 1 convolutions start smaller than the others: before a 3 x 3, and behind a pool.
_REDUCE = {"weights_initializer": blocks.truncated_normal(0.09)}
_PROJECT = {"weights_initializer": blocks.truncated_normal(0.1)}


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.8,
    depth_multiplier: float = 1.0,
    min_depth: int = 16,
    use_separable_conv: bool = True,
    global_pool: bool = False,
    spatial_squeeze: bool = True,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`. Any image size will do: all padding is SAME.

    Args:
      depth_multiplier: of all convolutions' channels, above 0; none falls below `min_depth`.
      use_separable_conv: False makes the first convolution a plain one, with batch norm.
      global_pool: average the whole last map, not only slim's window of 7 x 7, which from 225 to
        256 pixels passes over the last row and column.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes], one for each place of slim's
        window; there are several from 257 pixels up, which are averaged otherwise.

    Raises:
      ValueError: a depth multiplier of 0 or less.
    """
    if depth_multiplier <= 0:
        raise ValueError(
            f"{request.name}: depth_multiplier={depth_multiplier}; it must be above 0."
        )

    def depth(full: int) -> int:
        return max(int(full * depth_multiplier), min_depth)

    block = Blocks(blocks.he_normal, norm=Norm(), dtype=request.dtype)
    images = request.images()
    scope = f"{_SCOPE}/Conv2d_1a_7x7"
    large = blocks.truncated_normal(1.0)
    if use_separable_conv:
        # Slim's arg scope passes it by: neither batch norm nor regularisation.
        separable = Blocks(large, regularized=(), dtype=request.dtype)
        multiplier = min(depth(64) // 3, 8)
        x = separable.separable_conv(images, depth(64), 7, scope, stride=2, multiplier=multiplier)
    else:
        x = block.conv(images, depth(64), 7, scope, stride=2, weights_initializer=large)
    end_points = {"Conv2d_1a_7x7": x}
    for row in (
        ("MaxPool_2a_3x3", None, 3, {"padding": "SAME"}),
        ("Conv2d_2b_1x1", depth(64), 1, _PROJECT),
        ("Conv2d_2c_3x3", depth(192), 3),
        ("MaxPool_3a_3x3", None, 3, {"padding": "SAME"}),
    ):
        x = end_points[row[0]] = block.chain(x, _SCOPE, row)
    for mixed, widths in _MIXED.items():
        add = _mixed if len(widths) == 4 else _halving
        x = end_points[mixed] = add(block, x, f"{_SCOPE}/{mixed}", depth, *widths)

    scope = f"{_SCOPE}/Logits"
    x = block.last_pool(
        x, 7, f"{scope}/AvgPool_1a", global_pool=global_pool, single=spatial_squeeze
    )
    end_points["global_pool" if global_pool else "AvgPool_1a"] = x
    x = end_points["PreLogits"] = block.dropout(x, dropout_keep_prob, f"{scope}/Dropout_1b")
    logits = block.for_logits().conv(x, request.num_classes, 1, f"{scope}/Conv2d_1c_1x1")
    if spatial_squeeze:
        logits = block.squeeze(logits, f"{scope}/SpatialSqueeze")
    return request.model(images, end_points, logits, f"{_SCOPE}/Predictions")


def _mixed(block: Blocks, x, scope: str, depth, only, branch_1, branch_2, pooled):
    reduced_1, wide_1 = map(depth, branch_1)
    reduced_2, wide_2 = map(depth, branch_2)
    pool = "MaxPool_0a_3x3" if scope.endswith("Mixed_5c") else "AvgPool_0a_3x3"
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", depth(only), 1)],
        [("Conv2d_0a_1x1", reduced_1, 1, _REDUCE), ("Conv2d_0b_3x3", wide_1, 3)],
        [
            ("Conv2d_0a_1x1", reduced_2, 1, _REDUCE),
            ("Conv2d_0b_3x3", wide_2, 3),
            ("Conv2d_0c_3x3", wide_2, 3),
        ],
        [(pool, None, 3, blocks.KEEP_SIZE), ("Conv2d_0b_1x1", depth(pooled), 1, _PROJECT)],
    )


def _halving(block: Blocks, x, scope: str, depth, branch_0, branch_1):
    reduced_0, wide_0 = map(depth, branch_0)
    reduced_1, wide_1 = map(depth, branch_1)
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", reduced_0, 1, _REDUCE), ("Conv2d_1a_3x3", wide_0, 3, _HALVE)],
        [
            ("Conv2d_0a_1x1", reduced_1, 1, _REDUCE),
            ("Conv2d_0b_3x3", wide_1, 3),
            ("Conv2d_1a_3x3", wide_1, 3, _HALVE),
        ],
        [("MaxPool_1a_3x3", None, 3, {"padding": "SAME"})],
    )
