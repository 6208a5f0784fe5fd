"""The dataset of a run, in the first of several splits that is there."""

import dataclasses
import os
from collections.abc import Sequence

from datasets import tfrecord_dataset
from datasets.options import SourceOptions
from datasets.tfrecord_dataset import Dataset
from foundation.errors import InputError
from runs.config import RunConfig

_PLACE = ("dataset_dir", "dataset_name", "tfrecord_file", "path_to_csv")


@dataclasses.dataclass(frozen=True)
class Found:
    """A dataset; `passed_over` says why it is not of the split that was tried first."""

    dataset: Dataset
    passed_over: InputError | None = None


def place(config: RunConfig | None, given: SourceOptions) -> dict[str, object]:
    """Arguments of `tfrecord_dataset.find` but the split: the run's, and over them the options.

    Args:
      config: of the run, if there is one. Where the options name another place than its own,
        nothing but its labels_offset is taken from it.
      given: what the options say.
    """
    by_hand = {name: getattr(given, name) for name in _PLACE if getattr(given, name)}
    is_other_place = "dataset_dir" in by_hand or "tfrecord_file" in by_hand
    of_run = {name: None if is_other_place else getattr(config, name, None) for name in _PLACE}
    if not os.path.exists(of_run["path_to_csv"] or ""):
        of_run["path_to_csv"] = None  # moved away since the training; run.json has the classes
    offset = config.labels_offset if config else given.labels_offset
    return of_run | by_hand | {"labels_offset": offset}


def first_there(config: RunConfig | None, given: SourceOptions, splits: Sequence[str]) -> Found:
    """The dataset of the options, or else of the run.

    Args:
      config: of the run, if there is one.
      given: what the options say; a split that is set by hand is the only one that is tried.
      splits: tried in this order.

    Raises:
      InputError: none of them is there, or there is no dataset; about the first that was tried,
        and about an option only where that was set by hand.
    """
    source = place(config, given)
    if "dataset_split_name" in given.given:
        splits = (given.dataset_split_name,)
    elif source["tfrecord_file"]:
        # Files have no splits to choose from; those of a run are what it was trained on.
        splits = ((given if given.tfrecord_file else config).dataset_split_name,)
    problem = None
    for split in splits:
        try:
            return Found(tfrecord_dataset.find(split=split, **source), problem)
        except InputError as error:
            problem = problem or _about_what_was_given(error, given)
    raise problem


def _about_what_was_given(error: InputError, given: SourceOptions) -> InputError:
    """The error without the name of an option that nobody set."""
    if error.option is None or error.option in given.given:
        return error
    if error.option == "dataset_split_name":
        remedy = "Choose one with --dataset_split_name."
        return InputError(f"split {error.value}: {error.problem}", remedy=remedy)
    remedy = "That is what run.json says. Name the data with --dataset_dir or --tfrecord_file."
    return InputError(f"{error.value}: {error.problem}", remedy=remedy)
