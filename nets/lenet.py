"""A LeNet (http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf), as in TF-Slim's nets/lenet.py."""

import keras

from nets import blocks
from nets.blocks import Blocks

_SCOPE = "LeNet"
_SMALLEST_IMAGE = 4  # leaves one pixel after pool2

_LAYERS = (
    ("conv1", 32, 5, 1, "SAME"),
    ("pool1", None, 2, 2, "VALID"),
    ("conv2", 64, 5, 1, "SAME"),
    ("pool2", None, 2, 2, "VALID"),
)


def build(
    name: str,
    num_classes: int,
    image_size: int,
    channels: int,
    *,
    dropout_keep_prob: float = 0.5,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    Raises:
      ValueError: an image below 4 pixels.
    """
    blocks.check_image_size(name, image_size, _SMALLEST_IMAGE)
    block = Blocks(blocks.truncated_normal(0.1), dtype=dtype)
    images = blocks.images(image_size, channels)
    end_points = block.stem(images, _SCOPE, _LAYERS)
    x = end_points["Flatten"] = block.flatten(end_points["pool2"], f"{_SCOPE}/Flatten")
    x = end_points["fc3"] = block.fully_connected(x, 1024, f"{_SCOPE}/fc3")
    x = end_points["dropout3"] = block.dropout(x, dropout_keep_prob, f"{_SCOPE}/dropout3")
    logits = block.for_logits().fully_connected(x, num_classes, f"{_SCOPE}/fc4")
    end_points["Logits"] = logits
    end_points["Predictions"] = block.softmax(logits, "Predictions")  # outside of slim's scope, too
    return blocks.model(name, images, end_points, logits)
