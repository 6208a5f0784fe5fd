"""Recipes: settings of a training that go together, as files of flags in the folder recipes/."""

import functools
import os
import pathlib
from typing import Any, TypeVar

from foundation import options
from foundation.errors import InputError, UsageError
from foundation.options import Options

FOLDER = pathlib.Path(__file__).parent.parent / "recipes"
_ENDING = ".flags"
# Options that say the same in different ways: one that is set by hand rules out the recipe's.
_ALTERNATIVES = (
    {"max_number_of_steps", "num_epochs"},
    {"warmup_steps", "warmup_epochs"},
    {"gradient_accumulation_steps", "sync_replicas", "replicas_to_aggregate"},
)
_Job = TypeVar("_Job", bound=Options)


@functools.cache
def names() -> tuple[str, ...]:
    """The recipes in FOLDER, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{_ENDING}")))


def read(recipe: str, job: type[Options]) -> dict[str, Any]:
    """What a recipe sets: option name → value.

    Args:
      recipe: one of `names`, or the path of a file with a flag a line; # begins a comment.
      job: the class of the options that it sets.

    Raises:
      UsageError: there is no such recipe, or a line of it is no flag of the job.
    """
    known = {one.name: one for one in options.all_options(job)}
    found, path = {}, _path(recipe)
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, text = line.lstrip("-").partition("=")
        if name not in known or not line.startswith("--") or not equals:
            raise UsageError(f"{path}, line {number}: {line!r} is no --flag=value of a training.")
        try:
            found[name] = known[name].read(text)
        except InputError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    return found


def completed(given: _Job, recipe: str | None) -> _Job:
    """The options with a recipe's values for all that was not set by hand; None changes nothing."""
    if not recipe:
        return given
    by_hand = set(options.given_values(given))
    for alike in _ALTERNATIVES:
        if alike & by_hand:
            by_hand |= alike
    values = read(recipe, type(given))
    return options.changed(given, {k: v for k, v in values.items() if k not in by_hand})


def _path(recipe: str) -> pathlib.Path:
    if recipe in names():
        return FOLDER / f"{recipe}{_ENDING}"
    if os.path.isfile(recipe):
        return pathlib.Path(recipe)
    raise UsageError(
        "no such recipe.",
        option="recipe",
        value=recipe,
        remedy=f"Choose of {', '.join(names())}, or name a file of flags.",
    )
