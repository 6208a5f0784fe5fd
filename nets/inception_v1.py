"""Inception v1, GoogLeNet (https://arxiv.org/abs/1409.4842), as in TF-Slim's nets/inception_v1.py.

Unlike the paper's it has batch norm, 3 x 3 convolutions in place of 5 x 5, and no auxiliary heads.
"""

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

_SCOPE = "InceptionV1"

# name, channels, kernel, stride, padding of what comes before the Mixed blocks; no channels: pool
_STEM = (
    ("Conv2d_1a_7x7", 64, 7, 2, "SAME"),
    ("MaxPool_2a_3x3", None, 3, 2, "SAME"),
    ("Conv2d_2b_1x1", 64, 1, 1, "SAME"),
    ("Conv2d_2c_3x3", 192, 3, 1, "SAME"),
)
# A stage is the pool that begins it, its kernel, and the Mixed blocks with their channels:
# 1 x 1 | 1 x 1, 3 x 3 | 1 x 1, 3 x 3 | 1 x 1 after a pool.
_STAGES = (
    ("MaxPool_3a_3x3", 3, {
        "Mixed_3b": (64, 96, 128, 16, 32, 32),
        "Mixed_3c": (128, 128, 192, 32, 96, 64),
    }),
    ("MaxPool_4a_3x3", 3, {
        "Mixed_4b": (192, 96, 208, 16, 48, 64),
        "Mixed_4c": (160, 112, 224, 24, 64, 64),
        "Mixed_4d": (128, 128, 256, 24, 64, 64),
        "Mixed_4e": (112, 144, 288, 32, 64, 64),
        "Mixed_4f": (256, 160, 320, 32, 128, 128),
    }),
    ("MaxPool_5a_2x2", 2, {
        "Mixed_5b": (256, 160, 320, 32, 128, 128),
        "Mixed_5c": (384, 192, 384, 48, 128, 128),
    }),
)  # fmt: skip


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.8,
    global_pool: bool = False,
    spatial_squeeze: bool = True,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`. Any image size will do: all padding is SAME.

    Args:
      global_pool: average the whole last map, not only slim's window of 7 x 7.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes], one for each place of slim's
        window; there are several from 225 pixels up, which are averaged otherwise.
    """
    block = Blocks(blocks.truncated_normal(0.01), norm=Norm(), dtype=request.dtype)
    images = request.images()
    end_points = block.stem(images, _SCOPE, _STEM)
    x = end_points["Conv2d_2c_3x3"]
    for pool, kernel, mixed_blocks in _STAGES:
        x = end_points[pool] = block.max_pool(x, kernel, f"{_SCOPE}/{pool}", padding="SAME")
        for mixed, widths in mixed_blocks.items():
            x = end_points[mixed] = _mixed(block, x, f"{_SCOPE}/{mixed}", *widths)

    scope = f"{_SCOPE}/Logits"
    x = block.last_pool(
        x,
        7,
        f"{scope}/AvgPool_0a_7x7",
        global_pool=global_pool,
        single=spatial_squeeze,
        stride=1,
    )
    end_points["global_pool" if global_pool else "AvgPool_0a_7x7"] = x
    x = block.dropout(x, dropout_keep_prob, f"{scope}/Dropout_0b")
    logits = block.for_logits().conv(
        x, request.num_classes, 1, f"{scope}/Conv2d_0c_1x1", weights_initializer=blocks.he_normal
    )
    if spatial_squeeze:
        logits = block.squeeze(logits, f"{scope}/SpatialSqueeze")
    return request.model(images, end_points, logits, f"{scope}/Predictions")


def _mixed(block: Blocks, x, scope: str, *widths: int):
    only, reduced_1, wide_1, reduced_2, wide_2, pooled = widths
    # Slim's odd name; checkpoints have it.
    name_3x3 = "Conv2d_0a_3x3" if scope.endswith("Mixed_5b") else "Conv2d_0b_3x3"
    return block.branches(
        x,
        scope,
        [("Conv2d_0a_1x1", only, 1)],
        [("Conv2d_0a_1x1", reduced_1, 1), ("Conv2d_0b_3x3", wide_1, 3)],
        [("Conv2d_0a_1x1", reduced_2, 1), (name_3x3, wide_2, 3)],
        [("MaxPool_0a_3x3", None, 3, blocks.KEEP_SIZE), ("Conv2d_0b_1x1", pooled, 1)],
    )
