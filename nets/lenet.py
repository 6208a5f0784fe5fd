"""A LeNet (http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf), as in TF-Slim's nets/lenet.py."""

import keras

from nets import blocks
from nets.blocks import Blocks, Request

_SCOPE = "LeNet"

_LAYERS = (
    ("conv1", 32, 5, 1, "SAME"),
    ("pool1", None, 2, 2, "VALID"),
    ("conv2", 64, 5, 1, "SAME"),
    ("pool2", None, 2, 2, "VALID"),
)


def build(request: Request, *, dropout_keep_prob: float = 0.5) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    Raises:
      InputError: an image below 4 pixels.
    """
    block = Blocks(blocks.truncated_normal(0.1), dtype=request.dtype)
    images = request.images(smallest=4)  # leaves one pixel after pool2
    end_points = block.stem(images, _SCOPE, _LAYERS)
    x = end_points["Flatten"] = block.flatten(end_points["pool2"], f"{_SCOPE}/Flatten")
    x = end_points["fc3"] = block.fully_connected(x, 1024, f"{_SCOPE}/fc3")
    x = end_points["dropout3"] = block.dropout(x, dropout_keep_prob, f"{_SCOPE}/dropout3")
    logits = block.for_logits().fully_connected(x, request.num_classes, f"{_SCOPE}/fc4")
    return request.model(images, end_points, logits, "Predictions")  # outside of slim's scope, too
