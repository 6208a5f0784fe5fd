"""The losses that training minimises, in float32."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from foundation.errors import InputError
from training.options import LossOptions

_PLAIN = LossOptions()
AUXILIARY_WEIGHT = 0.4  # of the auxiliary head's loss, in every slim net that has one


def classification(
    labels: tf.Tensor,
    outputs: Mapping[str, tf.Tensor],
    options: LossOptions = _PLAIN,
    class_weights: Sequence[float] | None = None,
) -> dict[str, tf.Tensor]:
    """The parts of the loss of a batch, or of one replica's share of it.

    Args:
      labels: int [N], or float [N, num_classes] probabilities (of mixed images).
      outputs: of the net: "logits", and "aux_logits" where it has an auxiliary head; [N,
        num_classes] before softmax, of any floating type.
      options: label smoothing and focal loss.
      class_weights: a factor for each class; `balanced_class_weights` makes some.

    Returns:
      Means over the examples, float32 scalars: "main", and with `aux_logits` "auxiliary", which
      has its weight in it. The penalty on large weights is not among them; see `l2`.
    """
    found = {"main": tf.reduce_mean(per_example(labels, outputs["logits"], options, class_weights))}
    if "aux_logits" in outputs:
        auxiliary = per_example(labels, outputs["aux_logits"], options, class_weights)
        found["auxiliary"] = AUXILIARY_WEIGHT * tf.reduce_mean(auxiliary)
    return found


def with_accuracy(
    labels: tf.Tensor,
    outputs: Mapping[str, tf.Tensor],
    options: LossOptions = _PLAIN,
    class_weights: Sequence[float] | None = None,
) -> dict[str, tf.Tensor]:
    """The same and "accuracy": the share of examples, 0..1, whose likeliest class is the label's.

    Of mixed images, the class that has the largest part counts.
    """
    found = classification(labels, outputs, options, class_weights)
    wanted = tf.argmax(labels, axis=-1) if labels.shape.rank == 2 else tf.cast(labels, tf.int64)
    right = tf.equal(tf.argmax(outputs["logits"], axis=-1), wanted)
    return found | {"accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}


def per_example(
    labels: tf.Tensor,
    logits: tf.Tensor,
    options: LossOptions = _PLAIN,
    class_weights: Sequence[float] | None = None,
) -> tf.Tensor:
    """Cross entropy or focal loss of each example, float32 [N]; arguments as `classification`."""
    logits = tf.cast(logits, tf.float32)
    num_classes = logits.shape[-1]
    wanted = labels if labels.shape.rank == 2 else tf.one_hot(labels, num_classes)
    smoothed = tf.cast(wanted, tf.float32)
    if options.label_smoothing:
        smoothed *= 1.0 - options.label_smoothing
        smoothed += options.label_smoothing / num_classes
    if options.focal_gamma:
        # Lin et al., "Focal Loss for Dense Object Detection", over the softmax, each class by
        # its share of the label; the easy examples weigh little.
        log_probabilities = tf.nn.log_softmax(logits)
        # 1 - p, kept off 0, where a power below 1 has no finite slope.
        hardness = tf.maximum(-tf.math.expm1(log_probabilities), 1e-7)
        hardness = tf.pow(hardness, options.focal_gamma)
        loss = -tf.reduce_sum(smoothed * hardness * log_probabilities, axis=-1)
    else:
        loss = tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
    if class_weights is not None:
        loss *= tf.linalg.matvec(tf.cast(wanted, tf.float32), tf.constant(class_weights))
    return loss


def l2(weights: Sequence[tf.Tensor], factor: float) -> tf.Tensor:
    """factor * sum(w**2) / 2 over all weights, as TF-Slim's regularizer; float32 scalar.

    The optimizer adds its gradient itself (`weight_decay` of `Optimizer.build`); this is the
    number to report.
    """
    if not weights or not factor:
        return tf.zeros([], tf.float32)
    return factor * tf.add_n([tf.nn.l2_loss(weight) for weight in weights])


def balanced_class_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Factors that give every class the same weight in sum; their mean over the examples is 1.

    Raises:
      InputError: a class without examples.
    """
    if empty := [i for i, count in enumerate(counts) if count <= 0]:
        raise InputError(
            f"no training example of class {empty}.",
            option="class_weights",
            value="balanced",
            remedy="Add some, or convert the data again without these classes.",
        )
    return tuple(sum(counts) / (len(counts) * count) for count in counts)
