"""ResNet v1 (https://arxiv.org/abs/1512.03385) and v2 (https://arxiv.org/abs/1603.05027).

As in TF-Slim's nets/resnet_v1.py and resnet_v2.py, a block has its stride in its last unit, and
strided convolutions pad alike on all sides, whatever the size of the map. Version 2 normalises in
front of the convolutions: what is added up has biases and no batch norm.
"""

import dataclasses

import keras

from nets import blocks
from nets.blocks import Blocks, Norm, Request

_WIDTHS = (64, 128, 256, 512)  # of the 3 x 3 convolutions; a unit has four times as many outputs
_UNITS = {  # in each of the four blocks
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
    "200": (3, 24, 36, 3),
}
_OUTPUT_STRIDES = (4, 8, 16, 32)


def build(
    request: Request,
    *,
    global_pool: bool = True,
    spatial_squeeze: bool = True,
    output_stride: int | None = None,
) -> keras.Model:
    """Builds `resnet_v1_50` to `resnet_v2_200`; see `nets_factory.build`. Any image size will do.

    Args:
      global_pool: False gives logits for each place of the last map, with `spatial_squeeze=False`.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes].
      output_stride: pixels of the image to one of the last map; 4, 8 or 16 in place of 32 keeps
        the map larger by atrous convolutions with the same weights.

    Raises:
      ValueError: another output stride, or several places to squeeze into one.
    """
    name = request.name
    version, _, depth = name.removeprefix("resnet_").partition("_")
    if output_stride not in (None, *_OUTPUT_STRIDES):
        raise ValueError(f"{name}: output_stride={output_stride}; it can be 4, 8, 16 or 32.")
    norm = Norm(decay=0.997, epsilon=1e-5, scale=True)
    block = Blocks(blocks.he_normal, norm=norm, dtype=request.dtype)
    # What stands on the sum of all units: version 2 leaves it to the next unit to normalise it.
    trunk = dataclasses.replace(block, norm=None, activation="linear") if version == "v2" else block
    images = request.images()
    end_points = {}
    x = _conv(trunk, images, 64, 7, f"{name}/conv1", stride=2)
    end_points[f"{name}/conv1"] = x
    x = block.max_pool(x, 3, f"{name}/pool1", padding="SAME")

    reached, rate = 4, 1
    for i, (width, units) in enumerate(zip(_WIDTHS, _UNITS[depth], strict=True), start=1):
        for j in range(1, units + 1):
            scope = f"{name}/block{i}/unit_{j}/bottleneck_{version}"
            stride = 2 if j == units and i < len(_WIDTHS) else 1
            if reached == output_stride:
                x = _unit(block, trunk, x, width, scope, end_points, rate=rate)
                rate *= stride
            else:
                x = _unit(block, trunk, x, width, scope, end_points, stride=stride)
                reached *= stride
        end_points[f"{name}/block{i}"] = x

    if version == "v2":
        x = block.batch_norm(x, f"{name}/postnorm", activation="relu")
    if global_pool:
        x = end_points["global_pool"] = block.global_pool(x, f"{name}/pool5")
    logits = block.for_logits().conv(x, request.num_classes, 1, f"{name}/logits")
    end_points[f"{name}/logits"] = logits
    if spatial_squeeze:
        if x.shape[1] > 1:
            raise ValueError(
                f"{name}: without global_pool, images of {request.image_size} pixels give logits "
                f"for {x.shape[1]} x {x.shape[2]} places; set spatial_squeeze=False."
            )
        logits = block.squeeze(logits, f"{name}/SpatialSqueeze")
        end_points[f"{name}/spatial_squeeze"] = logits
    end_points["predictions"] = block.softmax(logits, f"{name}/predictions")
    return blocks.model(name, images, end_points, logits)


def _unit(
    block: Blocks,
    trunk: Blocks,
    x,
    width: int,
    scope: str,
    end_points: dict,
    *,
    stride: int = 1,
    rate: int = 1,
):
    """A bottleneck unit; adds its convolutions and itself to `end_points`."""
    preactivated = trunk.norm is None
    outputs = 4 * width
    y = block.batch_norm(x, f"{scope}/preact", activation="relu") if preactivated else x
    if x.shape[-1] == outputs:
        shortcut = block.max_pool(x, 1, f"{scope}/shortcut", stride=stride) if stride > 1 else x
    else:
        shortcut = trunk.conv(
            y, outputs, 1, f"{scope}/shortcut", stride=stride, activation="linear"
        )
        end_points[f"{scope}/shortcut"] = shortcut
    y = end_points[f"{scope}/conv1"] = block.conv(y, width, 1, f"{scope}/conv1")
    y = _conv(block, y, width, 3, f"{scope}/conv2", stride=stride, rate=rate)
    end_points[f"{scope}/conv2"] = y
    y = trunk.conv(y, outputs, 1, f"{scope}/conv3", activation="linear")
    end_points[f"{scope}/conv3"] = y
    x = block.add([shortcut, y], scope)
    if not preactivated:
        x = block.activate(x, "relu", scope)
    end_points[scope] = x
    return x


def _conv(block: Blocks, x, filters: int, kernel: int, scope: str, *, stride: int, rate: int = 1):
    """A convolution whose padding does not depend on the size of the map, as SAME's would."""
    if stride == 1:
        return block.conv(x, filters, kernel, scope, rate=rate)
    x = block.pad(x, (kernel - 1) // 2, kernel // 2, f"{scope}/pad")
    return block.conv(x, filters, kernel, scope, stride=stride, padding="VALID")
