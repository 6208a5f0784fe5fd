"""Lists of photographs that say which are for training and which for evaluation.

Stanford Dogs brings its official split as MATLAB files, Pascal VOC and many others as text.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from datasets import splits
from datasets.disk_table import DiskTable
from datasets.findings import Effect, Finding
from datasets.schema import LabeledImage
from datasets.sources import matlab
from foundation import files
from foundation.errors import InputError

_OPTION = "split_lists"
# The variable of a MATLAB file that holds the names: Stanford Dogs'.
_NAMES = "file_list"


class SplitLists:
    """The split of each photograph that some list names.

    A list's own name says which split it is of: train_list.mat, val.txt. It names a photograph by
    as much of its path as it likes, with or without the extension: `n02085620-Chihuahua/
    n02085620_10074.jpg`, `2007_000027`.
    """

    def __init__(self, paths: Sequence[str]):
        """Reads the lists.

        Args:
          paths: text files with a name at the beginning of each line, or MATLAB files with a
            variable `file_list`.

        Raises:
          InputError: a list that is missing, empty, or none; one whose name tells no split; a
            photograph in two of them.
        """
        self._splits, self._ends = DiskTable(), DiskTable()
        for path in paths:
            split = splits.of_file(path)
            if not split:
                raise InputError(
                    "its name does not tell the split.",
                    option=_OPTION,
                    value=path,
                    remedy="Call it train.txt, validation.txt or test.txt, or the like.",
                )
            for name in _read(path):
                self._add(_without_extension(name), split, path)

    def _add(self, name: str, split: str, path: str) -> None:
        known = self._splits.get(name.encode())
        if known and known[0][1] != split:
            raise InputError(
                f"{name} is in a list of {known[0][1]} too.", option=_OPTION, value=path
            )
        if not known:
            self._splits.add(name.encode(), (name, split))
            for end in _ends(name)[1:]:
                self._ends.add(end.encode(), (name, split))

    def place(self, items: Iterable[LabeledImage | Finding]) -> Iterator[LabeledImage | Finding]:
        """Gives each example the split of its list; what no list names is left out.

        Args:
          items: of a source; findings are handed through.
        """
        placed = DiskTable()
        for item in items:
            if isinstance(item, Finding):
                yield item
                continue
            name, split = self._of(_without_extension(item.path))
            if not name:
                yield Finding(item.path, f"in no list of --{_OPTION}", Effect.LEFT_OUT)
                continue
            placed.add(name.encode(), None)
            if item.split not in ("", split):
                problem = (
                    f"two splits: {item.split} and, by --{_OPTION}, {split}; the list's is taken"
                )
                yield Finding(item.path, problem, Effect.CORRECTED)
            yield LabeledImage(item.path, item.label, item.boxes, split, item.size)
        for name, _ in self._splits.by_key():
            if name.encode() not in placed:
                yield Finding(name, f"in --{_OPTION}, but no photograph", Effect.LEFT_OUT)

    def _of(self, path: str) -> tuple[str, str]:
        """The entry that names a photograph and its split; empty where none does, or several do."""
        for end in _ends(path):
            if found := self._splits.get(end.encode()):
                return found[0]
        found = self._ends.get(path.encode())
        return found[0] if len(found) == 1 else ("", "")


def _ends(path: str) -> list[str]:
    """The path, and what is left of it without its first folders."""
    parts = path.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _without_extension(name: str) -> str:
    """A name as all are compared: with `/`, accents in one form, and without its extension."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")
    stem, extension = os.path.splitext(name)
    return name if extension[1:].isdigit() else stem  # "day.1" has none


def _read(path: str) -> list[str]:
    names = _of_matlab(path) if path.lower().endswith(".mat") else _of_text(path)
    if not names:
        raise InputError("it names no photograph.", option=_OPTION, value=path)
    return names


def _of_text(path: str) -> list[str]:
    try:
        with files.opened(path, encoding="utf-8-sig") as file:
            return [_name(line) for line in file if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError("it is not text in UTF-8.", option=_OPTION, value=path) from error


def _name(line: str) -> str:
    """A line without the number in which Pascal VOC's lists of one class end."""
    *name, last = line.split()
    return (
        line.strip().removesuffix(last).strip()
        if name and last in ("1", "0", "-1")
        else line.strip()
    )


def _of_matlab(path: str) -> list[str]:
    with files.opened(path, "rb") as file:
        data = file.read()
    try:
        found = matlab.texts(data, _NAMES)
    except matlab.NotMatlab as error:
        raise InputError(f"no MATLAB file: {error}.", option=_OPTION, value=path) from error
    if found is None:
        raise InputError(
            f"it has no variable {_NAMES}, as Stanford Dogs' train_list.mat has it.",
            option=_OPTION,
            value=path,
            remedy="Write the names into a text file, one a line.",
        )
    return found
