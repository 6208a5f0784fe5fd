"""A good learning rate, from a short run in which it rises."""

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from foundation import files
from foundation.errors import InputError
from training.step import NotFiniteError, TrainingStep

PICTURE = "learning_rates.png"
TABLE = "learning_rates.csv"
_STEPS = 100
_LOWEST, _HIGHEST = 1e-7, 10.0
_SMOOTHING = 0.9
# Beyond this many times the best loss the net is lost, and higher rates say nothing.
_LOST = 4.0
_TOP = 0.9  # of the fall: above it the descent has not begun


def find(
    step: TrainingStep,
    batches: Iterator,
    folder: str,
    say: Callable[[str], None],
    writes: bool = True,
) -> float:
    """Trains 100 steps at rates that rise from 1e-7 to 10, or until the loss explodes.

    Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3.
    The rate that is named is the one at which the smoothed loss falls fastest over the logarithm of
    the rate. Weights are not saved.

    Args:
      step: makes the steps; the net is of no use afterwards.
      batches: for it.
      folder: for the picture and the table.
      say: gets lines for the screen.
      writes: False on workers besides the chief.

    Raises:
      InputError: the loss falls at no rate.
      OSError: picture or table can't be written.
    """
    rates, losses = _sweep(step, batches, say)
    if not rates:
        raise InputError(
            f"The loss is not finite at the very first step, at a learning rate of {_LOWEST:g}: "
            "check the images (--preview) and --checkpoint_path."
        )
    found = steepest(rates, losses)
    if writes:
        _write(folder, rates, losses)
        _plot(os.path.join(folder, PICTURE), rates, losses, found)
    if found is None:
        raise InputError(
            f"The loss falls at no rate up to {rates[-1]:.2g}, or by less than it wavers; see "
            f"{os.path.join(folder, PICTURE)}. A larger --batch_size makes it clearer."
        )
    say(f"See {os.path.join(folder, PICTURE)}. Try --learning_rate={found:.1g}")
    return found


def _sweep(
    step: TrainingStep, batches: Iterator, say: Callable[[str], None]
) -> tuple[list[float], list[float]]:
    """The rates of the steps that were made, and their smoothed losses."""
    growth = (_HIGHEST / _LOWEST) ** (1 / (_STEPS - 1))
    rates, losses = [], []
    mean, best = 0.0, math.inf
    start = int(step.step.numpy())
    step.change_learning_rate(
        lambda now: _LOWEST * tf.pow(growth, tf.cast(now - start, tf.float32))
    )
    for i in range(_STEPS):
        try:
            results = step.run(batches, 1)
        except NotFiniteError:
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * results["loss"]
        smoothed = mean / (1 - _SMOOTHING ** (i + 1))
        rates.append(results["learning_rate"])
        losses.append(smoothed)
        best = min(best, smoothed)
        if smoothed > _LOST * best:
            break
        if (i + 1) % 10 == 0:
            say(f"rate {rates[-1]:.2e}  loss {smoothed:.4f}")
    return rates, losses


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the loss falls fastest on its way down to its lowest point.

    Both are of equal length; neighbouring rates have equal ratios. None where it does not fall, or
    by no more than it wavers at the low rates, which change nothing.
    """
    lowest = min(range(len(losses)), key=losses.__getitem__)
    early = np.asarray(losses[: max(1, lowest // 3)])
    fall = np.median(early) - losses[lowest]
    if fall <= 2 * early.std():
        return None
    # What rises and falls before the last descent is noise.
    begin = max(i for i in range(lowest + 1) if losses[i] >= losses[lowest] + _TOP * fall or i == 0)
    # Over several steps, since single ones are noise.
    span = 5
    first = max(span, min(begin, lowest - span))
    falls = {i: losses[i - span] - losses[i + span] for i in range(first, lowest - span + 1)}
    if not falls or max(falls.values()) <= 0:
        return None
    return rates[max(falls, key=falls.get)]


def _write(folder: str, rates: Sequence[float], losses: Sequence[float]) -> None:
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, TABLE)
    with files.whole(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["learning_rate", "smoothed_loss"])
        writer.writerows(zip(rates, losses, strict=True))


def _plot(path: str, rates: Sequence[float], losses: Sequence[float], found: float | None) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, losses)
    axis.set_xscale("log")
    # What follows an explosion would flatten everything before it.
    axis.set_ylim(min(losses) - 0.05 * abs(min(losses)), 1.3 * losses[0])
    if found is not None:
        axis.axvline(found, color="tab:red", linestyle="--", label=f"steepest at {found:.1g}")
        axis.legend()
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss, smoothed")
    axis.grid(alpha=0.3)
    with files.whole(path, "wb") as file:
        figure.savefig(file, format="png", dpi=100)
