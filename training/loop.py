"""The training loop: when to step, log, save and stop; it knows no file format and no flag."""

import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from training.distribution import Distribution
from training.step import TrainingStep

# A call of several steps answers to Ctrl-C only when it returns.
_LONGEST_CALL_SECS = 5.0
_ONE_WISH_SECS = 0.2


def is_due(step: int, every: int, last_step: int | None) -> bool:
    """Whether an action repeated each `every` steps runs after `step`; 0 turns it off."""
    return every > 0 and (step % every == 0 or step == last_step)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What happened since the previous log line.

    `losses` holds means over these steps by name, "loss" the sum that is minimised; `input_share`
    is the part of the time, 0 to 1, that steps waited for their images, `gradient_norm` the mean
    norm of all gradients together, before clipping. The first step of a run is slow, since it
    compiles the others; `compiled` marks it, and it foretells no seconds left.
    """

    step: int
    losses: dict[str, float]
    learning_rate: float
    images_per_second: float
    input_share: float
    seconds_per_step: float
    seconds_left: float | None
    compiled: bool = False
    gradient_norm: float | None = None


@dataclasses.dataclass(frozen=True)
class Pause:
    """Something to do between two steps: each `every` steps, and after the steps in `at`.

    `act` gets the step; it returns why the run should end, or None to go on.
    """

    act: Callable[[int], str | None]
    every: int = 0
    at: frozenset[int] = frozenset()

    def next_after(self, now: int) -> float:
        """The first step after `now` that it takes place at; infinity when there is none."""
        later = [step for step in self.at if step > now]
        return min([*later, now - now % self.every + self.every if self.every else math.inf])


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a wish to stop; a second one stops at once.

    `reason` says what asked for it: a signal's name, the time limit, or what a pause found.
    """

    def __init__(self, max_seconds: float = math.inf):
        self.reason: str | None = None
        self.is_settled = False  # all workers know the reason, and no other counts any more
        self._noted_at = -math.inf
        self._deadline = time.monotonic() + max_seconds
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        if os.name == "posix":
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if os.name == "posix":
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._writer)

    def _watch(self, reader: int) -> None:
        """Ends the process at the second signal where a step, which may never end, hears of none.

        Python's handlers wait for TensorFlow to return; the bytes of `set_wakeup_fd` do not.
        """
        first = math.inf
        with os.fdopen(reader, "rb", buffering=0) as signals:
            while number := signals.read(1):
                if number[0] not in self._previous:
                    continue
                # Some launchers send one wish twice, to the process and to its group.
                if time.monotonic() - first > _ONE_WISH_SECS:
                    os._exit(128 + number[0])
                first = min(first, time.monotonic())

    @property
    def is_planned(self) -> bool:
        """Whether the run is to end by its own rules, and not because somebody is waiting."""
        return self.reason is not None and not self.is_urgent

    @property
    def is_urgent(self) -> bool:
        """Whether somebody is waiting for the end."""
        return self.reason is not None and self.reason.startswith("SIG")

    def look_at_the_clock(self) -> None:
        if time.monotonic() >= self._deadline and self.reason is None:
            self.reason = "the time limit"

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.is_settled:
            self.reason = signal.Signals(number).name
        self._noted_at = time.monotonic()
        for again in self._previous:
            signal.signal(again, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._noted_at > _ONE_WISH_SECS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def train(
    step: TrainingStep,
    iterator: Iterator,
    distribution: Distribution,
    images_per_step: int,
    last_step: int | None,
    log_every_n_steps: int,
    save_interval_secs: float,
    log: Callable[[Progress], None],
    save: Callable[[int], None],
    stop: StopRequest,
    pauses: Sequence[Pause] = (),
    until: int | None = None,
) -> int:
    """Runs until `last_step`, or `until`, or until asked to stop.

    Args:
      step: where training stands and how it goes on.
      iterator: of batches; under several replicas, of the strategy.
      distribution: as `step` has it.
      images_per_step: over all replicas.
      last_step: None runs until stopped.
      log_every_n_steps: 0 never logs, and calls are of 100 steps at most.
      save_interval_secs: at most this long between checkpoints; 0 saves only at the end.
      log: called each `log_every_n_steps`, and after the first and the last step.
      save: called with the step; also at the end and when asked to stop.
      stop: looked at between calls of several steps.
      pauses: what else is done between steps; under several workers at the same steps on all.
      until: the step to return at where it is another than `last_step`; it is saved too.

    Returns:
      The step reached.

    Raises:
      NotFiniteError: the loss is not finite; nothing was saved since.
    """
    end = last_step if until is None else until
    now = int(step.step.numpy())
    saved_at, saved_step = time.monotonic(), now
    window = _Window(images_per_step, last_step)
    # Unknown, and a call is a single step, until one has been taken that was compiled before.
    seconds_per_step, first_call = math.inf, True
    while end is None or now < end:
        # Every worker must make the same calls, whatever its own clock says.
        pace = distribution.mean(seconds_per_step)
        count = _steps_until_next(now, log_every_n_steps, end, pace)
        pause_at = min((pause.next_after(now) for pause in pauses), default=math.inf)
        count = int(min(count, pause_at - now))
        began = time.monotonic()
        results = step.run(iterator, count)
        took = time.monotonic() - began
        now += count
        window.add(results, count, took)
        due = first_call or is_due(now, log_every_n_steps, end) or stop.reason
        if due and log_every_n_steps:
            log(window.close(now, compiled=first_call))
        if not first_call:
            seconds_per_step = took / count
        first_call = False
        overdue = 0 < save_interval_secs <= time.monotonic() - saved_at
        # Before a pause, which may take long.
        if distribution.agree(overdue):
            save(now)
            saved_at, saved_step = time.monotonic(), now
        for pause in pauses:
            if pause.next_after(now - 1) == now:
                found = pause.act(now)
                stop.reason = stop.reason or found
        stop.look_at_the_clock()
        stopping = distribution.agree(stop.reason is not None)
        waited_for = distribution.agree(stop.reason is not None and not stop.is_planned)
        if stopping and (stop.reason is None or waited_for and stop.is_planned):
            # All must do the same thereafter, so they must know the same.
            stop.reason = "SIGTERM of another worker" if waited_for else "another worker"
        if stopping:
            stop.is_settled = True
            break
    if saved_step != now:
        save(now)
    return now


def _steps_until_next(
    now: int, log_every: int, last_step: int | None, seconds_per_step: float
) -> int:
    """How many steps one call may make without running past a log line or the end."""
    if math.isinf(seconds_per_step):
        return 1
    limits = [max(1, int(_LONGEST_CALL_SECS / max(seconds_per_step, 1e-9)))]
    limits.append(log_every - now % log_every if log_every else 100)
    if last_step is not None:
        limits.append(last_step - now)
    return min(limits)


class _Window:
    """Sums between two log lines."""

    def __init__(self, images_per_step: int, last_step: int | None):
        self._images_per_step, self._last_step = images_per_step, last_step
        self._clear()

    def _clear(self) -> None:
        self._steps, self._seconds, self._sums = 0, 0.0, {}

    def add(self, results: dict[str, float], count: int, seconds: float) -> None:
        for name, value in results.items():
            weight = 1 if name == "input_seconds" else count
            self._sums[name] = self._sums.get(name, 0.0) + value * weight
        self._last_rate = results["learning_rate"]
        self._steps += count
        self._seconds += seconds

    def close(self, step: int, compiled: bool) -> Progress:
        sums, steps, seconds = self._sums, self._steps, max(self._seconds, 1e-9)
        left = None
        if not compiled and self._last_step is not None:
            left = (self._last_step - step) * seconds / steps
        apart = ("learning_rate", "gradient_norm", "input_seconds")
        progress = Progress(
            step=step,
            losses={name: sums[name] / steps for name in sums if name not in apart},
            learning_rate=self._last_rate,
            images_per_second=steps * self._images_per_step / seconds,
            input_share=min(1.0, sums["input_seconds"] / seconds),
            seconds_per_step=seconds / steps,
            seconds_left=left,
            compiled=compiled,
            gradient_norm=sums["gradient_norm"] / steps if "gradient_norm" in sums else None,
        )
        self._clear()
        return progress
