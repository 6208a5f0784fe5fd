"""What a run gets from outside, and how it ends."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import keras
import tensorflow as tf


class Data(Protocol):
    """Where a run gets its batches of {"image", "label"} from.

    Attributes:
      identity: plain values that change when the examples or their preparation do.
    """

    identity: Mapping[str, object]

    def batches(self, image_size: int, consumed: int) -> tf.data.Dataset:
        """This worker's batches after `consumed` examples of all workers."""

    def single_pass(self, variant: int) -> tf.data.Dataset:
        """Each example once, in the given variant of its augmentation; for the feature cache."""

    def check_unchanged(self) -> None:
        """Raises InputError where the examples are others than at the start; it is quick."""


class Validation(Protocol):
    """Evaluation inside the run."""

    def metrics(self, model: keras.Model, stopped: Callable[[], bool]) -> Mapping[str, float]:
        """Metrics of the validation split by name, "Accuracy" too; `stopped` cuts it short."""

    def keep(self, folder: str) -> None:
        """Writes to `folder` what evaluating the best checkpoint needs, which comes after it."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a run must know of its examples.

    Attributes:
      num_examples: in an epoch.
      class_weights: a factor on the loss for each class, or None.
      augmented: whether each image is augmented anew in each epoch.
      balanced: whether some images come several times in an epoch.
    """

    num_examples: int
    class_weights: Sequence[float] | None = None
    augmented: bool = True
    balanced: bool = False


class Ending(enum.Enum):
    """Why a run came to its end, or was stopped."""

    LAST_STEP = "the last step"
    EARLY_STOPPING = "--early_stopping_patience"
    TIME_LIMIT = "the time limit"
    SIGNAL = "a signal"
