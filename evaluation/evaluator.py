"""One exact pass of a net over labelled images; knows no file format and no flag."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from evaluation import metrics
from foundation.errors import InputError


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A wrongly classified image.

    `position` is its place in the arrays of the `Evaluation`; `image` holds its pixels as the net
    saw them, float32 [H, W, channels].
    """

    position: int
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a net said of N examples, in the order in which they came.

    Attributes:
      class_names: of the C classes, in the order of the logits.
      filenames: of the examples.
      labels: int64 [N], the true classes.
      top_classes: int64 [N, K], the K likeliest classes, likeliest first.
      top_probabilities: float64 [N, K], theirs, 0..1.
      ranks: int64 [N], how many classes are likelier than the true one.
      losses: float64 [N], cross entropy.
      mistakes: the wrongly classified images with the highest probability, highest first.
      seconds: from asking for the first batch to the last result.
    """

    class_names: tuple[str, ...]
    filenames: tuple[str, ...]
    labels: np.ndarray
    top_classes: np.ndarray
    top_probabilities: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray
    mistakes: tuple[Mistake, ...]
    seconds: float

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_examples(self) -> int:
        return len(self.labels)

    @property
    def predictions(self) -> np.ndarray:
        """int64 [N], the likeliest class of each example."""
        return self.top_classes[:, 0]

    @property
    def num_correct(self) -> int:
        return int(np.sum(self.predictions == self.labels))

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_examples

    def recall_at(self, k: int) -> float:
        """Share of the examples whose true class is among the k likeliest.

        As in TensorFlow, classes that tie with the k-th are among them.
        """
        return float(np.mean(self.ranks < k))

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses))

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """int64 [C, C]: row the true class, column the predicted one."""
        return metrics.confusion_matrix(self.labels, self.predictions, self.num_classes)

    @functools.cached_property
    def scores(self) -> metrics.ClassScores:
        return metrics.class_scores(self.labels, self.predictions, self.num_classes)


def evaluate(
    predict: Callable[[tf.Tensor], tf.Tensor],
    batches: Iterable[Mapping[str, tf.Tensor]],
    class_names: Sequence[str],
    *,
    top_k: int = 5,
    num_mistakes: int = 24,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Evaluation:
    """Runs a net over batches and keeps what it says of each example.

    Args:
      predict: images float32 [B, H, W, channels] → logits [B, C], any floating type.
      batches: of {"image": float32 [B, H, W, channels], "label": int [B], "filename": string [B]};
        sizes may differ.
      class_names: of the C classes.
      top_k: how many classes are kept for each example; at most C.
      num_mistakes: how many wrongly classified images are kept.
      on_batch: called after each batch with its number of examples.

    Raises:
      InputError: no examples, a label outside the classes, or logits that are not finite.
    """
    num_classes = len(class_names)
    top_k = min(top_k, num_classes)
    parts, filenames, mistakes = [], [], []
    began = time.monotonic()
    for batch in batches:
        names = [name.decode(errors="replace") for name in batch["filename"].numpy().tolist()]
        labels = batch["label"].numpy().astype(np.int64)
        # NumPy has no bfloat16, and the softmax of a thousand classes is summed in double.
        logits = tf.cast(predict(batch["image"]), tf.float32).numpy().astype(np.float64)
        _check(labels, logits, names, num_classes)
        part = _judge(labels, logits, top_k)
        mistakes = _surest(mistakes, part, batch["image"], len(filenames), num_mistakes)
        parts.append(part)
        filenames += names
        on_batch(len(labels))
    if not parts:
        raise InputError("There are no examples to evaluate on.")
    seconds = time.monotonic() - began
    return Evaluation(
        class_names=tuple(class_names),
        filenames=tuple(filenames),
        mistakes=tuple(Mistake(position, image) for _, position, image in mistakes),
        seconds=seconds,
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
    )


def _check(labels: np.ndarray, logits: np.ndarray, names: list[str], num_classes: int) -> None:
    if logits.shape != (len(labels), num_classes):
        raise ValueError(
            f"The net gives {list(logits.shape)} logits for {len(labels)} images of {num_classes} "
            "classes."
        )
    for i in np.flatnonzero((labels < 0) | (labels >= num_classes))[:1]:
        raise InputError(
            f"{names[i]}: label {labels[i]} is not one of the classes 0 to {num_classes - 1}.",
            remedy="Check --labels_offset, and that the dataset is that of the checkpoint.",
        )
    for i in np.flatnonzero(~np.isfinite(logits).all(axis=1))[:1]:
        raise InputError(
            f"{names[i]}: the net's output is not finite. The checkpoint may be of a run that "
            "diverged.",
            remedy="Evaluate an earlier one.",
        )


def _judge(labels: np.ndarray, logits: np.ndarray, top_k: int) -> dict[str, np.ndarray]:
    """The arrays of `Evaluation` for one batch."""
    rows = np.arange(len(labels))
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    # A stable sort takes the first of equal logits, as argmax does.
    top_classes = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    own = logits[rows, labels]
    return {
        "labels": labels,
        "top_classes": top_classes,
        "top_probabilities": np.exp(np.take_along_axis(log_probabilities, top_classes, axis=1)),
        "ranks": np.sum(logits > own[:, None], axis=1),
        "losses": -log_probabilities[rows, labels],
    }


def _surest(
    mistakes: list, part: dict[str, np.ndarray], images: tf.Tensor, offset: int, limit: int
) -> list[tuple[float, int, np.ndarray]]:
    """The `limit` mistakes with the highest probability, of those so far and of a batch."""
    sureness = part["top_probabilities"][:, 0]
    wrong = np.flatnonzero(part["top_classes"][:, 0] != part["labels"])
    found = [(float(sureness[i]), offset + int(i), None) for i in wrong]
    kept = sorted(mistakes + found, key=lambda mistake: -mistake[0])[:limit]
    # Pixels are copied here, when most mistakes have been dropped.
    return [
        (sure, position, images[position - offset].numpy() if image is None else image)
        for sure, position, image in kept
    ]
