"""MobileNet v3 (https://arxiv.org/abs/1905.02244) and MobileNet EdgeTPU.

As in TF-Slim's mobilenet_v3.py. The minimalistic variants have neither hard swish,
squeeze and excite, nor 5 x 5 kernels.
"""

import dataclasses

from nets.mobilenet import Architecture, Bottleneck, Conv

_HS = {"activation": "hard_swish"}
_SE = {"squeeze_excite": True}
_FUSED = {"fused": True}

# Tables 1 and 2 of the paper: expansion, channels, kernel, stride
_LARGE = (
    Conv(16, kernel=3, stride=2, **_HS),
    Bottleneck(1, 16, 3, 1),
    Bottleneck(4, 24, 3, 2),
    Bottleneck(3, 24, 3, 1),
    Bottleneck(3, 40, 5, 2, **_SE),
    Bottleneck(3, 40, 5, 1, **_SE),
    Bottleneck(3, 40, 5, 1, **_SE),
    Bottleneck(6, 80, 3, 2, **_HS),
    Bottleneck(2.5, 80, 3, 1, **_HS),
    Bottleneck(184 / 80, 80, 3, 1, **_HS),
    Bottleneck(184 / 80, 80, 3, 1, **_HS),
    Bottleneck(6, 112, 3, 1, **_HS, **_SE),
    Bottleneck(6, 112, 3, 1, **_HS, **_SE),
    Bottleneck(6, 160, 5, 2, **_HS, **_SE),
    Bottleneck(6, 160, 5, 1, **_HS, **_SE),
    Bottleneck(6, 160, 5, 1, **_HS, **_SE),
    Conv(960, **_HS),
    Conv(1280, pooled=True, **_HS),
)
_SMALL = (
    Conv(16, kernel=3, stride=2, **_HS),
    Bottleneck(1, 16, 3, 2, **_SE),
    Bottleneck(72 / 16, 24, 3, 2),
    Bottleneck(88 / 24, 24, 3, 1),
    Bottleneck(4, 40, 5, 2, **_HS, **_SE),
    Bottleneck(6, 40, 5, 1, **_HS, **_SE),
    Bottleneck(6, 40, 5, 1, **_HS, **_SE),
    Bottleneck(3, 48, 5, 1, **_HS, **_SE),
    Bottleneck(3, 48, 5, 1, **_HS, **_SE),
    Bottleneck(6, 96, 5, 2, **_HS, **_SE),
    Bottleneck(6, 96, 5, 1, **_HS, **_SE),
    Bottleneck(6, 96, 5, 1, **_HS, **_SE),
    Conv(576, **_HS),
    Conv(1024, pooled=True, **_HS),
)
_EDGETPU = (
    Conv(32, kernel=3, stride=2),
    Bottleneck(1, 16, 3, 1, **_FUSED),
    Bottleneck(8, 32, 3, 2, **_FUSED),
    Bottleneck(4, 32, 3, 1, **_FUSED),
    Bottleneck(4, 32, 3, 1, **_FUSED),
    Bottleneck(4, 32, 3, 1, **_FUSED),
    Bottleneck(8, 48, 3, 2, **_FUSED),
    Bottleneck(4, 48, 3, 1, **_FUSED),
    Bottleneck(4, 48, 3, 1, **_FUSED),
    Bottleneck(4, 48, 3, 1, **_FUSED),
    Bottleneck(8, 96, 3, 2),
    Bottleneck(4, 96, 3, 1),
    Bottleneck(4, 96, 3, 1),
    Bottleneck(4, 96, 3, 1),
    Bottleneck(8, 96, 3, 1, residual=False),
    Bottleneck(4, 96, 3, 1),
    Bottleneck(4, 96, 3, 1),
    Bottleneck(4, 96, 3, 1),
    Bottleneck(8, 160, 5, 2),
    Bottleneck(4, 160, 5, 1),
    Bottleneck(4, 160, 5, 1),
    Bottleneck(4, 160, 5, 1),
    Bottleneck(8, 192, 3, 1),
    Conv(1280),
)


def _minimalistic(layers: tuple) -> tuple:
    plain = {"activation": None}
    return tuple(
        dataclasses.replace(layer, **plain)
        if isinstance(layer, Conv)
        else dataclasses.replace(layer, kernel=3, squeeze_excite=False, **plain)
        for layer in layers
    )


ARCHITECTURES = {
    name: Architecture(scope, layers, activation="relu")
    for name, scope, layers in (
        ("mobilenet_v3_large", "MobilenetV3", _LARGE),
        ("mobilenet_v3_small", "MobilenetV3", _SMALL),
        ("mobilenet_v3_large_minimalistic", "MobilenetV3", _minimalistic(_LARGE)),
        ("mobilenet_v3_small_minimalistic", "MobilenetV3", _minimalistic(_SMALL)),
        ("mobilenet_edgetpu", "MobilenetEdgeTPU", _EDGETPU),
        ("mobilenet_edgetpu_075", "MobilenetEdgeTPU", _EDGETPU),
    )
}
