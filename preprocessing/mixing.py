"""MixUp and CutMix: each image of a batch with a part of another one, and its label with theirs."""

import tensorflow as tf


def mix(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    num_classes: int,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes a batch with itself in reverse order; where both are asked for, half the batches each.

    MixUp: Zhang et al., arXiv:1710.09412. CutMix: Yun et al., arXiv:1905.04899.

    Args:
      images: float32 [B, H, W, C] in any range.
      labels: int32 [B].
      seed: int32 [2]; decides every random choice.
      num_classes: of the labels.
      mixup_alpha, cutmix_alpha: both parameters of the beta distribution that the share of an
        image is drawn from; 0: not this way.

    Returns:
      Images of the same shape, and labels as probabilities, float32 [B, num_classes].
    """
    wanted = tf.one_hot(labels, num_classes)
    which = tf.random.stateless_uniform([], seed)
    fold = tf.random.experimental.stateless_fold_in

    def mixup():
        share = _beta(fold(seed, 1), mixup_alpha)
        return _between(images, share), _between(wanted, share)

    def cutmix():
        share = _beta(fold(seed, 2), cutmix_alpha)
        inside, rest = _box(images, share, fold(seed, 3))
        return tf.where(inside, images[::-1], images), _between(wanted, rest)

    if not cutmix_alpha:
        return mixup()
    if not mixup_alpha:
        return cutmix()
    mixed, soft = tf.cond(which < 0.5, mixup, cutmix)
    return tf.ensure_shape(mixed, images.shape), tf.ensure_shape(soft, wanted.shape)


def _between(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return share * values + (1 - share) * values[::-1]


def _beta(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """A draw of Beta(alpha, alpha), from two of the gamma distribution."""
    first, second = tf.unstack(tf.random.stateless_gamma([2], seed, alpha=alpha))
    return first / tf.maximum(first + second, 1e-12)


def _box(images: tf.Tensor, share: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A box of 1 - share of the area, where it fits, and the share that it leaves."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    y, x = tf.unstack(tf.random.stateless_uniform([2], seed))
    tall, wide = height * tf.sqrt(1 - share), width * tf.sqrt(1 - share)
    top, bottom = _cut(y * height, tall, height)
    left, right = _cut(x * width, wide, width)
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return inside, 1 - (bottom - top) * (right - left) / (height * width)


def _cut(middle: tf.Tensor, length: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    ends = tf.round(tf.stack([middle - length / 2, middle + length / 2]))
    return tuple(tf.unstack(tf.clip_by_value(ends, 0, side)))
