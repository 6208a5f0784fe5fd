"""The class names that --classes gives: a file of them in a form people have, or the names."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from foundation import documents, files, labels
from foundation.errors import InputError

_ITEM = re.compile(r"\bitem\s*\{(.*?)\}", re.DOTALL)
_ID = re.compile(r"\bid\s*:\s*(\d+)")
_QUOTED = r"""\s*:\s*(?:"([^"]*)"|'([^']*)')"""
_NAME, _SHOWN_NAME = re.compile(rf"\bname{_QUOTED}"), re.compile(rf"\bdisplay_name{_QUOTED}")
_MACHINE_NAME = re.compile(r"/[mgt]/\w+")  # of Freebase, as Open Images and COCO's label map have
_NAME_LAST = re.compile(r"(\d+)\s*[,;\t]\s*(.+)")
_NUMBER_LAST = re.compile(r"(.+?)\s*[,;\t]\s*(\d+)")
_NUMBER_SPACE = re.compile(r"(\d+)\s+(.+)")
_YAML_NAMES = re.compile(r"^names[ \t]*:(.*(?:\n(?:[ \t].*|-.*|#.*|[\]}].*)?)*)", re.MULTILINE)
_SCALAR = r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s'"\[\]{},#&*!|>%@`-][^,\[\]{}#]*?)\s*"""
_YAML_ENTRY = re.compile(rf"{_SCALAR}(?:,|$)")
_YAML_PAIR = re.compile(rf"""\s*["']?(\d+)["']?\s*:{_SCALAR}(?:,|$)""")


class ClassList(NamedTuple):
    """Class names in the order of their numbers, and the form they were read in."""

    names: tuple[str, ...]
    form: str


def read(given: str) -> ClassList:
    """Class names from a file or separated by commas.

    A file has one name a line, alone or with its number (`0:name`, `0 name`, `0,name`, `name,0`),
    or all in one line, separated by commas.
    Or it is JSON (a list, name to number, or number to name), YAML with `names` (a list, or number
    to name), or a label map of the Object Detection API.

    Raises:
      InputError: there is no such file, it can't be understood, its numbers are not 0, 1, 2, …, or
        a name is missing or there twice.
    """
    if os.path.isfile(given):
        names, form = _read_file(given)
        return ClassList(_distinct(names, given), form)
    if "," in given:
        names = [name.strip() for name in given.removesuffix(",").split(",")]
        numbered = [re.fullmatch(r"(\d+)\s*:\s*(.+)", name) for name in names]
        if any(numbered) and not all(numbered):
            raise InputError("only some of the names have a number.", option="classes", value=given)
        if all(numbered):
            pairs = [(labels.number(match[1]), match[2]) for match in numbered]
            return ClassList(_distinct(_by_number(pairs, "--classes"), given), "number:name")
        return ClassList(_distinct(names, given), "names")
    raise InputError(
        f"there is no such file. Names are separated by commas, with one after a single name "
        f"(--classes={given},). Unset: the names of the labels, sorted.",
        option="classes",
        value=given,
    )


def _read_file(path: str) -> tuple[Sequence[str], str]:
    with files.opened(path, "rb") as file:
        content = file.read()
    plain = content.decode("utf-8-sig", errors="replace").strip()
    if plain.startswith(("{", "[")):
        return _of_json(plain, path)
    if items := _ITEM.findall(plain):
        return _of_label_map(items, path)
    if path.lower().endswith((".yaml", ".yml")) or re.search(r"^names:[ \t]*(\[|{|$)", plain, re.M):
        return _of_yaml(plain, path)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    for pattern, order, form in (
        (_NUMBER_LAST, (2, 1), "name,number a line"),
        (_NAME_LAST, (1, 2), "number,name a line"),
    ):
        matches = [pattern.fullmatch(line) for line in lines]
        has_header = len(lines) > 1 and not matches[0] and not re.search(r"\d", lines[0])
        if all(found := matches[1:] if has_header else matches):
            pairs = [(labels.number(m[order[0]]), m[order[1]]) for m in found]
            return _by_number(pairs, path), form
    if len(lines) == 1 and "," in lines[0]:
        names = [name.strip() for name in lines[0].split(",")]
        return [name for name in names if name], "names, separated by commas"
    spaced = [match.groups() for line in lines if (match := _NUMBER_SPACE.fullmatch(line))]
    pairs = [(labels.number(number), name) for number, name in spaced]
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    # `1 euro` and `2 euro` are names; of a numbered list every name is another.
    if len(spaced) == len(lines) == len(names) and numbers == set(range(len(lines))):
        return _by_number(pairs, path), "number name"
    is_numbered = all(re.match(r"\d+:", line) for line in lines)
    return labels.parse(content, path), "number:name a line" if is_numbered else "a name a line"


def _of_json(text: str, path: str) -> tuple[Sequence[str], str]:
    try:
        content = documents.parsed(text)
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
        numbers = [labels.number(number) for number, _ in pairs]
        return _by_number(list(zip(numbers, names, strict=True)), path), "JSON, number to name"
    raise InputError(
        f"{path} is JSON, but no list of names, no name to number and no number to name."
    )


def _of_yaml(text: str, path: str) -> tuple[Sequence[str], str]:
    """The names in the part of YAML that lists of classes are written in, as data.yaml is."""
    text = re.sub(r"(^|\s)#.*", "", text.replace("\r\n", "\n"))
    if not (found := _YAML_NAMES.search(text)):
        raise InputError(f"{path} is YAML without names.")
    rest = found[1].strip()
    if rest[:1] in ("[", "{"):
        is_map, end = rest[0] == "{", {"[": "]", "{": "}"}[rest[0]]
        inside, entries = rest[1:].removesuffix(end).strip().removesuffix(","), []
        if not rest.endswith(end):
            raise _not_yaml(path)
        entry = _YAML_PAIR if is_map else _YAML_ENTRY
        position = 0
        while position < len(inside):
            if not (match := entry.match(inside, position)):
                raise _not_yaml(path)
            entries.append(match.groups())
            position = match.end()
    else:
        lines = [line.strip() for line in rest.splitlines() if line.strip()]
        is_map = not lines or not lines[0].startswith("-")
        lines = lines if is_map else [line.removeprefix("-") for line in lines]
        matches = [(_YAML_PAIR if is_map else _YAML_ENTRY).fullmatch(line) for line in lines]
        if not all(matches):
            raise _not_yaml(path)
        entries = [match.groups() for match in matches]
    if is_map:
        pairs = [(labels.number(number), _of_scalar(name)) for number, name in entries]
        return _by_number(pairs, path), "YAML, number to name"
    return [_of_scalar(name) for (name,) in entries], "YAML, a list"


def _not_yaml(path: str) -> InputError:
    return InputError(
        f"{path}: its names are neither a list nor numbers with names.",
        remedy="Write them one a line into a text file.",
    )


def _of_scalar(text: str) -> str:
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def _of_label_map(items: Sequence[str], path: str) -> tuple[Sequence[str], str]:
    def one(pattern: re.Pattern) -> list[str | None]:
        matches = [pattern.search(item) for item in items]
        return [m and next(part for part in m.groups() if part is not None) for m in matches]

    numbers, names, shown = one(_ID), one(_NAME), one(_SHOWN_NAME)
    form = "label map"
    if None in names or all(map(_MACHINE_NAME.fullmatch, names)) and None not in shown:
        names, form = shown, "label map, by display_name"
    if None in names or None in numbers:
        raise InputError(f"{path}: an item has no id or no name.")
    pairs = list(zip(map(labels.number, numbers), names, strict=True))
    if sorted(number for number, _ in pairs) == list(range(1, len(pairs) + 1)):
        pairs = [(number - 1, name) for number, name in pairs]
        form += " with ids from 1, which become numbers from 0"
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
