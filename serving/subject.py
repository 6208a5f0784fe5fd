"""What is exported."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from serving.export_config import ExportConfig
from serving.frozen_graph import Nodes


@dataclasses.dataclass(frozen=True)
class Subject:
    """A restored model and all that is exported with it.

    Attributes:
      model: takes float32 [N, S, S, C], gives a dict with "logits".
      nodes: what the frozen graph calls its outputs.
      labels: class names in the order of the logits.
      decode: the recipe on encoded bytes, scalar string → float32 [S, S, C].
      prepare: the recipe on a decoded picture, float32 [h, w, 3] in 0..255 → float32 [S, S, C].
      picture: from what `model` takes to what people see: uint8 [N, S, S, 3].
      config: what export.json says but `batch_size`, `files`, `nodes` and `check`, which are
        filled in here.
      examples: encoded pictures on which the export is compared with the model.
      examples_source: where they are from, in words.
      truth: the number of each example's class; None where that is unknown.
      calibration: encoded pictures that show the range of its numbers to a quantizer.
      unusual: further pictures as people send them, turned or transparent, each with its pixels as
        training saw them, uint8 [h, w, 3]; the SavedModel is compared on them too.
      input_words: how a picture becomes what `model` takes.
      moments: mean and deviation where a pixel x in 0..255 becomes (x - mean) / deviation, one
        value for each of R, G and B or one for all; None where more than that is done to it.
      companions: files that belong to the recipe, by the names that export.json has for them.
    """

    model: keras.Model
    nodes: Nodes
    labels: tuple[str, ...]
    decode: Callable[[tf.Tensor], tf.Tensor]
    prepare: Callable[[tf.Tensor], tf.Tensor]
    picture: Callable[[tf.Tensor], tf.Tensor]
    config: ExportConfig
    examples: Sequence[bytes]
    examples_source: str
    truth: Sequence[int] | None = None
    calibration: Sequence[bytes] = ()
    unusual: Sequence[tuple[bytes, np.ndarray]] = ()
    input_words: str = ""
    moments: tuple[Sequence[float], Sequence[float]] | None = None
    companions: Mapping[str, str] = dataclasses.field(default_factory=dict)
