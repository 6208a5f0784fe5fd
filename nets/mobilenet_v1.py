"""MobileNet v1 (https://arxiv.org/abs/1704.04861), as in TF-Slim's nets/mobilenet_v1.py."""

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

_SCOPE = "MobilenetV1"
_MIN_DEPTH = 8

# stride and channels of each depthwise-pointwise pair, Conv2d_1 to Conv2d_13
PAIRS = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, 1024),
)


def build(
    request: Request,
    *,
    depth_multiplier: float = 1.0,
    dropout_keep_prob: float = 0.999,
    global_pool: bool = False,
    spatial_squeeze: bool = True,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`. Any image size will do: all padding is SAME.

    Args:
      global_pool: average the whole last map, not only slim's window of 7 x 7, which from 225 to
        256 pixels passes over the last row and column.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes], one for each place of slim's
        window; there are several from 257 pixels up, which are averaged otherwise.
    """

    def depth(full: int) -> int:
        return max(int(full * depth_multiplier), _MIN_DEPTH)

    block = Blocks(
        weights_initializer=blocks.truncated_normal(0.09),
        norm=Norm(scale=True),
        activation="relu6",
        dtype=request.dtype,
    )
    images = request.images()
    end_points = {}
    x = block.conv(images, depth(32), 3, f"{_SCOPE}/Conv2d_0", stride=2)
    end_points["Conv2d_0"] = x
    for i, (stride, width) in enumerate(PAIRS, start=1):
        x = block.depthwise_conv(x, 3, f"{_SCOPE}/Conv2d_{i}_depthwise", stride=stride)
        end_points[f"Conv2d_{i}_depthwise"] = x
        x = block.conv(x, depth(width), 1, f"{_SCOPE}/Conv2d_{i}_pointwise")
        end_points[f"Conv2d_{i}_pointwise"] = x

    x = block.last_pool(
        x, 7, f"{_SCOPE}/Logits/AvgPool_1a", global_pool=global_pool, single=spatial_squeeze
    )
    end_points["global_pool" if global_pool else "AvgPool_1a"] = x
    x = block.dropout(x, dropout_keep_prob, f"{_SCOPE}/Logits/Dropout_1b")
    logits = block.for_logits().conv(x, request.num_classes, 1, f"{_SCOPE}/Logits/Conv2d_1c_1x1")
    if spatial_squeeze:
        logits = block.squeeze(logits, f"{_SCOPE}/Logits/SpatialSqueeze")
    return request.model(images, end_points, logits, f"{_SCOPE}/Predictions")
