"""The nets' names, known without TensorFlow: costs.json has them, as a test of the costs holds."""

import difflib
import functools
import json
import os

from foundation.errors import UsageError

COSTS_FILE = os.path.join(os.path.dirname(__file__), "costs.json")


@functools.cache
def known() -> tuple[str, ...]:
    """The names of all nets, in the order of `nets_factory.NETS`."""
    with open(COSTS_FILE, encoding="utf-8") as file:
        return tuple(json.load(file))


def check(name: str) -> None:
    """Raises UsageError, with the closest names, where no net has this one."""
    if name not in known():
        raise UsageError("no such net.", option="model_name", value=name, remedy=did_you_mean(name))


def did_you_mean(name: str) -> str:
    """The names closest to one that no net has; all names where none is close."""
    closest = difflib.get_close_matches(name, known(), n=3) or sorted(known())
    return f"Did you mean {' or '.join(closest)}?"
