"""The temperature of a run: fitted by an evaluation, kept in run.json, applied where asked."""

import dataclasses
import os
from typing import Any

from evaluation import calibration
from evaluation.evaluator import Evaluation
from foundation.errors import InputError
from runs import config as run_config
from runs.opened import OpenRun

_FIT = "Fit one with eval_image_classifier.py --fit_temperature, or leave the flag out."


def number(asked: str | None, fitted: dict[str, Any] | None, of: str) -> float:
    """What a --temperature other than unset means.

    Args:
      asked: fitted, none or a number.
      fitted: what run.json has of it.
      of: names the run or the export.

    Raises:
      InputError: there is no fitted one.
    """
    if asked == "none":
        return 1.0
    if asked != "fitted":
        return float(asked)
    if not fitted:
        raise InputError(
            f"none was fitted to {of}.", option="temperature", value=asked, remedy=_FIT
        )
    return fitted["value"]


def of_run(asked: str | None, run: OpenRun) -> float:
    """The temperature of an opened checkpoint; what was fitted to it where nothing is asked.

    Raises:
      InputError: the fitted one is asked for, but there is none, or it is another checkpoint's.
    """
    fitted, checkpoint = run.config.temperature, os.path.basename(run.checkpoint)
    is_its_own = fitted and fitted["checkpoint"] == checkpoint
    if asked is None:
        return fitted["value"] if is_its_own else 1.0
    if asked == "fitted" and fitted and not is_its_own:
        raise InputError(
            f"it was fitted to {fitted['checkpoint']}, not to {checkpoint}.",
            option="temperature",
            value=asked,
            remedy=_FIT,
        )
    return number(asked, fitted, run.checkpoint)


def fit(run: OpenRun, found: Evaluation, dataset: str | None, split: str) -> dict[str, Any]:
    """Fits the temperature of a run's checkpoint on what was evaluated, and keeps it in run.json.

    Returns:
      what run.json has of it: "value", the checkpoint, dataset, split and number of examples that
      it was fitted on, and their calibration error "ece" without and with it.

    Raises:
      InputError: no temperature is best.
      OSError: run.json can't be written.
    """
    value = calibration.fit_temperature(found.log_probabilities, found.labels)
    errors = [
        calibration.reliability(confidences, found.correct).error
        for confidences in (
            found.top_probabilities[:, 0],
            calibration.confidences_at(found.log_probabilities, value),
        )
    ]
    fitted = {
        "value": value,
        "checkpoint": os.path.basename(run.checkpoint),
        "dataset": dataset,
        "split": split,
        "num_examples": found.num_examples,
        "ece": errors,
    }
    # As it lies there: options of this evaluation may have changed the opened one.
    config = run_config.load(run.folder)
    run_config.save(run.folder, dataclasses.replace(config, temperature=fitted))
    return fitted


def described(fitted: dict[str, Any]) -> str:
    """A line for the screen."""
    before, after = fitted["ece"]
    return (
        f"Temperature {fitted['value']:.3f}, fitted on {fitted['num_examples']} examples of split "
        f"{fitted['split']}: calibration error {before:.4f} without it, {after:.4f} with it on the "
        "same examples. Kept in run.json."
    )
