"""JSON of other people's as data: read without surprises, its values of the types that are said."""

import dataclasses
import json
import math
import types
import typing
from typing import Any, TypeVar

_Document = TypeVar("_Document")


def parsed(text: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
      ValueError: it is none, it is nested too deeply, or a text in it is not Unicode (`"\\ud800"`).
    """
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text in it is not Unicode") from error
    return content


def of(kind: type[_Document], content: Any) -> _Document:
    """A dataclass from a JSON object with its fields; a list becomes a tuple where one is wanted.

    Raises:
      ValueError: it is no object, a field is unknown or missing, or a value is of another type than
        the field's; numbers must be finite.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    wanted = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(content.keys() - fields.keys()):
        raise ValueError(f"unknown: {unknown[0]}")
    missing = (
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    if absent := sorted(set(missing) - content.keys()):
        raise ValueError(f"{absent[0]} is missing")
    values = {name: _of_type(name, wanted[name], value) for name, value in content.items()}
    return kind(**values)


def _of_type(name: str, wanted: Any, value: Any) -> Any:
    """The value as a type of the annotation has it; raises ValueError where none has."""
    kind, inner = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if kind is Any:
        return value
    if kind in (types.UnionType, typing.Union):
        if value is None and types.NoneType in inner:
            return None
        (wanted,) = (one for one in inner if one is not types.NoneType)
        return _of_type(name, wanted, value)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(_of_type(name, inner[0], one) for one in value)
    if kind is dict and isinstance(value, dict):
        return {key: _of_type(f"{name}.{key}", inner[1], one) for key, one in value.items()}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number and abs(value) < math.inf:  # neither is NaN
        return value
    if kind is int and is_number and isinstance(value, int):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise ValueError(f"{name} is {str(value)[:40]!r}, not {_WORDS[kind]}")


_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list",
    dict: "an object",
}
