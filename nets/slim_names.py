"""Keras variables under their slim names, and slim's ways to choose some of them by scope.

slim name: `InceptionV3/Mixed_7c/Branch_0/Conv2d_0a_1x1/weights`. A scope is a prefix of it.
"""

import difflib
import re
from collections.abc import Callable, Iterable

import keras

from foundation.errors import InputError

LEAVES = {  # Keras's names of variables, and slim's
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
}
# For layers that are not of `blocks`, such as those of keras.applications.
_REGULARIZED_BY_DEFAULT = ("weights", "pointwise_weights")


def slim_name(variable: keras.Variable) -> str:
    """`A.B/kernel` → `A/B/weights`."""
    scope, _, leaf = variable.path.rpartition("/")
    return f"{scope.replace('.', '/')}/{LEAVES.get(leaf, leaf)}"


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All weights of a model by slim name, moving statistics included, in the net's order."""
    return {slim_name(variable): variable for variable in model.weights}


def regularized(model: keras.Model) -> list[str]:
    """The slim names of the variables that --weight_decay acts on."""
    names = []
    for layer in model._flatten_layers(include_self=False):
        leaves = getattr(layer, "regularized", _REGULARIZED_BY_DEFAULT)
        for variable in layer._trainable_variables:
            if (name := slim_name(variable)).rpartition("/")[2] in leaves:
                names.append(name)
    return names


def caught_by_prefix(
    scopes: Iterable[str], names: Iterable[str], flag: str = "--checkpoint_exclude_scopes"
) -> dict[str, list[str]]:
    """What each scope catches by plain string prefix, slim's rule to exclude from a checkpoint.

    Raises:
      InputError: a scope catches nothing; it has the option of `flag` and the closest scopes.
    """
    return _caught(scopes, names, flag, lambda scope, name: name.startswith(scope))


def caught_by_match(
    scopes: Iterable[str], names: Iterable[str], flag: str = "--trainable_scopes"
) -> dict[str, list[str]]:
    """What each scope catches by `re.match`, slim's rule to choose what is trained.

    Raises:
      InputError: a scope catches nothing or is no regular expression; it has the option of `flag`.
    """
    for scope in scopes:
        try:
            re.compile(scope)
        except re.error as error:
            raise InputError(
                f"{scope!r} is no regular expression: {error}.", option=flag.removeprefix("--")
            ) from error
    return _caught(scopes, names, flag, re.match)


def scopes(names: Iterable[str]) -> list[str]:
    """All scopes above the named variables, each once, in order."""
    found = {}
    for name in names:
        parts = name.split("/")
        found.update(dict.fromkeys("/".join(parts[:i]) for i in range(1, len(parts))))
    return list(found)


def _caught(
    wanted: Iterable[str], names: Iterable[str], flag: str, catches: Callable[[str, str], object]
) -> dict[str, list[str]]:
    names = list(names)
    caught = {scope: [name for name in names if catches(scope, name)] for scope in wanted}
    if idle := [scope for scope, found in caught.items() if not found]:
        known = scopes(names)
        closest = dict.fromkeys(
            close for scope in idle for close in difflib.get_close_matches(scope, known, n=3)
        )
        advice = ", ".join(closest) or ", ".join(dict.fromkeys(s.split("/")[0] for s in known))
        remedy = f"Closest scopes: {advice}."
        if "AuxLogits" in " ".join(idle) and "AuxLogits" not in " ".join(known):
            remedy += " Where images are too small for it, a net has no auxiliary head."
        problem = f"no variable in {', '.join(idle)}."
        raise InputError(problem, option=flag.removeprefix("--"), remedy=remedy)
    return caught
