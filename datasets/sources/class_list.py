"""The class names that --classes gives: a file of them, or the names themselves."""

import os
from collections.abc import Sequence

from foundation import labels
from foundation.errors import InputError


def read(given: str) -> tuple[str, ...]:
    """Class names in the order of their numbers, from a file or separated by commas.

    Raises:
      InputError: there is no such file, it can't be understood, or a name is missing or there
        twice.
    """
    if os.path.isfile(given):
        return _distinct(labels.read(given), given)
    if "," in given:
        return _distinct(given.removesuffix(",").split(","), given)
    raise InputError(
        f"there is no such file. Names are separated by commas, with one after a single name "
        f"(--classes={given},). Unset: the names of the labels, sorted.",
        option="classes",
        value=given,
    )


def _distinct(names: Sequence[str], given: str) -> tuple[str, ...]:
    names = [labels.clean(name) for name in names]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InputError("a name is not in UTF-8.", option="classes", value=given) from error
    if not names or "" in names or len(set(names)) < len(names):
        raise InputError("a name is missing or there twice.", option="classes", value=given)
    return tuple(names)
