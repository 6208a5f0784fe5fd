"""Class names in the order of their numbers: labels.txt and files like it."""

import os
import re
import unicodedata
from collections.abc import Sequence

from foundation import files
from foundation.errors import InputError

FILE_NAME = "labels.txt"


def read(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads a file of class names; see `parse`."""
    with open(path, "rb") as file:
        return parse(file.read(), os.fspath(path))


def parse(content: bytes, path: str) -> tuple[str, ...]:
    """Class names, one a line, as `name` or as TF-Slim's `0:name` in any order.

    Blanks around names and empty lines are left out. `path` is for the message.

    Raises:
      InputError: it is not UTF-8, or the numbers are not 0, 1, 2, …, each once.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line} is not in UTF-8. Save it so.") from error
    lines = [unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip()]
    numbered = [re.fullmatch(r"(\d+):(.*)", line) for line in lines]
    if not all(numbered):
        return tuple(lines)
    names = {number(match[1]): match[2].strip() for match in numbered}
    if sorted(names) != list(range(len(lines))):
        raise InputError(f"{path}: the numbers before the names must be 0 to {len(lines) - 1}.")
    return tuple(names[i] for i in range(len(lines)))


def number(digits: str) -> int:
    """A class number in decimal digits; -1 where it is larger than any number of classes."""
    return int(digits) if len(digits) < 10 else -1  # of thousands of digits Python makes no number


def clean(name: str) -> str:
    """A class name in the one form that all are compared and stored in.

    Blanks are single, and accents one with their letters (Unicode's form NFC): file systems and
    editors write them either way, and both are the same on the screen.
    """
    return unicodedata.normalize("NFC", " ".join(name.split()))


class Spellings:
    """How labels are written that become class names: what that changes is told once each."""

    def __init__(self):
        self._of: dict[str, list[str]] = {}  # the spellings of each class, blanks around them apart

    def read(self, written: str) -> tuple[str, str]:
        """The class of a label, and what to report of it, its kind before a colon; "" for nothing.

        A label that alone has a class, and differs by the form of its accents or by blanks at its
        ends, is what it seems to be.
        """
        written = written.strip()
        label = clean(written)
        others = self._of.setdefault(label, [])
        if written in others:
            return label, ""
        others.append(written)
        if others[1:]:
            return label, f"labels joined: {one_class((others[0], written), label)}"
        if unicodedata.normalize("NFC", written) != label:
            return label, f"label changed: {written!r} is the class {label!r}"
        return label, ""


def one_class(spellings: Sequence[str], label: str) -> str:
    """Says that different spellings are one class, so that what differs in them can be seen."""
    look_alike = len({clean(spelling) for spelling in spellings}) < len(
        {" ".join(spelling.split()) for spelling in spellings}
    )
    shown = [(ascii if look_alike else repr)(spelling) for spelling in spellings]
    names = shortened(shown) if shown[5:] else " and ".join(shown)
    return f"{names} are one class, {label}"


def text(labels: Sequence[str]) -> str:
    """What labels.txt holds: one `0:name` a line, as TF-Slim writes it."""
    return "".join(f"{number}:{label}\n" for number, label in enumerate(labels))


def write(path: str | os.PathLike, labels: Sequence[str]) -> None:
    """Writes labels.txt whole; raises OSError."""
    with files.whole(path) as file:
        file.write(text(labels))


def printable(text: str) -> str:
    """Text for the screen: control characters, and bytes of a file name that are no text, as �."""
    return "".join(character if character.isprintable() else "�" for character in text)


def shortened(names: Sequence[str]) -> str:
    """The first few names, and how many there are."""
    return f"{', '.join(names[:5])}{' …' if names[5:] else ''} ({len(names)})"
