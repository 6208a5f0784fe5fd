"""The class names that --classes gives: a file of them in a form people have, or the names."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from foundation import labels
from foundation.errors import InputError

_ITEM = re.compile(r"\bitem\s*\{(.*?)\}", re.DOTALL)
_ID = re.compile(r"\bid\s*:\s*(\d+)")
_NAME = re.compile(r"""\bname\s*:\s*(?:"([^"]*)"|'([^']*)')""")
_NAME_LAST = re.compile(r"(\d+)\s*[,;\t]\s*(.+)")
_NUMBER_LAST = re.compile(r"(.+?)\s*[,;\t]\s*(\d+)")
_NUMBER_SPACE = re.compile(r"(\d+)\s+(.+)")


class ClassList(NamedTuple):
    """Class names in the order of their numbers, and the form they were read in."""

    names: tuple[str, ...]
    form: str


def read(given: str) -> ClassList:
    """Class names from a file or separated by commas.

    A file has one name a line, alone or with its number (`0:name`, `0 name`, `0,name`, `name,0`).
    Or it is JSON (a list, name to number, or number to name), or a label map of the Object
    Detection API.

    Raises:
      InputError: there is no such file, it can't be understood, its numbers are not 0, 1, 2, …, or
        a name is missing or there twice.
    """
    if os.path.isfile(given):
        names, form = _read_file(given)
        return ClassList(_distinct(names, given), form)
    if "," in given:
        return ClassList(_distinct(given.removesuffix(",").split(","), given), "names")
    raise InputError(
        f"there is no such file. Names are separated by commas, with one after a single name "
        f"(--classes={given},). Unset: the names of the labels, sorted.",
        option="classes",
        value=given,
    )


def _read_file(path: str) -> tuple[Sequence[str], str]:
    with open(path, "rb") as file:
        content = file.read()
    plain = content.decode("utf-8-sig", errors="replace").strip()
    if plain.startswith(("{", "[")):
        return _of_json(plain, path)
    if items := _ITEM.findall(plain):
        return _of_label_map(items, path)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    for pattern, order, form in (
        (_NUMBER_LAST, (2, 1), "name,number a line"),
        (_NAME_LAST, (1, 2), "number,name a line"),
    ):
        matches = [pattern.fullmatch(line) for line in lines]
        has_header = len(lines) > 1 and not matches[0] and not re.search(r"\d", lines[0])
        if all(found := matches[1:] if has_header else matches):
            return _by_number([(int(m[order[0]]), m[order[1]]) for m in found], path), form
    spaced = [match.groups() for line in lines if (match := _NUMBER_SPACE.fullmatch(line))]
    numbers, names = {int(number) for number, _ in spaced}, {name for _, name in spaced}
    # `1 euro` and `2 euro` are names; of a numbered list every name is another.
    if len(spaced) == len(lines) == len(names) and numbers == set(range(len(lines))):
        return _by_number([(int(number), name) for number, name in spaced], path), "number name"
    is_numbered = all(re.match(r"\d+:", line) for line in lines)
    return labels.parse(content, path), "number:name a line" if is_numbered else "a name a line"


def _of_json(text: str, path: str) -> tuple[Sequence[str], str]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}.") from error
    if isinstance(content, dict) and len(content) == 1:
        content = next(
            (content[key] for key in ("names", "classes", "labels") if key in content), content
        )
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content, "JSON, a list"
    pairs = list(content.items()) if isinstance(content, dict) else []
    if pairs and all(isinstance(number, int) for _, number in pairs):
        return _by_number([(number, name) for name, number in pairs], path), "JSON, name to number"
    # Keras' list of ImageNet has [synset, name] for a name.
    names = [name[-1] if isinstance(name, list) and name else name for _, name in pairs]
    if (
        pairs
        and all(number.isdecimal() for number, _ in pairs)
        and all(isinstance(name, str) for name in names)
    ):
        numbers = [int(number) for number, _ in pairs]
        return _by_number(list(zip(numbers, names, strict=True)), path), "JSON, number to name"
    raise InputError(
        f"{path} is JSON, but no list of names, no name to number and no number to name."
    )


def _of_label_map(items: Sequence[str], path: str) -> tuple[Sequence[str], str]:
    pairs = []
    for item in items:
        number, name = _ID.search(item), _NAME.search(item)
        if not number or not name:
            raise InputError(f"{path}: an item has no id or no name.")
        pairs.append((int(number[1]), name[1] if name[1] is not None else name[2]))
    numbers = sorted(number for number, _ in pairs)
    form = "label map"
    if numbers == list(range(1, len(pairs) + 1)):
        pairs = [(number - 1, name) for number, name in pairs]
        form = "label map with ids from 1, which become numbers from 0"
    return _by_number(pairs, path), form


def _by_number(pairs: Sequence[tuple[int, str]], path: str) -> Sequence[str]:
    names: Mapping[int, str] = dict(pairs)
    if sorted(number for number, _ in pairs) != list(range(len(pairs))):
        raise InputError(f"{path}: the numbers of the names must be 0 to {len(pairs) - 1}.")
    return [names[i] for i in range(len(pairs))]


def _distinct(names: Sequence[str], given: str) -> tuple[str, ...]:
    names = [labels.clean(name) for name in names]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InputError("a name is not in UTF-8.", option="classes", value=given) from error
    if not names or "" in names or len(set(names)) < len(names):
        raise InputError("a name is missing or there twice.", option="classes", value=given)
    return tuple(names)
