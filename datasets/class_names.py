"""The class names of TFRecord files, in the order of their numbers.

From labels.txt or dataset.json in their folder, else from the records, else from a table.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence

from datasets import schema, storage
from datasets.frames import BrokenFrame, compression_of, frames
from datasets.sources import csv_table
from foundation import labels
from foundation.errors import InputError

_LABELS_FILE = ".record_labels.json"
# Without labels.txt, numbers below the first are taken for classes; larger ones only where they are
# less than the second times the number of classes.
_LIKELY_CLASSES, _LIKELY_GAP = 10_000, 100
# How many files, and records of each, are compared with labels.txt.
_CHECKED_FILES, _CHECKED_RECORDS = 8, 64


@dataclasses.dataclass(frozen=True)
class ClassNames:
    """Class names in the order of the records' numbers, and a line on what is remarkable."""

    names: tuple[str, ...]
    remark: str = ""


def find(files: Sequence[str], relatives: Sequence[str], path_to_csv: str | None) -> ClassNames:
    """Class names by labels.txt or dataset.json, else by the records, else by the table.

    Names of such files are compared with the texts in the first of these; where the numbers of
    the records are all one more or one less, the names are brought in line.

    Args:
      files: the TFRecord files of a split.
      relatives: those of the other splits too.
      path_to_csv: see `tfrecord_dataset.find`.

    Raises:
      InputError: names that contradict each other, no class numbers in the records, or no table.
    """
    if path_to_csv and not os.path.exists(path_to_csv):
        raise InputError("there is no such file.", option="path_to_csv", value=path_to_csv)
    table = _labels_of_table(path_to_csv) if path_to_csv else ()
    found, remark = _labels_of(files), ""
    if found:
        found, remark = _in_line(found, files[0], relatives)
    given = set(found)
    if not found:
        names = _names_of_records(relatives)
        given = set(names.values()) - {""}
        if table and not given:
            return ClassNames(table)
        found = _in_order(names)
    # Table and records may each lack classes that the other has; not both at the same time.
    if (unknown := sorted(set(table) - given)) and (missing := sorted(given - set(table))):
        raise InputError(
            f"it has the class {unknown[0]!r} and not {missing[0]!r}, {files[0]} the other way "
            "round.",
            option="path_to_csv",
            value=path_to_csv,
            remedy="Leave the flag out, or give the right table.",
        )
    return ClassNames(found, remark)


def _in_line(
    names: tuple[str, ...], first: str, files: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """Names in the order of the records' numbers, by their texts, and a remark if that differs.

    Case is no difference. A text that is none of the names, where others are, is remarked.

    Raises:
      InputError: the texts name other classes than the names do, and not by a constant shift.
    """
    if is_converted_here(first):  # which wrote both
        return names, ""
    folded = tuple(name.casefold() for name in names)
    found = [one for one in _first_texts(files) if one.text]
    texts = [one for one in found if one.text.casefold() in folded]

    def fits(one: _Text, by: int = 0) -> bool:
        place = one.number - by
        return folded[place : place + 1] == (one.text.casefold(),)

    def is_shifted(by: int) -> bool:
        return all(fits(one, by) for one in texts)

    if not texts:  # such as WordNet's numbers, which say the same in other words
        return names, ""
    if is_shifted(0):
        strange = next((one for one in found if one not in texts), None)
        return names, strange.remark(names) if strange else ""
    if is_shifted(1):
        remark = f"number their classes from 1: {names[0]} is 1, and 0 the background"
        return ("background", *names), f"{first}: the records {remark}."
    if is_shifted(-1):
        remark = f"number their classes from 0 without {names[0]}, the first of the names"
        return names[1:], f"{first}: the records {remark}."
    wrong = next(one for one in texts if not fits(one))
    raise InputError(
        wrong.remark(names),
        remedy="Put its names in the order of the numbers, or remove it: then the records' own "
        "names are used.",
    )


def is_converted_here(path: str) -> bool:
    """Whether a conversion of ours made a TFRecord file, by its dataset.json."""
    starts = f"{path}.", os.path.join(os.path.dirname(path), "")
    return any(storage.read_json(f"{start}dataset.json").get("classes") for start in starts)


def stated_counts(dataset_dir: str | None, tfrecord_file: str | None, split: str) -> dict[str, int]:
    """How many examples each class has in a split, as dataset.json says; {} where it does not.

    Args:
      dataset_dir: folder of the dataset.
      tfrecord_file: the file, in place of a folder.
      split: whose.
    """
    start = f"{tfrecord_file}." if tfrecord_file else os.path.join(dataset_dir or "", "")
    splits = storage.read_json(f"{start}dataset.json").get("splits", {})
    return dict(splits.get(split, {}).get("classes", {}))


@dataclasses.dataclass(frozen=True)
class _Text:
    """Class number and name in a record."""

    file: str
    record: int
    number: int
    text: str

    def remark(self, names: Sequence[str]) -> str:
        called = dict(enumerate(names)).get(self.number, "nothing")
        return (
            f"{self.file}: record {self.record} has the class number {self.number} and the name "
            f"{self.text!r}, but labels.txt calls that number {called!r}."
        )


def _first_texts(files: Sequence[str]) -> Iterator[_Text]:
    """Yields the numbers and names in the first records of files spread over all of them."""
    for path in files[:: max(1, len(files) // _CHECKED_FILES)]:
        yield from itertools.islice(_texts(path), _CHECKED_RECORDS)


def _texts(path: str) -> Iterator[_Text]:
    """Yields the number and the name in each record of a file that has a right checksum.

    TensorFlow's own reader leaves out all that stands behind a wrong one. A record that cannot be
    read is reported where it matters, in training or evaluation.
    """
    with contextlib.suppress(BrokenFrame):
        for i, (_, record, footer) in enumerate(frames(path, compression_of(path))):
            found = schema.label_and_text(record) if schema.masked_crc(record) == footer else None
            if found:
                number, text = found
                yield _Text(path, i, number, labels.clean(text.decode(errors="replace")))


def _labels_of_table(path: str) -> tuple[str, ...]:
    try:
        return csv_table.labels(path)
    except InputError as error:
        raise error.about(
            "path_to_csv", "Give it in UTF-8 and with a column called label, or leave the flag out."
        ) from error


def _labels_of(files: Sequence[str]) -> tuple[str, ...]:
    """Class names as labels.txt or dataset.json say; () where no file has any.

    Raises:
      InputError: the names of two files differ, or only one of them has any.
    """
    first, cache = files[0], {}
    names = _labels_of_file(first, cache)
    for path in files[1:]:
        if _labels_of_file(path, cache) != names:
            raise InputError(
                f"{first} and {path} have different class names or orders of them, by their "
                "labels.txt or dataset.json.",
                remedy="Convert them with the same --classes.",
            )
    return names


def _labels_of_file(path: str, cache: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names for one file; `cache` holds those for all files of a folder."""
    folder = os.path.dirname(path)
    if folder not in cache:
        cache[folder] = _stated_labels(os.path.join(folder, ""))
    return _stated_labels(f"{path}.") or cache[folder]


def _stated_labels(start: str) -> tuple[str, ...]:
    """What labels.txt says, else dataset.json, of those whose paths begin so; () without them.

    TFDS calls its own by the feature: label.labels.txt.
    """
    for name in (labels.FILE_NAME, f"label.{labels.FILE_NAME}"):
        if storage.exists(f"{start}{name}"):
            with storage.open_file(f"{start}{name}") as file:
                return labels.parse(file.read(), f"{start}{name}")
    return tuple(storage.read_json(f"{start}dataset.json").get("classes", ()))


def _in_order(names: dict[int, str]) -> tuple[str, ...]:
    """Names in order: the number stands for a missing name, "background" for a missing 0."""
    found = [names.get(i) or str(i) for i in range(max(names) + 1)]
    if 0 not in names:
        found[0] = "background"
    return tuple(found)


def _names_of_records(files: Sequence[str]) -> dict[int, str]:
    """Class names by number as the records give them, "" where they give none.

    All records are read for it once; the names are kept in their folder.
    """
    states = [(os.path.basename(path), *storage.size_and_mtime(path)) for path in files]
    state = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    memory = os.path.join(os.path.dirname(files[0]), _LABELS_FILE)
    known = storage.read_json(memory)
    if known.get("files") == state:
        with contextlib.suppress(KeyError, ValueError, AttributeError):  # else it is not ours
            return {int(number): name for number, name in known["names"].items()}
    names = _names_in(files)
    if not names:
        raise InputError(f"{files[0]}: no class numbers from 0 can be read from its records.")
    storage.write_json(memory, {"files": state, "names": names})
    return names


def _names_in(files: Sequence[str]) -> dict[int, str]:
    """Class names by number, empty where no record gives one.

    Raises:
      InputError: records give a number two names, or a number that can hardly be a class's.
    """
    names, first = {}, {}
    for path in files:
        for one in _texts(path):
            number, name = one.number, one.text
            known = names.setdefault(number, name) or name
            if name and name != known:
                raise InputError(
                    f"{', '.join(files[:2])}{', …' if len(files) > 2 else ''}: class {number} "
                    f"is {known!r} in some records and {name!r} in others.",
                    remedy="If they belong together, write the names into labels.txt.",
                )
            names[number] = known
            first.setdefault(number, one)
    likely = max(_LIKELY_CLASSES, _LIKELY_GAP * len(names))
    for number in names:
        if not 0 <= number < likely:
            place = f"{first[number].file}: record {first[number].record}"
            raise InputError(
                f"{place}: its label {number} can hardly be a class number.",
                remedy="Write the names of the classes, one a line, into labels.txt in its folder; "
                "then --max_bad_records passes over such records.",
            )
    return names
