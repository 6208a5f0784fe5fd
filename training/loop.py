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

# A call of several steps stops for Ctrl-C only when it returns.
_LONGEST_CALL_SECS = 1.0
# Signals within this time are one: some launchers send one to the process and to its group, and
# people press twice.
_ONE_WISH_SECS = 2.0
_ANSWER = "Stopping after this step; Ctrl-C again discards it."


def _say(line: str) -> None:
    print(line, flush=True)


def is_due(step: int, every: int, last_step: int | None) -> bool:
    """Whether an action repeated each `every` steps runs after `step`; 0 turns it off."""
    return every > 0 and (step % every == 0 or step == last_step)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What happened since the previous log line.

    `losses` holds means over these steps by name, "loss" the sum that is minimised; `input_share`
    is the part of the time, 0 to 1, that steps waited for their images, `gradient_norm` the mean
    norm of all gradients together, before clipping; `accuracy` is that of the training batches, as
    augmented and with dropout. The first step of a run is slow, since it
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
    accuracy: float | None = None

    def tagged(self) -> dict[str, float]:
        """All that is logged of it, by the tags of TensorBoard and MLflow."""
        tagged = {
            "losses/total" if name == "loss" else f"losses/{name}": value
            for name, value in self.losses.items()
        }
        tagged |= {
            "learning_rate": self.learning_rate,
            "speed/images_per_second": self.images_per_second,
            "speed/input_share": self.input_share,
        }
        if self.gradient_norm is not None:
            tagged["gradient_norm"] = self.gradient_norm
        if self.accuracy is not None:
            tagged["train/accuracy"] = self.accuracy
        return tagged


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


@dataclasses.dataclass(frozen=True)
class Plan:
    """When a run logs, saves, pauses and ends, and how.

    Attributes:
      images_per_step: over all replicas.
      last_step: None runs until stopped.
      log_every_n_steps: 0 never logs, and calls are of 100 steps at most.
      save_interval_secs: longest time between two checkpoints; 0 saves only at the end.
      log: called each `log_every_n_steps`, and after the first and the last step.
      save: called with the step; also at the end and when asked to stop.
      pauses: what else is done between steps; under several workers at the same steps on all.
    """

    images_per_step: int
    last_step: int | None
    log_every_n_steps: int
    save_interval_secs: float
    log: Callable[[Progress], None]
    save: Callable[[int], None]
    pauses: Sequence[Pause] = ()


def _signals() -> list[signal.Signals]:
    """Those that ask for an end; `nohup` has the one of a closed terminal ignored."""
    hangs_up = os.name == "posix" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


class StopRequest:
    """Turns Ctrl-C, SIGTERM and a closed terminal into a wish to stop; a second ends the process.

    `reason` says what asked for it: a signal's name, the time limit, or what a pause found.
    """

    def __init__(self, max_seconds: float = math.inf, say: Callable[[str], None] = _say):
        self.reason: str | None = None
        self.is_settled = False  # all workers know the reason, and no other counts any more
        self._say = say
        self._noted_at = -math.inf
        self._deadline = time.monotonic() + max_seconds
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in _signals():
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
        """Answers the first signal, and ends the process at the second.

        Python's own handlers run only when TensorFlow returns from a step, which may take long, or
        never come. The bytes of `set_wakeup_fd` arrive at once.
        """
        first = math.inf
        with os.fdopen(reader, "rb", buffering=0) as signals:
            while number := signals.read(1):
                if number[0] not in self._previous:
                    continue
                if math.isinf(first):
                    first = time.monotonic()
                    self._say(_ANSWER)
                elif time.monotonic() - first > _ONE_WISH_SECS:
                    self._say("Stopped at once; steps since the last checkpoint are lost.")
                    os._exit(128 + number[0])

    @property
    def is_planned(self) -> bool:
        """Whether the run is to end by its own rules, and not because somebody is waiting."""
        return self.reason is not None and not self.is_urgent

    @property
    def is_urgent(self) -> bool:
        """Whether somebody is waiting for the end."""
        return self.reason is not None and self.reason.startswith("SIG")

    def check_time(self) -> None:
        """Asks to stop where the time limit is over."""
        if time.monotonic() >= self._deadline and self.reason is None:
            self.reason = "the time limit"

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.is_settled:
            self.reason = signal.Signals(number).name
        self._noted_at = time.monotonic()
        if os.name != "posix":
            self._say(_ANSWER)
        for expected in self._previous:
            signal.signal(expected, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._noted_at > _ONE_WISH_SECS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def train(
    step: TrainingStep,
    iterator: Iterator,
    distribution: Distribution,
    plan: Plan,
    stop: StopRequest,
    until: int | None = None,
) -> int:
    """Runs until the plan's last step, or `until`, or until asked to stop.

    Args:
      step: where training stands and how it goes on.
      iterator: of batches; under several replicas, of the strategy.
      distribution: as `step` has it.
      plan: when to log, save and pause.
      stop: asked between calls of several steps.
      until: the step to return at where it is another than the last step; it is saved too.

    Returns:
      The step reached.

    Raises:
      NotFiniteError: the loss is not finite; nothing was saved since.
    """
    end = plan.last_step if until is None else until
    now = int(step.step.numpy())
    saved_at, saved_step = time.monotonic(), now
    window = _Window(plan.images_per_step, plan.last_step)
    # Unknown, and a call is a single step, until one has been taken that was compiled before.
    seconds_per_step, first_call = math.inf, True
    while end is None or now < end:
        # Every worker must make the same calls, whatever its own clock says.
        pace = distribution.mean(seconds_per_step)
        count = _steps_until_next(now, plan, end, pace)
        began = time.monotonic()
        results = step.run(iterator, count)
        took = time.monotonic() - began
        now += count
        window.add(results, count, took)
        due = first_call or is_due(now, plan.log_every_n_steps, end) or stop.reason
        if due and plan.log_every_n_steps:
            plan.log(window.close(now, compiled=first_call))
        if not first_call:
            seconds_per_step = took / count
        first_call = False
        overdue = 0 < plan.save_interval_secs <= time.monotonic() - saved_at
        # Before a pause, which may take long.
        if distribution.agree(overdue):
            plan.save(now)
            saved_at, saved_step = time.monotonic(), now
        for pause in plan.pauses:
            if pause.next_after(now - 1) == now:
                found = pause.act(now)
                stop.reason = stop.reason or found
        stop.check_time()
        if _agreed(stop, distribution):
            break
    if saved_step != now:
        plan.save(now)
    return now


def _agreed(stop: StopRequest, distribution: Distribution) -> bool:
    """Whether any worker is to stop; then all know of it and have the same kind of reason."""
    stopping = distribution.agree(stop.reason is not None)
    urgent = distribution.agree(stop.is_urgent)
    if stopping and (stop.reason is None or (urgent and stop.is_planned)):
        stop.reason = "SIGTERM of another worker" if urgent else "another worker"
    stop.is_settled = stop.is_settled or stopping
    return stopping


def _steps_until_next(now: int, plan: Plan, end: int | None, seconds_per_step: float) -> int:
    """How many steps one call may make without running past a log line, a pause or the end."""
    if math.isinf(seconds_per_step):
        return 1
    log_every = plan.log_every_n_steps
    limits = [
        max(1, int(_LONGEST_CALL_SECS / max(seconds_per_step, 1e-9))),
        log_every - now % log_every if log_every else 100,
        math.inf if end is None else end - now,
        *(pause.next_after(now) - now for pause in plan.pauses),
    ]
    return int(min(limits))


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
        apart = ("learning_rate", "gradient_norm", "input_seconds", "accuracy")
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
            accuracy=sums["accuracy"] / steps if "accuracy" in sums else None,
        )
        self._clear()
        return progress
