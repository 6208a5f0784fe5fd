"""Reads and writes tables of photographs and labels.

Separated by comma, semicolon or tab. With a header the columns are found by their names; without
one they are filename, label, then optionally the split, then optionally xmin, ymin, xmax, ymax.
A photograph in several rows has several objects. What a table made here could not take in is listed
beside it, in TABLE.rejected.csv.
"""

import codecs
import contextlib
import csv
import os
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from datasets import splits
from datasets.findings import Effect, Finding
from datasets.schema import LabeledImage
from datasets.sources import objects, statements
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject
from datasets.sources.statements import Statement
from foundation import files
from foundation import labels as class_labels
from foundation.errors import InputError

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FINDINGS_COLUMNS = ["file", "reason", "harmless"]
# By preference: a table with an `id` beside a `filename` means the latter.
_COLUMNS = {
    "filename": "filename file_name filepath file_path image_path image image_name path file "
    "fichier chemin img image_id id",
    "label": "label class class_name classe category etiquette étiquette breed species target name",
    "split": "split subset",
    "xmin": "xmin x_min x1",
    "ymin": "ymin y_min y1",
    "xmax": "xmax x_max x2",
    "ymax": "ymax y_max y2",
    "width": "width image_width",
    "height": "height image_height",
}


def read(path: str, images: ImageFolder, rule: str) -> Iterator[LabeledImage | Finding]:
    """Yields the photographs of a table in the order in which they first appear.

    Before them come the findings that `write` could not put into the table.

    Args:
      path: the table, UTF-8.
      images: where the photographs are; names without extension are found too.
      rule: see `objects.examples`.

    Raises:
      InputError: it is empty, is not UTF-8, or its columns are not understood.
    """
    yield from _read_findings(path)
    yield from statements.gather(_statements(path, images), rule)


def _statements(path: str, images: ImageFolder) -> Iterator[Statement | Finding]:
    for line, row in _rows(path):
        place = row.get("filename") or f"{os.path.basename(path)} line {line}"
        try:
            yield from _understand(row, images, place)
        except ValueError as error:
            yield Finding(place, str(error))


def write(path: str, items: Iterable[LabeledImage | Finding]) -> None:
    """Writes a table that `read` reads, with a header and a row per box; whole or not at all."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    found = []
    with _writer(path) as writer:
        writer.writerow(["filename", "label", "split", "width", "height", *_SIDES])
        for item in items:
            if isinstance(item, Finding):
                found.append(item)
            else:
                writer.writerows(_rows_of(item))
        # First, so that no table is there without it.
        _write_findings(path, found)


@contextlib.contextmanager
def _writer(path: str):
    """A CSV writer of a file that appears when it is whole."""
    with files.whole(path, newline="", errors="surrogateescape") as file:
        yield csv.writer(file)


def findings_file(path: str) -> str:
    """Where `write` lists what a table could not take in, if there is such."""
    return f"{path}.rejected.csv"


def _write_findings(path: str, found: list[Finding]) -> None:
    if not found:
        with contextlib.suppress(FileNotFoundError):  # that of an earlier table
            os.remove(findings_file(path))
        return
    with _writer(findings_file(path)) as writer:
        writer.writerow(_FINDINGS_COLUMNS)
        writer.writerows([item.file, item.reason, int(not item.is_error)] for item in found)


def _read_findings(path: str) -> Iterator[Finding]:
    place = findings_file(path)
    if not os.path.exists(place):
        return
    with open(place, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    if rows[:1] != [_FINDINGS_COLUMNS] or any(len(row) != 3 for row in rows):
        raise InputError(
            f"{place} is not as convert_data.py wrote it.", remedy="Remove it with its table."
        )
    for name, reason, harmless in rows[1:]:
        yield Finding(name, reason, Effect.LEFT_OUT if harmless == "1" else Effect.REFUSED)


def labels(path: str) -> tuple[str, ...]:
    """The class names of a table, sorted; raises as `read` does. No photograph is needed."""
    rows = (row for _, row in _rows(path))
    return tuple(sorted({class_labels.clean(row["label"]) for row in rows if row.get("label")}))


def _rows_of(image: LabeledImage) -> Iterator[list[object]]:
    start = [image.path, image.label, image.split, *(image.size or ("", ""))]
    for box in image.boxes or (None,):
        yield start + [f"{getattr(box, side):.10g}" if box else "" for side in _SIDES]


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields line numbers and rows by column; a row of another length has the column `problem`.

    File names need not be text; all else must be UTF-8.
    """
    try:
        with _open(path) as file:
            reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
            if _stated_delimiter(path):
                next(reader)
            columns = None
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if columns is None:
                    columns, width = _header(path, cells), len(cells)
                    if columns:
                        _check_text(cells)
                        continue
                    columns = _without_header(path, cells)
                _check_text(cell for i, cell in enumerate(cells) if i != columns["filename"])
                if problem := _problem(cells, columns, width):
                    yield reader.line_num, {"problem": problem}
                else:
                    yield reader.line_num, {name: cells[i] for name, i in columns.items()}
    except UnicodeEncodeError as error:
        raise _bad(path, f"line {reader.line_num} is not in UTF-8.", "Save it so.") from error
    except csv.Error as error:
        raise _bad(path, f"line {reader.line_num}: {error}.") from error
    if columns is None:
        raise _bad(path, "it is empty.")


def _problem(cells: list[str], columns: dict[str, int], width: int) -> str:
    """Why a row can't be read: it has other columns than the first row; "" where it can."""
    needed = max(columns.values()) + 1
    if len(cells) < needed:
        return f"malformed row: {len(cells)} columns where {needed} are needed"
    if any(cells[width:]):
        return (
            f"malformed row: {len(cells)} columns where the first row has {width}; a cell with a "
            "comma in it is written in quotes"
        )
    return ""


def _bad(path: str, problem: str, remedy: str = "") -> InputError:
    return InputError(problem, option="csv_file", value=path, remedy=remedy)


def _open(path: str) -> TextIO:
    return open(path, newline="", encoding="utf-8-sig", errors="surrogateescape")


def _check_text(cells: Iterable[str]) -> None:
    """Raises UnicodeEncodeError for bytes that were no UTF-8."""
    for cell in cells:
        cell.encode()


def _delimiter(path: str) -> str:
    """The separator that makes the most columns of the first line that is not blank."""
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise _bad(path, "it is in UTF-16.", "Save it in UTF-8.")
    if stated := _stated_delimiter(path):
        return stated
    with _open(path) as file:
        first = next((line for line in file if line.strip()), "")
    best = max(",;\t", key=first.count)
    if first and not first.count(best):
        raise _bad(
            path,
            "it has one column; it needs filename and label, separated by comma, semicolon or tab.",
        )
    return best


def _stated_delimiter(path: str) -> str:
    """What a first line such as `sep=;` says, as Excel writes and understands it; else ""."""
    with _open(path) as file:
        match = re.fullmatch(r'"?sep=(,|;|\t)"?[,;\t]*', file.readline().rstrip("\r\n"), re.I)
    return match[1] if match else ""


def _header(path: str, cells: list[str]) -> dict[str, int]:
    """Where each column is; {} when the cells are no header."""
    names = [cell.lower().replace(" ", "_") for cell in cells]
    columns = {}
    for column, aliases in _COLUMNS.items():
        if places := [names.index(alias) for alias in aliases.split() if alias in names]:
            columns[column] = places[0]
    if "filename" in columns and "label" not in columns:
        raise _bad(path, f"it has the columns {', '.join(cells)}; it needs one called label.")
    return columns if "filename" in columns and "label" in columns else {}


def _without_header(path: str, cells: list[str]) -> dict[str, int]:
    """Where each column is by its position, from the first row."""
    names = ["filename", "label"]
    if len(cells) in (3, 7):
        names.append("split")
    if len(cells) in (6, 7):
        names.extend(_SIDES)
    if len(names) != len(cells):
        raise _bad(
            path,
            f"it has {len(cells)} columns and no header that names filename and label.",
            "Add one.",
        )
    return {name: i for i, name in enumerate(names)}


def _understand(
    row: dict[str, str], images: ImageFolder, place: str
) -> Iterator[Statement | Finding]:
    """Yields what a row says; raises ValueError with what is wrong."""
    if "problem" in row:
        raise ValueError(row["problem"])
    if not row["filename"]:
        raise ValueError("no filename")
    label = class_labels.clean(row["label"])
    if not label:
        raise ValueError("no label")
    split = splits.named(row.get("split", ""))
    if row.get("split") and not split:
        raise ValueError(f"unknown split: {row['split']}; train, validation or test")
    found = images.find(row["filename"])
    if not found:
        raise ValueError(f"missing photograph: {row['filename']}")
    if found.remark:
        yield Finding(place, found.remark, Effect.CORRECTED)
    sides, box = {side: row.get(side, "") for side in _SIDES}, None
    try:
        box = objects.parse_box(**sides) if any(sides.values()) else None
    except ValueError as error:
        yield Finding(place, str(error), Effect.CORRECTED)
    size = (row.get("width", ""), row.get("height", ""))
    size = tuple(map(int, size)) if all(side.isdecimal() and int(side) for side in size) else None
    yield Statement(found.path, (LabeledObject(label, box),), split, size)
