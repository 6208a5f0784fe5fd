"""MobileNet v2 (https://arxiv.org/abs/1801.04381), as in TF-Slim's mobilenet_v2.py."""

from nets.mobilenet import Architecture, Bottleneck, Conv

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


ARCHITECTURE = Architecture(
    "MobilenetV2",
    (
        Conv(32, kernel=3, stride=2),
        *(
            Bottleneck(expansion, width, stride=stride if i == 0 else 1)
            for expansion, width, repeats, stride in _STAGES
            for i in range(repeats)
        ),
        Conv(1280),
    ),
    activation="relu6",
)
