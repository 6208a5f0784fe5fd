"""Evaluates each new checkpoint of a training that goes on, as TF-Slim's evaluation_loop did."""

import os
import time
from collections.abc import Callable

import keras

from foundation.errors import InputError
from nets.checkpoints import find
from runs.evaluate import evaluate
from runs.options import EvaluateOptions

# How often the folder is looked at.
_POLL_SECONDS = 1.0


def watch(options: EvaluateOptions, say: Callable[[str], None] = print) -> int:
    """Evaluates the last checkpoint of a training folder whenever there is a new one.

    Checkpoints that come and go while another is evaluated are passed over. Each evaluation
    replaces the files of the one before; in TensorBoard they make one curve. The folder need not
    be there yet.

    Args:
      options: of the evaluation, with `eval_interval_secs`.
      say: gets lines for the screen.

    Returns:
      how many checkpoints were evaluated.

    Raises:
      InputError: as `evaluate`; a checkpoint that is deleted while it is read is none.
      OSError: a file could not be written.
    """
    train_dir, given = options.checkpoint.checkpoint_path, options.watching
    say(f"Waiting for checkpoints in {train_dir}, every {given.eval_interval_secs:g} seconds.")
    last, count = None, 0
    while given.max_number_of_evaluations is None or count < given.max_number_of_evaluations:
        began = time.monotonic()
        checkpoint = _next(train_dir, last, given.timeout_secs)
        if checkpoint is None:
            say(f"No new checkpoint for {given.timeout_secs:g} seconds: {count} were evaluated.")
            return count
        last = checkpoint
        if _evaluate(options, checkpoint, say):
            count += 1
        if count != given.max_number_of_evaluations:
            time.sleep(max(0.0, began + given.eval_interval_secs - time.monotonic()))
    return count


def _next(train_dir: str, last: str | None, timeout: float | None) -> str | None:
    """The last checkpoint of a run once it is another than `last`; None after `timeout` seconds."""
    began = time.monotonic()
    while True:
        found = find.latest(train_dir) if os.path.isdir(train_dir) else None
        if found not in (None, last):
            return found
        if timeout is not None and time.monotonic() - began >= timeout:
            return None
        time.sleep(_POLL_SECONDS)


def _evaluate(options: EvaluateOptions, checkpoint: str, say: Callable[[str], None]) -> bool:
    """Evaluates a checkpoint; returns whether it was there to its end."""
    place = options.checkpoint.replace(checkpoint_path=checkpoint)
    try:
        evaluate(options.replace(checkpoint=place), say)
    except (InputError, OSError):
        if find.exists(checkpoint):
            raise
        say(f"{checkpoint} was deleted while it was read. Waiting for the next one.")
        return False
    finally:
        keras.backend.clear_session()  # the net is built anew for each
    return True
