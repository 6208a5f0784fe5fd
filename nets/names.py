"""The nets' names, costs and sizes, known without TensorFlow: costs.json has them."""

import difflib
import functools
import json
import os

from foundation.errors import UsageError

COSTS_FILE = os.path.join(os.path.dirname(__file__), "costs.json")


AUTO = "auto"  # the value of --model_name that has the machine choose


@functools.cache
def _rows() -> dict[str, list[int]]:
    with open(COSTS_FILE, encoding="utf-8") as file:
        return json.load(file)


@functools.cache
def known() -> tuple[str, ...]:
    """The names of all nets, in the order of `nets_factory.NETS`."""
    return tuple(_rows())


def parameters(name: str) -> int:
    """How many weights a net has with its checkpoint's outputs; see `costs.Cost`."""
    return _rows()[name][0]


def multiply_adds(name: str) -> int:
    """What a net computes for an image of its own size; see `costs.Cost`."""
    return _rows()[name][1]


def image_size(name: str) -> int:
    """Side in pixels of the images that a net was made for."""
    return _rows()[name][2]


def check(name: str) -> None:
    """Raises UsageError, with the closest names, where no net has this one."""
    if name not in known():
        raise UsageError("no such net.", option="model_name", value=name, remedy=did_you_mean(name))


def did_you_mean(name: str) -> str:
    """The names closest to one that no net has; all names where none is close."""
    closest = difflib.get_close_matches(name, known(), n=3) or sorted(known())
    return f"Did you mean {' or '.join(closest)}?"
