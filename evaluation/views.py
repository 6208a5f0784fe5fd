"""Test-time augmentation: a net's mean answer to several views of an image.

The kinds of views are `evaluation.options.VIEWS`.
"""

from collections.abc import Callable

import tensorflow as tf

# A crop has this share of the image's side, as TF-Slim's central crop for inception nets.
_CROP = 0.875


def whole_size(kind: str, size: int) -> int:
    """Side in pixels of the images from which views of `size` pixels are cut."""
    return round(size / _CROP) if kind.endswith("crop") else size


def of(images: tf.Tensor, size: int, kind: str) -> list[tf.Tensor]:
    """The views of a batch, each of [B, size, size, C].

    Args:
      images: [B, S, S, C] with S = whole_size(kind, size).
      size: of a view in pixels.
      kind: flip: the image and its mirror image; five_crop: the corners and the middle; ten_crop:
        these and their mirror images (Krizhevsky et al., 2012, section 4.1).
    """
    margin = images.shape[1] - size
    corners = [(0, 0)] if not margin else [(0, 0), (0, margin), (margin, 0), (margin, margin)]
    if margin:
        corners.append((margin // 2, margin // 2))
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
