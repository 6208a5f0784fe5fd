"""Test-time augmentation: a net's mean opinion of several views of an image."""

from collections.abc import Callable

import tensorflow as tf

KINDS = ("none", "flip", "five_crop", "ten_crop")
# Crops are of this part of the sides, as evaluation's own central crop of TF-Slim's inception.
_CROP = 0.875


def whole_size(kind: str, size: int) -> int:
    """Side in pixels of the images that views of `size` pixels are cut from."""
    return round(size / _CROP) if kind.endswith("crop") else size


def of(images: tf.Tensor, size: int, kind: str) -> list[tf.Tensor]:
    """The views of a batch, each of [B, size, size, C].

    Args:
      images: [B, S, S, C] with S = whole_size(kind, size).
      size: of a view in pixels.
      kind: flip: the image and its mirror image; five_crop: the corners and the middle; ten_crop:
        these and their mirror images (Krizhevsky et al., 2012, section 4.1).
    """
    room = images.shape[1] - size
    corners = [(0, 0)] if not room else [(0, 0), (0, room), (room, 0), (room, room)]
    if room:
        corners.append((room // 2, room // 2))
    parts = [images[:, y : y + size, x : x + size] for y, x in corners]
    if kind in ("flip", "ten_crop"):
        parts += [tf.reverse(part, axis=[2]) for part in parts]
    return parts


def mean_of(
    predict: Callable[[tf.Tensor], tf.Tensor], size: int, kind: str
) -> Callable[[tf.Tensor], tf.Tensor]:
    """From images to logits whose softmax is the mean of the views' probabilities.

    Args:
      predict: images [B, size, size, C] → logits [B, num_classes].
      size, kind: as `of` takes them.
    """
    if kind == "none":
        return predict

    def predict_mean(images: tf.Tensor) -> tf.Tensor:
        parts = of(images, size, kind)
        logs = [tf.nn.log_softmax(tf.cast(predict(part), tf.float32)) for part in parts]
        return tf.reduce_logsumexp(tf.stack(logs), axis=0) - tf.math.log(float(len(logs)))

    return predict_mean
