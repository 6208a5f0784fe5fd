"""Options: frozen dataclasses whose fields are command-line flags too.

    @options
    class ScheduleOptions(Options):
        \"\"\"Learning rate.\"\"\"                          # the heading of its group in --help

        learning_rate: float = option(0.01, "First learning rate.", bounds=(0, None))

A field's annotation says how its text is read: bool, int, float, str, or a tuple of one of them,
which the command line separates by commas; `| None` where it may be left unset. A job's options
are an `Options` of groups, made by `group`. The same checks hold in Python and on the command line.
"""

import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from foundation.errors import UsageError

_Group = TypeVar("_Group", bound="Options")

# The same decorator for every group.
options = dataclasses.dataclass(frozen=True, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Option:
    """What is known of one option besides its value.

    `bounds` are inclusive. `parse` turns text into the value where the annotation says too little.
    A path's leading `~` is expanded, and a `file://` left out; a `remote` one may have another
    scheme, such as gs://. A `repeated` option is given once for each entry.
    """

    help: str
    name: str = ""
    type: Any = str
    default: Any = None
    choices: tuple[str, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    aliases: tuple[str, ...] = ()
    parse: Callable[[str], Any] | None = None
    path: bool = False
    remote: bool = False
    repeated: bool = False

    @property
    def flag(self) -> str:
        """As the command line has it."""
        return f"--[no]{self.name}" if self.type is bool else f"--{self.name}"

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.type) is tuple

    def read(self, text: str) -> Any:
        """The value that a command line's word means; raises UsageError."""
        words = [text] if self.repeated or not self.is_list else text.split(",")
        words = [word.strip() for word in words] if self.is_list else words
        values = [
            self._read_one(word) for word in words if word or self.repeated or not self.is_list
        ]
        return tuple(values) if self.is_list else values[0]

    def _read_one(self, word: str) -> Any:
        kind = typing.get_args(self.type)[0] if self.is_list else self.type
        try:
            return (self.parse or _READERS[kind])(word)
        except ValueError as error:
            problem = str(error) if self.parse else _WANTED.get(kind, "")
            raise UsageError(problem, option=self.name, value=word) from error

    def checked(self, value: Any) -> Any:
        """The value as the field keeps it; raises UsageError where it is out of bounds."""
        if value is None:
            return None
        if self.is_list:
            return tuple(self._checked_one(entry) for entry in value)
        return self._checked_one(value)

    def _checked_one(self, value: Any) -> Any:
        if self.choices and value not in self.choices:
            raise UsageError(
                f"unknown. Choose of {', '.join(self.choices)}.", option=self.name, value=value
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            least, greatest = self.bounds
            inside = (least is None or value >= least) and (greatest is None or value <= greatest)
            # Neither infinite, nor NaN, nor a whole number that is too large for a float.
            if not (abs(value) <= sys.float_info.max and inside):
                raise UsageError(f"write {self._range()}.", option=self.name, value=value)
        return self._place(value) if self.path else value

    def _place(self, path: str) -> str:
        if self.remote:
            return os.path.expanduser(path)
        path = path.removeprefix("file://")
        if "://" in path:
            raise UsageError(
                "it lies on this machine, or on a disk that is mounted here.",
                option=self.name,
                value=path,
                remedy="Name a path without a scheme, and copy from or to there.",
            )
        return os.path.expanduser(path)

    def _range(self) -> str:
        least, greatest = self.bounds
        if least is not None and greatest is not None:
            return f"a number from {least:.10g} to {greatest:.10g}"
        if least is not None:
            return f"a number of at least {least:.10g}"
        return "a number" if greatest is None else f"a number of at most {greatest:.10g}"


_TRUTHS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n"), False),
}


def is_truth(word: str) -> bool:
    """Whether a word stands for true or false."""
    return word.lower() in _TRUTHS


def _truth(word: str) -> bool:
    if not is_truth(word):
        raise ValueError(word)
    return _TRUTHS[word.lower()]


_READERS: dict[Any, Callable[[str], Any]] = {bool: _truth, int: int, float: float, str: str}
_WANTED = {bool: "write true or false.", int: "write a whole number.", float: "write a number."}


def option(default: Any, help: str, **about: Any) -> Any:
    """A field that is also a command-line flag.

    Args:
      default: its value where nothing is said.
      help: its line in --help; ends in a full stop.
      about: further fields of `Option`: choices, bounds, aliases, parse, path, remote,
        repeated.
    """
    return dataclasses.field(default=default, metadata={"option": Option(help, **about)})


def group(kind: type[_Group], **defaults: Any) -> _Group:
    """A field that holds a group; `defaults` are this job's own."""

    def create() -> _Group:
        created = kind(**defaults)
        object.__setattr__(created, "given", frozenset())
        return created

    return dataclasses.field(default_factory=create, metadata={"group": kind})


@options
class Options:
    """Base of all groups, and of the options of a job.

    Attributes:
      given: names of the options that were set by hand, be it to their default.
    """

    given: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, **given: Any):
        self = super().__new__(cls)
        object.__setattr__(self, "given", frozenset(given))
        return self

    def __post_init__(self):
        for one in listed(type(self)):
            object.__setattr__(self, one.name, one.checked(getattr(self, one.name)))

    def check(self) -> None:
        """Raises InputError for options that do not go together; see the function `check`."""

    @classmethod
    def of(cls: type[_Group], **given: Any) -> _Group:
        """A job's options by the names of the flags, whatever groups they are in.

        Raises:
          UsageError: there is no such option, or a value is out of bounds.
        """
        default = cls()
        known = values(default)
        if unknown := sorted(given.keys() - known.keys()):
            close = difflib.get_close_matches(unknown[0], known)
            remedy = f"Did you mean {' or '.join(close)}?" if close else ""
            raise UsageError("unknown.", option=unknown[0], remedy=remedy)
        return changed(default, given)

    def completed(self: _Group) -> _Group:
        """A job's options with those that some of them stand for, such as the flags of a recipe."""
        return self

    def replace(self: _Group, **changes: Any) -> _Group:
        """A copy with other values, which count as set by hand."""
        changed = dataclasses.replace(self, **changes)
        object.__setattr__(changed, "given", self.given | changes.keys())
        return changed


def listed(kind: type[Options]) -> list[Option]:
    """The options that are fields of a group itself, in order."""
    return [
        dataclasses.replace(
            field.metadata["option"],
            name=field.name,
            type=_without_none(field.type),
            default=field.default,
        )
        for field in dataclasses.fields(kind)
        if "option" in field.metadata
    ]


def groups(kind: type[Options]) -> tuple[str, ...]:
    """Names of the fields that hold groups, in a job's options."""
    return tuple(field.name for field in dataclasses.fields(kind) if "group" in field.metadata)


def all_groups(given: Options) -> Iterator[Options]:
    """A job's options themselves and all groups in them."""
    yield given
    for name in groups(type(given)):
        yield from all_groups(getattr(given, name))


def listed_with_defaults(group: Options) -> list[Option]:
    """The options of a group itself, with the values they have in it as their defaults."""
    return [
        dataclasses.replace(one, default=getattr(group, one.name)) for one in listed(type(group))
    ]


def all_options(job: type[Options]) -> list[Option]:
    """All options of a job, with the defaults that they have in it."""
    return [one for group in all_groups(job()) for one in listed_with_defaults(group)]


def values(given: Options) -> dict[str, Any]:
    """Name → value of all options of a group or a job."""
    return {
        one.name: one.default for group in all_groups(given) for one in listed_with_defaults(group)
    }


def given_values(given: Options) -> dict[str, Any]:
    """Name → value of the options that were set by hand."""
    names = frozenset().union(*(group.given for group in all_groups(given)))
    return {name: value for name, value in values(given).items() if name in names}


def changed(given: _Group, changes: Mapping[str, Any]) -> _Group:
    """A copy of a job's options with other values by option name, which count as set by hand."""
    parts = {name: changed(getattr(given, name), changes) for name in groups(type(given))}
    own = {one.name: changes[one.name] for one in listed(type(given)) if one.name in changes}
    copy = dataclasses.replace(given, **parts, **own)
    object.__setattr__(copy, "given", given.given | own.keys())
    return copy


def check(given: Options) -> None:
    """Has a job's options and each group check themselves; raises InputError."""
    for group in all_groups(given):
        group.check()


def heading(kind: type[Options]) -> str:
    """A group's heading: the first line of its docstring, without the full stop."""
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0].rstrip(".")


def _without_none(annotation: Any) -> Any:
    """`float | None` → float; a union of others keeps its first member."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    return annotation
