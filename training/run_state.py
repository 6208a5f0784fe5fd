"""Saves and resumes a run: weights, slots, averages, step and position in the data.

Random numbers need no place here: dropout and augmentation are functions of seed and step.
"""

import dataclasses
import math
import os
import time

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from nets import checkpoints, slim_names
from training.step import NotFiniteError

PREFIX = "model.ckpt"
STEP = "global_step"
# What TF-Slim has no name for lies under this one; TF-Slim passes it over.
_OWN = "run_state/"
_EXAMPLES = _OWN + "examples"


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a run is: the updates it made, and the examples of all workers they consumed."""

    step: int = 0
    examples: int = 0

    def at(self, step: int, images_per_step: int) -> "Position":
        """The position at another step, from here on with `images_per_step` examples each."""
        return Position(step, self.examples + (step - self.step) * images_per_step)


def position_of(prefix: str | None, images_per_step: int) -> Position:
    """How far the run was when it wrote a checkpoint; the beginning where there is none.

    `images_per_step` tells the examples of a checkpoint of TF-Slim, which does not say them.
    """
    if prefix is None:
        return Position()
    reader = checkpoints.read(prefix)
    step = checkpoints.global_step(reader) or 0
    if _EXAMPLES in reader.shapes:
        return Position(step, int(reader.get(_EXAMPLES)))
    return Position(step, step * images_per_step)


class RunState:
    """All that a run must remember, under the names a checkpoint has it by."""

    def __init__(
        self,
        train_dir: str,
        model,
        step: tf.Variable,
        slots: dict[str, tf.Variable],
        keep_checkpoints: int = 5,
        keep_every_n_hours: float = math.inf,
    ):
        """Gathers the variables.

        Args:
          train_dir: where `model.ckpt-N` are written.
          model: the net; its weights get slim names.
          step: int64 scalar.
          slots: further variables by checkpoint name: optimizer slots, moving averages.
          keep_checkpoints: how many of the newest stay; 0 keeps all.
          keep_every_n_hours: of those that would go, one stays for each of these periods of this
            process, as with TensorFlow 1's Saver.
        """
        self._train_dir, self._step, self._keep = train_dir, step, keep_checkpoints
        self._weights = {n: v.value for n, v in slim_names.variables(model).items()}
        self.slots = slots
        self._keep_interval = 3600 * keep_every_n_hours
        self._keep_next = time.time() + self._keep_interval

    def save(self, position: Position, write: bool = True, apart: str | None = None) -> str:
        """Writes `model.ckpt-N` and the `checkpoint` state file.

        Args:
          position: how far the run is.
          write: False on workers that only take part in reading the variables.
          apart: another folder, in which it is the only checkpoint; None: the run's.

        Returns:
          The path without endings.

        Raises:
          OSError: it could not be written; earlier checkpoints are untouched.
          NotFiniteError: a value is not finite; earlier checkpoints are untouched.
        """
        values = {name: tf.convert_to_tensor(v) for name, v in self._variables().items()}
        if broken := [n for n in values if not tf.reduce_all(tf.math.is_finite(values[n]))]:
            raise NotFiniteError(position.step, 0.0, {}, broken)
        values[STEP] = np.int64(position.step)
        values[_EXAMPLES] = np.int64(position.examples)
        prefix = os.path.join(apart or self._train_dir, f"{PREFIX}-{values[STEP]}")
        if write and apart:
            checkpoints.write(prefix, values, keep=1)
        elif write:
            checkpoints.write(prefix, values, keep=self._keep, spare=self._stays)
        return prefix

    def _stays(self, written_at: float) -> bool:
        """Whether a checkpoint that --keep_checkpoints would remove is kept for good."""
        if written_at <= self._keep_next:
            return False
        self._keep_next += self._keep_interval
        return True

    def restore(self, prefix: str, images_per_step: int) -> Position:
        """Takes everything from a checkpoint of this run, or of TF-Slim's training script.

        Args:
          prefix: the path without endings.
          images_per_step: to work out the position in the data for a checkpoint of TF-Slim.

        Returns:
          How far the run was when it was written.

        Raises:
          InputError: something is missing or of another shape; nothing was changed.
        """
        reader = checkpoints.read(prefix)
        wanted = self._variables()
        missing = [n for n in wanted if n not in reader.shapes]
        if missing:
            raise InputError(
                f"{prefix} lacks {', '.join(missing[:3])}{' …' if missing[3:] else ''}, so this "
                "run can't go on from it. Was it trained with another --optimizer, "
                "--moving_average_decay or --trainable_scopes? Use the same flags, or another "
                "--train_dir with --checkpoint_path to start from its weights."
            )
        for name, variable in wanted.items():
            if tuple(reader.shapes[name]) != tuple(variable.shape):
                raise InputError(
                    f"{prefix}: {name} has shape {list(reader.shapes[name])}, this run needs "
                    f"{list(variable.shape)}. Use the same flags, or another --train_dir."
                )
        values = {name: reader.get(name) for name in wanted}
        position = position_of(prefix, images_per_step)
        for name, variable in wanted.items():
            variable.assign(values[name])
        self._step.assign(position.step)
        return position

    def _variables(self) -> dict[str, tf.Variable]:
        return self._weights | self.slots
