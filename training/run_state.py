"""Saves and resumes a run: weights, slots, averages, step and position in the data.

Random numbers need no place here: dropout and augmentation are functions of seed and step.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from nets import checkpoints, slim_names
from training.step import NotFiniteError

PREFIX = "model.ckpt"
STEP = "global_step"
# What TF-Slim has no name for lies under this one; TF-Slim passes it over.
_OWN = "run_state/"
_EXAMPLES = _OWN + "examples"


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
          keep_every_n_hours: of those that would go, one stays for each so many hours of this
            process, as with TensorFlow 1's Saver.
        """
        self._train_dir, self._step, self._keep = train_dir, step, keep_checkpoints
        self._weights = {n: v.value for n, v in slim_names.variables(model).items()}
        self.slots = slots
        self._keep_interval = 3600 * keep_every_n_hours
        self._keep_next = time.time() + self._keep_interval

    def save(self, examples: int, write: bool = True, apart: str | None = None) -> str:
        """Writes `model.ckpt-N` and the `checkpoint` state file.

        Args:
          examples: how many were consumed so far, the position in the data.
          write: False on workers that only take part in reading the variables.
          apart: another folder, in which it is the only one; None: the run's.

        Returns:
          The path without endings.

        Raises:
          OSError: it could not be written; earlier checkpoints are untouched.
          NotFiniteError: a value is not finite; earlier checkpoints are untouched.
        """
        values = {name: tf.convert_to_tensor(v) for name, v in self._variables().items()}
        if broken := [n for n in values if not tf.reduce_all(tf.math.is_finite(values[n]))]:
            raise NotFiniteError(int(self._step), 0.0, {}, broken)
        values[STEP] = np.int64(self._step.numpy())
        values[_EXAMPLES] = np.int64(examples)
        prefix = os.path.join(apart or self._train_dir, f"{PREFIX}-{values[STEP]}")
        if write and apart:
            checkpoints.write(prefix, values, keep=1)
        elif write:
            checkpoints.write(prefix, values, keep=self._keep, spare=self._stays)
        return prefix

    def _stays(self, written_at: float) -> bool:
        """Whether a checkpoint that would go is kept for good."""
        if written_at <= self._keep_next:
            return False
        self._keep_next += self._keep_interval
        return True

    def restore(self, prefix: str, images_per_step: int) -> int:
        """Takes everything from a checkpoint of this run, or of TF-Slim's training script.

        Args:
          prefix: the path without endings.
          images_per_step: to work out the position in the data for a checkpoint of TF-Slim.

        Returns:
          The number of examples consumed when it was written.

        Raises:
          ValueError: something is missing or of another shape; nothing was changed.
        """
        reader = checkpoints.read(prefix)
        wanted = self._variables()
        missing = [n for n in wanted if n not in reader.shapes]
        if missing:
            raise ValueError(
                f"{prefix} lacks {', '.join(missing[:3])}{' …' if missing[3:] else ''}, so this "
                "run can't go on from it. Was it trained with another --optimizer, "
                "--moving_average_decay or --trainable_scopes? Use the same flags, or another "
                "--train_dir with --checkpoint_path to start from its weights."
            )
        for name, variable in wanted.items():
            if tuple(reader.shapes[name]) != tuple(variable.shape):
                raise ValueError(
                    f"{prefix}: {name} has shape {list(reader.shapes[name])}, this run needs "
                    f"{list(variable.shape)}. Use the same flags, or another --train_dir."
                )
        values = {name: reader.get(name) for name in wanted}
        step = int(reader.get(STEP)) if STEP in reader.shapes else 0
        for name, variable in wanted.items():
            variable.assign(values[name])
        self._step.assign(step)
        if _EXAMPLES in reader.shapes:
            return int(reader.get(_EXAMPLES))
        return step * images_per_step

    def _variables(self) -> dict[str, tf.Variable]:
        return self._weights | self.slots


@contextlib.contextmanager
def locked(train_dir: str) -> Iterator[None]:
    """Keeps a second process out of `train_dir` while the block runs.

    Raises:
      ValueError: another process trains there.
      OSError: the folder can't be made or written.
    """
    try:
        os.makedirs(train_dir, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"--train_dir={train_dir} can't be made: {error.strerror}. Name a folder that can be "
            "written."
        ) from error
    with open(os.path.join(train_dir, ".lock"), "a", encoding="utf-8") as file:
        try:
            import fcntl
        except ImportError:  # Windows has no such lock: nothing keeps a second process out
            yield
            return
        try:
            # The kernel drops the lock with the process, however it ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"--train_dir={train_dir}: another process is training there. Stop it, or choose "
                "another --train_dir."
            ) from error
        yield
