"""A profile of some steps for TensorBoard."""

import contextlib
import shlex
from collections.abc import Callable, Iterator

import tensorflow as tf

from training import loop


@contextlib.contextmanager
def profiled(
    folder: str,
    steps: tuple[int, ...],
    position: Callable[[], int],
    say: Callable[[str], None],
) -> Iterator[list[loop.Pause]]:
    """Takes a profile in this block, of as many of the steps as the run makes.

    Args:
      folder: where the profile goes.
      steps: the first and the last one, from 1; empty: no profile.
      position: the number of steps made so far.
      say: gets a line about it.

    Yields:
      The pauses that begin and end it.
    """
    if not steps:
        yield []
        return
    first, last = steps
    begun = []  # the step before

    def start(step: int) -> None:
        if begun:  # and rolled back since
            return
        tf.profiler.experimental.start(folder)
        begun.append(step)

    def end(step: int) -> None:
        if not begun:
            return
        earliest = begun.pop() + 1
        tf.profiler.experimental.stop()
        command = shlex.join(["tensorboard", f"--logdir={folder}"])
        say(f"Profiled steps {earliest} to {step}: {command}")

    if position() >= last:
        say(f"--profile_steps={first},{last}: the run is past them; no profile is taken.")
    elif position() >= first - 1:
        start(position())
    try:
        yield [
            loop.Pause(start, at=frozenset({first - 1})),
            loop.Pause(end, at=frozenset({last})),
        ]
    finally:
        end(position())
