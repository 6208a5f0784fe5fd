"""MobileNet v2 (https://arxiv.org/abs/1801.04381), as in TF-Slim's mobilenet_v2.py."""

import keras

from nets import mobilenet
from nets.mobilenet import Bottleneck, Conv

# Table 2 of the paper: expansion, channels, blocks, stride of the first block
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build(
    name: str,
    num_classes: int,
    image_size: int,
    channels: int,
    *,
    depth_multiplier: float = 1.0,
    dropout_keep_prob: float = 0.8,
    output_stride: int | None = None,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the net; see `nets_factory.build` and, for the options, `mobilenet.net`."""
    layers = [
        Conv(32, kernel=3, stride=2),
        *(
            Bottleneck(expansion, width, stride=stride if i == 0 else 1)
            for expansion, width, repeats, stride in _STAGES
            for i in range(repeats)
        ),
        Conv(1280),
    ]
    return mobilenet.net(
        name,
        "MobilenetV2",
        layers,
        num_classes,
        image_size,
        channels,
        activation="relu6",
        depth_multiplier=depth_multiplier,
        dropout_keep_prob=dropout_keep_prob,
        output_stride=output_stride,
        dtype=dtype,
    )
