"""What a net is trained to make small. All in float32."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

AUXILIARY_WEIGHT = 0.4  # of the auxiliary head's loss, in every slim net that has one


class Losses(NamedTuple):
    """The parts of a loss, float32 scalars; auxiliary with its weight, 0 where there is none."""

    main: tf.Tensor
    auxiliary: tf.Tensor


def classification(
    labels: tf.Tensor,
    logits: tf.Tensor,
    aux_logits: tf.Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 0.0,
) -> Losses:
    """Main and auxiliary loss of a batch, or of one replica's share of it.

    Args:
      labels: int [N], or float [N, num_classes] probabilities (of mixed images).
      logits, aux_logits: [N, num_classes], before softmax, any floating type.
      label_smoothing: part of each label that is spread evenly over all classes.
      class_weights: a factor for each class; `balanced_class_weights` makes some.
      focal_gamma: exponent of the focal loss; 0 is plain cross entropy.

    Returns:
      The means over the examples; what is added for large weights comes from `l2`.
    """
    options = label_smoothing, class_weights, focal_gamma
    main = tf.reduce_mean(per_example(labels, logits, *options))
    if aux_logits is None:
        return Losses(main, tf.zeros([], tf.float32))
    auxiliary = tf.reduce_mean(per_example(labels, aux_logits, *options))
    return Losses(main, AUXILIARY_WEIGHT * auxiliary)


def per_example(
    labels: tf.Tensor,
    logits: tf.Tensor,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 0.0,
) -> tf.Tensor:
    """Cross entropy or focal loss of each example, float32 [N]; arguments as `classification`."""
    logits = tf.cast(logits, tf.float32)
    num_classes = logits.shape[-1]
    wanted = labels if labels.shape.rank == 2 else tf.one_hot(labels, num_classes)
    smoothed = tf.cast(wanted, tf.float32)
    if label_smoothing:
        smoothed = smoothed * (1.0 - label_smoothing) + label_smoothing / num_classes
    if focal_gamma:
        # Lin et al., "Focal Loss for Dense Object Detection", over the softmax, each class by
        # its share of the label; the easy examples weigh little.
        log_probabilities = tf.nn.log_softmax(logits)
        # 1 - p, kept off 0, where a power below 1 has no finite slope.
        hardness = tf.pow(tf.maximum(-tf.math.expm1(log_probabilities), 1e-7), focal_gamma)
        loss = -tf.reduce_sum(smoothed * hardness * log_probabilities, axis=-1)
    else:
        loss = tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
    if class_weights is not None:
        loss *= tf.linalg.matvec(tf.cast(wanted, tf.float32), tf.constant(class_weights))
    return loss


def l2(weights: Sequence[tf.Tensor], factor: float) -> tf.Tensor:
    """factor * sum(w**2) / 2 over all weights, as slim's regularizer; float32 scalar.

    The optimizer adds its gradient itself (`weight_decay` of `Optimizer.build`); this is the
    number to report.
    """
    if not weights or not factor:
        return tf.zeros([], tf.float32)
    return factor * tf.add_n([tf.nn.l2_loss(weight) for weight in weights])


def balanced_class_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Factors that let every class weigh the same in sum; their mean over the examples is 1.

    Raises:
      ValueError: a class without examples.
    """
    if empty := [i for i, count in enumerate(counts) if count <= 0]:
        raise ValueError(
            f"--class_weights=balanced: no training example of class {empty}. "
            "Add some, or convert the data again without these classes."
        )
    return tuple(sum(counts) / (len(counts) * count) for count in counts)
