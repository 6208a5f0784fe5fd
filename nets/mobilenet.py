"""What MobileNet v2, v3 and EdgeTPU share: a table of layers becomes a net.

As in TF-Slim's nets/mobilenet/mobilenet.py and conv_blocks.py. Scopes number the layers of a kind:
`Conv`, `Conv_1`, … and `expanded_conv`, `expanded_conv_1`, …; end points number all of them.
"""

import dataclasses

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

_DIVISOR = 8  # of all widths


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution; "pooled" ones come behind the mean over the map and have no batch norm."""

    width: int
    kernel: int = 1
    stride: int = 1
    activation: str | None = None  # None: the net's
    pooled: bool = False


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """Expand by a factor, filter each channel, project; the input is added where shapes agree.

    `fused` ones expand by a `kernel` x `kernel` convolution and filter no more.
    """

    expansion: float
    width: int
    kernel: int = 3
    stride: int = 1
    activation: str | None = None  # None: the net's
    squeeze_excite: bool = False
    fused: bool = False
    residual: bool = True


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A table of layers; `activation` is that of layers that name none."""

    scope: str
    layers: tuple[Conv | Bottleneck, ...]
    activation: str


def build(
    architecture: Architecture,
    request: Request,
    *,
    depth_multiplier: float = 1.0,
    dropout_keep_prob: float = 0.8,
    output_stride: int | None = None,
) -> keras.Model:
    """Builds a MobileNet; see `nets_factory.build`.

    Any image size: all padding is SAME, and the pools span the map.

    Args:
      depth_multiplier: of all widths; below 1 it leaves the last layer's, as in the paper.
      output_stride: pixels of the image to a place of the last map, 1 to 32. Layers behind it
        do not stride; they are dilated. None means 32.

    Raises:
      ValueError: `output_stride` is no power of two in 1 to 32.
    """
    if output_stride not in (None, 1, 2, 4, 8, 16, 32):
        raise ValueError(
            f"{request.name}: output_stride={output_stride}; it is one of 1, 2, 4, 8, 16, 32."
        )
    scope, layers = architecture.scope, architecture.layers
    block = Blocks(
        blocks.truncated_normal(0.09),
        norm=Norm(decay=0.997, scale=True),
        activation=architecture.activation,
        dtype=request.dtype,
    )
    x = images = request.images()
    outer, inner = {}, {}  # end points: slim lists layers first, then what is inside of them
    count = {"Conv": 0, "expanded_conv": 0}
    stride, rate = 1, 1
    for layer in layers:
        multiplier = max(1.0, depth_multiplier) if layer is layers[-1] else depth_multiplier
        layer = dataclasses.replace(layer, width=_divisible(layer.width * multiplier))
        layer_rate = 1
        if stride == output_stride:
            layer_rate, rate = rate, rate * layer.stride
            layer = dataclasses.replace(layer, stride=1)
        stride *= layer.stride

        kind = "Conv" if isinstance(layer, Conv) else "expanded_conv"
        layer_scope = f"{scope}/{kind}_{count[kind]}" if count[kind] else f"{scope}/{kind}"
        count[kind] += 1
        if isinstance(layer, Conv) and layer.pooled:
            x = outer[f"layer_{len(outer) + 1}"] = block.global_pool(x, f"{scope}/AvgPool2D")
        end_point = f"layer_{len(outer) + 1}"
        if isinstance(layer, Conv):
            x = _conv(block, x, layer, layer_scope, layer_rate)
        else:
            x, parts = _bottleneck(block, x, layer, layer_scope, layer_rate)
            inner |= {f"{end_point}/{part}": tensor for part, tensor in parts.items()}
        outer[end_point] = x

    x = block.global_pool(x, f"{scope}/Logits/AvgPool")
    end_points = outer | inner | {"global_pool": x}
    x = block.dropout(x, dropout_keep_prob, f"{scope}/Logits/Dropout")
    logits = block.for_logits().conv(x, request.num_classes, 1, f"{scope}/Logits/Conv2d_1c_1x1")
    logits = block.squeeze(logits, f"{scope}/Logits/output")
    return request.model(images, end_points, logits, f"{scope}/Predictions")


@keras.saving.register_keras_serializable("slim")
def squeeze_gate(x):
    """A hard sigmoid, with the rounded sixth that TF-Slim's checkpoints were trained with."""
    return keras.ops.relu6(x + 3) * 0.16667


def _conv(block: Blocks, x, layer: Conv, scope: str, rate: int):
    if layer.pooled:
        block = dataclasses.replace(block, norm=None)
    return block.conv(
        x,
        layer.width,
        layer.kernel,
        scope,
        stride=layer.stride,
        rate=rate,
        activation=layer.activation,
    )


def _bottleneck(block: Blocks, x, layer: Bottleneck, scope: str, rate: int):
    """Returns the block's output and its end points."""
    inputs, parts = x, {}
    window = {"stride": layer.stride, "rate": rate}
    expanded = _divisible(inputs.shape[-1] * layer.expansion)
    if expanded > inputs.shape[-1]:
        kernel, options = (layer.kernel, window) if layer.fused else (1, {})
        x = block.conv(
            x, expanded, kernel, f"{scope}/expand", activation=layer.activation, **options
        )
        parts["expansion_output"] = x
    if not layer.fused:
        x = block.depthwise_conv(
            x, layer.kernel, f"{scope}/depthwise", activation=layer.activation, **window
        )
        parts["depthwise_output"] = x
    if layer.squeeze_excite:
        x = _squeeze_excite(block, x, f"{scope}/squeeze_excite")
    x = block.conv(x, layer.width, 1, f"{scope}/project", activation="linear")
    if layer.residual and layer.stride == 1 and x.shape[-1] == inputs.shape[-1]:
        x = block.add([x, inputs], scope)
    parts["output"] = x
    return x, parts


def _squeeze_excite(block: Blocks, x, scope: str):
    """Scales each channel by a number from 0 to 1 that all channels' means decide."""
    block = dataclasses.replace(block, norm=None)
    gate = block.global_pool(x, f"{scope}/pool")
    gate = block.conv(gate, _divisible(x.shape[-1] / 4), 1, f"{scope}/Conv", activation="relu")
    gate = block.conv(gate, x.shape[-1], 1, f"{scope}/Conv_1", activation=squeeze_gate)
    return block.multiply([x, gate], scope)


def _divisible(width: float) -> int:
    """The nearest multiple of 8 that takes away less than a tenth; 8 at least."""
    nearest = max(_DIVISOR, int(width + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return nearest if nearest >= 0.9 * width else nearest + _DIVISOR
