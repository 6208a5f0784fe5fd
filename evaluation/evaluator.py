"""One exact pass of a net over labelled images; knows no file format and no flag."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from evaluation import metrics
from evaluation.log_probabilities import LogProbabilities
from foundation.errors import InputError

# Likeliest classes that are kept of each example; more where a Recall_k asks for them.
_LEAST_KEPT = 5


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
      briers: float64 [N], the squared distance of the probabilities from the truth, 0..2.
      top_k: the k of each Recall_k that was asked for.
      seconds: from asking for the first batch to the last result.
      log_probabilities: of all classes, where they were asked for.
    """

    class_names: tuple[str, ...]
    filenames: tuple[str, ...]
    labels: np.ndarray
    top_classes: np.ndarray
    top_probabilities: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray
    briers: np.ndarray
    seconds: float
    top_k: tuple[int, ...] = (_LEAST_KEPT,)
    log_probabilities: LogProbabilities | None = None

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
    def correct(self) -> np.ndarray:
        """bool [N], whether the likeliest class is the true one."""
        return self.predictions == self.labels

    @property
    def num_correct(self) -> int:
        return int(np.sum(self.correct))

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_examples

    @property
    def as_good_a_guess(self) -> tuple[str, float] | None:
        """The most frequent class and its share, where always naming it may be as good.

        It may where the 95 % interval of the accuracy does not lie above that share.
        """
        low, _ = metrics.wilson_interval(self.num_correct, self.num_examples)
        counts = np.bincount(self.labels, minlength=self.num_classes)
        share = counts.max() / self.num_examples
        return (self.class_names[counts.argmax()], float(share)) if low <= share else None

    def recall_at(self, k: int) -> float:
        """Share of the examples whose true class is among the k likeliest.

        As in TensorFlow, classes that tie with the k-th are among them.
        """
        return float(np.mean(self.ranks < k))

    @property
    def recalls(self) -> tuple[int, ...]:
        """The k of Recall_k that say something: with k classes or fewer it is always 1."""
        return tuple(k for k in self.top_k if k < self.num_classes)

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

    @property
    def ranking(self) -> metrics.RankingScores | None:
        """None where the probabilities of all classes were not kept."""
        return self._ranked[0]

    @property
    def ranking_slopes(self) -> metrics.RankingSlopes | None:
        """None where `ranking` is, or where there are very many examples and classes."""
        return self._ranked[1]

    @functools.cached_property
    def _ranked(self) -> tuple[metrics.RankingScores | None, metrics.RankingSlopes | None]:
        if self.log_probabilities is None:
            return None, None
        return metrics.ranking_scores(self.log_probabilities, self.labels)


def evaluate(
    predict: Callable[[tf.Tensor], tf.Tensor],
    batches: Iterable[Mapping[str, tf.Tensor]],
    class_names: Sequence[str],
    *,
    top_k: Sequence[int] = (5,),
    show: Callable[[tf.Tensor, Mapping[str, np.ndarray], int], object] = lambda *batch: None,
    on_batch: Callable[[int], object] = lambda count: None,
    log_probabilities: LogProbabilities | None = None,
) -> Evaluation:
    """Runs a net over batches and keeps what it says of each example.

    Args:
      predict: images float32 [B, H, W, channels] → logits [B, C], any floating type.
      batches: of {"image": float32 [B, H, W, channels], "label": int [B], "filename": string [B]};
        sizes may differ.
      class_names: of the C classes.
      top_k: the k of each Recall_k. As many classes as the largest, and five at least, are kept
        for each example.
      show: called after each batch with its images, the arrays of `Evaluation` for it, and the
        position of its first example.
      on_batch: called after each batch with its number of examples.
      log_probabilities: an empty one, which gets the probabilities of all classes.

    Raises:
      InputError: no examples, a label outside the classes, or logits that are not finite.
    """
    num_classes = len(class_names)
    num_kept = min(max(_LEAST_KEPT, *top_k), num_classes)
    parts, filenames = [], []
    began = time.monotonic()
    for batch in batches:
        names = [name.decode(errors="replace") for name in batch["filename"].numpy().tolist()]
        labels = batch["label"].numpy().astype(np.int64)
        # NumPy has no bfloat16, and the softmax of a thousand classes is summed in double.
        logits = tf.cast(predict(batch["image"]), tf.float32).numpy().astype(np.float64)
        _check(labels, logits, names, num_classes)
        logs = logits - logsumexp(logits, axis=1, keepdims=True)
        if log_probabilities is not None:
            log_probabilities.append(logs)
        part = _judge(labels, logs, num_kept)
        show(batch["image"], part, len(filenames))
        parts.append(part)
        filenames += names
        on_batch(len(labels))
    if not parts:
        raise InputError("There are no examples to evaluate on.")
    seconds = time.monotonic() - began
    return Evaluation(
        class_names=tuple(class_names),
        filenames=tuple(filenames),
        top_k=tuple(top_k),
        seconds=seconds,
        log_probabilities=log_probabilities,
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


def _judge(labels: np.ndarray, logs: np.ndarray, num_kept: int) -> dict[str, np.ndarray]:
    """The arrays of `Evaluation` for one batch, from the logarithms of its probabilities."""
    # A stable sort takes the first of equal classes, as argmax does.
    # The copy lets go of the places of all classes.
    top_classes = np.argsort(-logs, axis=1, kind="stable")[:, :num_kept].copy()
    own = logs[np.arange(len(labels)), labels]
    squares = np.sum(np.exp(2 * logs), axis=1)
    return {
        "labels": labels,
        "top_classes": top_classes,
        "top_probabilities": np.exp(np.take_along_axis(logs, top_classes, axis=1)),
        "ranks": np.sum(logs > own[:, None], axis=1),
        "losses": -own,
        "briers": squares - 2 * np.exp(own) + 1,
    }
