"""AlexNet v2 and OverFeat, as in TF-Slim's nets/alexnet.py and nets/overfeat.py.

AlexNet v2 is the single-tower one of https://arxiv.org/abs/1404.5997, without local response
normalisation; OverFeat is the fast model of https://arxiv.org/abs/1312.6229. The classifier is
convolutional: fc6 is a 5 x 5 or 6 x 6 convolution, which is a dense layer at the nets' own image
sizes.
"""

import keras

from nets import blocks, vgg
from nets.blocks import Blocks, Request

# name, channels, kernel, stride, padding; no channels: max pool
_LAYERS = {
    "alexnet_v2": (
        ("conv1", 64, 11, 4, "VALID"),
        ("pool1", None, 3, 2, "VALID"),
        ("conv2", 192, 5, 1, "SAME"),
        ("pool2", None, 3, 2, "VALID"),
        ("conv3", 384, 3, 1, "SAME"),
        ("conv4", 384, 3, 1, "SAME"),
        ("conv5", 256, 3, 1, "SAME"),
        ("pool5", None, 3, 2, "VALID"),
    ),
    "overfeat": (
        ("conv1", 64, 11, 4, "VALID"),
        ("pool1", None, 2, 2, "VALID"),
        ("conv2", 256, 5, 1, "VALID"),
        ("pool2", None, 2, 2, "VALID"),
        ("conv3", 512, 3, 1, "SAME"),
        ("conv4", 1024, 3, 1, "SAME"),
        ("conv5", 1024, 3, 1, "SAME"),
        ("pool5", None, 2, 2, "VALID"),
    ),
}
_FC6 = {"alexnet_v2": (4096, 5, "VALID"), "overfeat": (3072, 6, "VALID")}
_SMALLEST_IMAGE = {"alexnet_v2": 195, "overfeat": 231}  # pool5 is as large as the kernel of fc6
_CONV_BIAS = {"alexnet_v2": 0.1, "overfeat": 0.0}


def build(
    request: Request,
    *,
    dropout_keep_prob: float = 0.5,
    global_pool: bool = False,
    spatial_squeeze: bool = True,
) -> keras.Model:
    """Builds `alexnet_v2` or `overfeat`; see `nets_factory.build`.

    Args:
      global_pool: average fc7 over the image. Images whose fc7 is larger than one place (from 227
        pixels up with AlexNet, 263 with OverFeat) are always averaged, unless logits keep their
        places.
      spatial_squeeze: False leaves logits as [N, h, w, num_classes].

    Raises:
      InputError: an image below 195 pixels with AlexNet, 231 with OverFeat.
    """
    name = request.name
    block = Blocks(
        blocks.glorot_uniform,
        biases_initializer=blocks.constant(_CONV_BIAS[name]),
        dtype=request.dtype,
    )
    fc = Blocks(
        blocks.truncated_normal(0.005), biases_initializer=blocks.constant(0.1), dtype=request.dtype
    )
    images = request.images(smallest=_SMALLEST_IMAGE[name])
    layers = block.stem(images, name, _LAYERS[name])
    end_points = {f"{name}/{layer}": x for layer, x in layers.items()}

    logits = vgg.classifier(
        fc,
        layers["pool5"],
        request,
        end_points,
        fc6=_FC6[name],
        dropout_keep_prob=dropout_keep_prob,
        global_pool=global_pool,
        spatial_squeeze=spatial_squeeze,
    )
    return blocks.model(name, images, end_points, logits)
