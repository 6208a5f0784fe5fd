"""Grad-CAM (https://arxiv.org/abs/1610.02391): which places of a picture led to a class."""

import functools

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from foundation.errors import InputError
from nets import maps
from nets.maps import Halves

# In place of a class: the likeliest one.
LIKELIEST = -1
# How much of a picture the hottest place hides.
_STRONGEST = 0.65


class Explainer:
    """Grad-CAM of a net.

    Attributes:
      halves: the net, cut at the maps that the heat is computed from.
    """

    def __init__(self, model: keras.Model):
        """
        Args:
          model: of `nets_factory.build`, float32 [N, S, S, channels] → {"logits"}.

        Raises:
          InputError: the net has no feature maps.
        """
        self.halves = maps.halves(model)
        if self.halves.name is None:
            raise InputError(f"{model.name} has no feature maps that Grad-CAM could weigh.")
        images = tf.TensorSpec(model.input.shape, tf.float32)
        self._heat = tf.function(
            functools.partial(heat, self.halves),
            input_signature=[images, tf.TensorSpec([None], tf.int32)],
            autograph=False,
        )

    def __call__(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """`heat` of this net, as an array."""
        return self._heat(images, tf.cast(classes, tf.int32)).numpy()


def heat(halves: Halves, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Which places led to a class: the maps, weighted by the mean slope of its logit.

    Args:
      halves: of a net.
      images: float32 [N, S, S, channels], prepared for the net.
      classes: int32 [N], indices of logits; `LIKELIEST` stands for the likeliest.

    Returns:
      float32 [N, h, w] of the maps' size. The hottest place of an image is 1. Places that do not
      raise the logit are 0, all of them where none raises it.
    """
    found, *others = halves.trunk(images)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(found)
        logits = tf.cast(halves.tail([found, *others])["logits"], tf.float32)
        likeliest = tf.argmax(logits, axis=1, output_type=tf.int32)
        asked = tf.where(classes == LIKELIEST, likeliest, classes)
        scores = tf.gather(logits, asked, batch_dims=1)
    slopes = tf.cast(tape.gradient(scores, found), tf.float32)
    weights = tf.reduce_mean(slopes, axis=[1, 2], keepdims=True)
    weighted = tf.nn.relu(tf.reduce_sum(weights * tf.cast(found, tf.float32), axis=3))
    hottest = tf.reduce_max(weighted, axis=[1, 2], keepdims=True)
    return tf.math.divide_no_nan(weighted, hottest)


def overlay(picture: np.ndarray, warmth: np.ndarray) -> np.ndarray:
    """Lays heat over a picture: red where it is hot, yellow where it is warm, nothing elsewhere.

    Args:
      picture: uint8 [H, W, 3].
      warmth: float32 [h, w] in 0..1, of any size.

    Returns:
      uint8 [H, W, 3].
    """
    from matplotlib import colormaps

    height, width = picture.shape[:2]
    enlarged = Image.fromarray(np.asarray(warmth, np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    warm = np.clip(np.asarray(enlarged), 0, 1)
    colours = 255 * colormaps["autumn_r"](warm)[..., :3]
    share = _STRONGEST * warm[..., None]
    return (share * colours + (1 - share) * picture + 0.5).astype(np.uint8)
