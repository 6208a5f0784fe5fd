"""What a search may change: options of a training by their names, each with a range or choices."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Protocol

from foundation import options as foundation_options
from foundation import reference
from foundation.errors import InputError, UsageError
from foundation.options import Option, Options

_EXAMPLE = "learning_rate=log:1e-5:1e-2;optimizer=adam,momentum;batch_size=16:64"
# Options that begin like this mean something only with these values of another one.
_ONLY_WITH = {
    "small_cnn_": ("model_name", ("small_cnn",)),
    "adam_": ("optimizer", ("adam", "adamw", "lamb", "lion", "nadam")),
    "rmsprop_": ("optimizer", ("rmsprop",)),
    "ftrl_": ("optimizer", ("ftrl",)),
    "adadelta_": ("optimizer", ("adadelta",)),
    "adagrad_": ("optimizer", ("adagrad",)),
    "momentum": ("optimizer", ("momentum",)),
    "learning_rate_decay_factor": ("learning_rate_decay_type", ("exponential",)),
    "end_learning_rate": ("learning_rate_decay_type", ("polynomial", "cosine", "one_cycle")),
    "randaugment_magnitude": ("randaugment_layers", ()),
}


class Trial(Protocol):
    """What proposes values; an `optuna.Trial`."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int: ...

    def suggest_categorical(self, name: str, choices: list[str]) -> str: ...


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One option of a search: from `low` to `high`, evenly or by magnitude, or one of `choices`.

    Choices are texts as the command line has them.
    """

    option: Option
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    def suggest(self, trial: Trial) -> str:
        """A value as the command line has it."""
        name = self.option.name
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        if self.option.type is int:
            return str(trial.suggest_int(name, self.low, self.high, log=self.log))
        return f"{trial.suggest_float(name, self.low, self.high, log=self.log):.6g}"


def parse(text: str, known: Mapping[str, Option]) -> dict[str, Dimension]:
    """The dimensions of --search by option name.

    Args:
      text: `NAME=LOW:HIGH`, `NAME=log:LOW:HIGH` and `NAME=CHOICE,CHOICE`, with `;` between them;
        choices that hold commas have `|` between them.
      known: options that may be searched.

    Raises:
      UsageError: an option is unknown or named twice, or its range or a choice makes no sense.
    """
    found: dict[str, Dimension] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if not equals or not values:
            raise _problem(f"{part!r} has no values: write it like {_EXAMPLE}")
        if name not in known:
            close = difflib.get_close_matches(name, known)
            remedy = f" Did you mean {' or '.join(close)}?" if close else ""
            raise _problem(f"{name} is no option of a training that can be searched.{remedy}")
        if name in found:
            raise _problem(f"{name} is named twice.")
        found[name] = _dimension(known[name], values)
    if not found:
        raise _problem(f"names no option: write it like {_EXAMPLE}")
    return found


def suggest(
    space: Mapping[str, Dimension], base: Mapping[str, Any], trial: Trial
) -> dict[str, str]:
    """What a trial shall try, option name → value as the command line has it.

    An option that the values of others make meaningless, such as `small_cnn_dropout` of another
    net, is left out.

    Args:
      space: of `parse`.
      base: values of all options that are not searched.
      trial: proposes values.
    """
    found: dict[str, str] = {}
    for name in sorted(space, key=lambda name: _condition(name) is not None):
        if _applies(name, base | found):
            found[name] = space[name].suggest(trial)
    return found


def check_used(space: Mapping[str, Dimension], base: Mapping[str, Any]) -> None:
    """Raises UsageError where an option of the space is meaningless in every trial."""
    for name in space:
        condition = _condition(name)
        if condition is None or condition[0] in space or _applies(name, base):
            continue
        wanted = " or ".join(condition[1])
        raise _problem(f"{name} says nothing without --{condition[0]}={wanted}.")


def _condition(name: str) -> tuple[str, tuple[str, ...]] | None:
    return next((rest for start, rest in _ONLY_WITH.items() if name.startswith(start)), None)


def _applies(name: str, values: Mapping[str, Any]) -> bool:
    condition = _condition(name)
    if condition is None:
        return True
    other, wanted = condition
    return values[other] in wanted if wanted else str(values[other]) != "0"


def _dimension(one: Option, values: str) -> Dimension:
    parts = values.split(":")
    log = parts[0] == "log"
    ends = parts[1:] if log else parts
    is_number = one.type in (int, float) and not one.choices
    if log and not (is_number and len(ends) == 2):
        raise _problem(f"{one.name}: log:LOW:HIGH is for numbers.")
    if is_number and len(ends) == 2:
        low, high = (_read(one, end) for end in ends)
        if isinstance(low, str) or isinstance(high, str):
            raise _problem(f"{one.name}={values} has no two numbers.")
        if not low < high or (log and low <= 0):
            least = "0 < LOW < HIGH" if log else "LOW < HIGH"
            raise _problem(f"{one.name}={values} needs {least}.")
        return Dimension(one, low, high, log)
    between = "|" if "|" in values or one.is_list else ","
    choices = tuple(dict.fromkeys(part.strip() for part in values.split(between)))
    for choice in choices:
        _read(one, choice)
    return Dimension(one, choices=choices)


def _read(one: Option, text: str) -> Any:
    try:
        return one.checked(one.read(text))
    except InputError as error:
        raise _problem(str(error)) from error


def _problem(text: str) -> UsageError:
    return UsageError(f"--search: {text}")


def flags(given: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line, in the order of their names."""
    return [f"--{name}={reference.text(value)}" for name, value in sorted(given.items())]


def searchable(job: type[Options], excluded: tuple[type[Options], ...]) -> dict[str, Option]:
    """The options of a job by name, without those of the excluded groups."""
    groups = [group for group in foundation_options.all_groups(job()) if type(group) is not job]
    kept = [group for group in groups if not isinstance(group, excluded)]
    return {
        one.name: one for group in kept for one in foundation_options.listed_with_defaults(group)
    }
