"""VGG (https://arxiv.org/abs/1409.1556), as in TF-Slim's nets/vgg.py.

The classifier is convolutional: fc6 is a 7 x 7 convolution, which is a dense layer at 224 pixels.
"""

import keras

from nets import blocks
from nets.blocks import Blocks, Request

_WIDTHS = (64, 128, 256, 512, 512)
_CONVS = {  # convolutions in each of the five stages
    "vgg_a": (1, 1, 2, 2, 2),
    "vgg_13": (2, 2, 2, 2, 2),
    "vgg_16": (2, 2, 3, 3, 3),
    "vgg_19": (2, 2, 4, 4, 4),
}


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.5,
    fc_conv_padding: str = "VALID",
    global_pool: bool = False,
    spatial_squeeze: bool = True,
) -> keras.Model:
    """Builds `vgg_a`, `vgg_13`, `vgg_16` or `vgg_19`; see `nets_factory.build`.

    Args:
      fc_conv_padding: of fc6; "SAME" takes images from 32 pixels up, "VALID" from 224.
      global_pool: average fc7 over the image. Images whose fc7 is larger than one place (from 256
        pixels up with VALID) are always averaged, unless logits keep their places.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes].

    Raises:
      InputError: too small an image.
    """
    name = request.name
    block = Blocks(blocks.glorot_uniform, dtype=request.dtype)
    x = images = request.images(smallest=224 if fc_conv_padding == "VALID" else 32)
    end_points = {}
    for stage, (width, convs) in enumerate(zip(_WIDTHS, _CONVS[name], strict=True), start=1):
        for i in range(1, convs + 1):
            scope = f"{name}/conv{stage}/conv{stage}_{i}"
            x = end_points[scope] = block.conv(x, width, 3, scope)
        scope = f"{name}/pool{stage}"
        x = end_points[scope] = block.max_pool(x, 2, scope)

    logits = classifier(
        block,
        x,
        request,
        end_points,
        fc6=(4096, 7, fc_conv_padding),
        dropout_keep_prob=dropout_keep_prob,
        global_pool=global_pool,
        spatial_squeeze=spatial_squeeze,
    )
    return blocks.model(name, images, end_points, logits)


def classifier(
    block: Blocks,
    x,
    request: Request,
    end_points: dict,
    *,
    fc6: tuple[int, int, str],
    dropout_keep_prob: float,
    global_pool: bool,
    spatial_squeeze: bool,
) -> keras.KerasTensor:
    """The logits of fc6 to fc8; adds to `end_points`.

    `fc6` is its channels, kernel and padding.
    """
    name = request.name
    width, kernel, padding = fc6
    x = end_points[f"{name}/fc6"] = block.conv(x, width, kernel, f"{name}/fc6", padding=padding)
    x = block.dropout(x, dropout_keep_prob, f"{name}/dropout6")
    x = end_points[f"{name}/fc7"] = block.conv(x, 4096, 1, f"{name}/fc7")
    if global_pool or (spatial_squeeze and x.shape[1] > 1):
        x = end_points["global_pool"] = block.global_pool(x, f"{name}/global_pool")
    x = block.dropout(x, dropout_keep_prob, f"{name}/dropout7")
    logits = block.for_logits().conv(
        x, request.num_classes, 1, f"{name}/fc8", biases_initializer=keras.initializers.Zeros
    )
    if spatial_squeeze:
        logits = block.squeeze(logits, f"{name}/fc8/squeezed")
    end_points[f"{name}/fc8"] = logits
    return logits
