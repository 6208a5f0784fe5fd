"""CifarNet, cuda-convnet's net for CIFAR-10, as in TF-Slim's nets/cifarnet.py."""

import keras
import tensorflow as tf

from nets import blocks
from nets.blocks import Blocks, Request

_SCOPE = "CifarNet"


@keras.saving.register_keras_serializable("slim")
class LocalResponseNorm(keras.layers.Layer):
    """Divides each channel by what its nine nearest have; float32, as TensorFlow's CPU kernel."""

    def call(self, x):
        return tf.nn.local_response_normalization(
            x, depth_radius=4, bias=1.0, alpha=0.001 / 9.0, beta=0.75
        )


def build(request: Request, *, dropout_keep_prob: float = 0.5) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    Raises:
      InputError: an image below 4 pixels.
    """
    block = Blocks(blocks.truncated_normal(0.05), regularized=(), dtype=request.dtype)
    dense = Blocks(
        blocks.truncated_normal(0.04), biases_initializer=blocks.constant(0.1), dtype=request.dtype
    )
    images = request.images(smallest=4)  # leaves one pixel after pool2
    end_points = {}
    x = end_points["conv1"] = block.conv(images, 64, 5, f"{_SCOPE}/conv1")
    x = end_points["pool1"] = block.max_pool(x, 2, f"{_SCOPE}/pool1")
    x = _norm(x, "norm1")
    x = end_points["conv2"] = block.conv(x, 64, 5, f"{_SCOPE}/conv2")
    x = _norm(x, "norm2")
    x = end_points["pool2"] = block.max_pool(x, 2, f"{_SCOPE}/pool2")

    x = end_points["Flatten"] = block.flatten(x, f"{_SCOPE}/Flatten")
    x = end_points["fc3"] = dense.fully_connected(x, 384, f"{_SCOPE}/fc3")
    x = dense.dropout(x, dropout_keep_prob, f"{_SCOPE}/dropout3")
    x = end_points["fc4"] = dense.fully_connected(x, 192, f"{_SCOPE}/fc4")
    logits = block.for_logits().fully_connected(
        x,
        request.num_classes,
        f"{_SCOPE}/logits",
        weights_initializer=blocks.truncated_normal(1 / 192),
    )
    return request.model(images, end_points, logits, f"{_SCOPE}/Predictions")


def _norm(x, scope: str):
    return LocalResponseNorm(dtype="float32", name=blocks.layer_name(f"{_SCOPE}/{scope}"))(x)
