"""Reads and writes tables of photographs and labels.

Separated by comma, semicolon or tab. With a header the columns are found by their names, or by what
--csv_columns says; in place of a label there may be a column of 0 and 1 for each class. Without a
header they are filename,
label, then optionally the split, then optionally xmin, ymin, xmax, ymax; or the split first, as
AutoML has it.
A photograph in several rows has several objects. What a table made here could not take in is listed
in its folder, in TABLE.rejected.csv.
"""

import codecs
import contextlib
import csv
import dataclasses
import os
import re
import types
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from datasets import splits
from datasets.findings import Effect, Finding
from datasets.schema import LabeledImage
from datasets.sources import objects, statements
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject
from datasets.sources.statements import Rest, Statement
from foundation import files
from foundation import labels as class_labels
from foundation.errors import InputError

_MISSING = "missing photograph"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_UNASSIGNED = "UNASSIGNED"  # AutoML's word for no split
_NEEDED = "it needs one called label, or one of 0 and 1 for each class."
_ONE_COLUMN = (
    "it has one column; it needs filename and label, separated by comma, semicolon or tab."
)
_NAME_LABEL = "Say which one is: --csv_columns=label:HEADING."
_FINDINGS_COLUMNS = ["file", "reason", "harmless"]
_PICTURES = ("image", "img", "photo", "photograph", "picture", "pic", "file")
_LABELS = ("label", "class", "category", "breed", "species")
# Headings without blanks and signs, by preference: a table with both `id` and `filename` means the
# latter.
_COLUMNS = {
    "filename": (
        *("filename", "filepath", "imagefilepath"),
        *(f"{thing}{end}" for end in ("filename", "file", "path", "name") for thing in _PICTURES),
        *(*_PICTURES, "path", "fichier", "chemin"),
        *(f"{thing}id" for thing in _PICTURES),
        *("id", "name"),
    ),
    "label": (
        *("label", "class", "classname", "classe", "category", "etiquette", "breed", "species"),
        *("target", *(f"{thing}name" for thing in _LABELS), "commonname", "name", "tag", "choice"),
        *(*(f"{thing}id" for thing in _LABELS), "labels", "groundtruth", "diagnosis", "variety"),
    ),
    "split": ("split", "subset"),
    "xmin": ("xmin", "x1"),
    "ymin": ("ymin", "y1"),
    "xmax": ("xmax", "x2"),
    "ymax": ("ymax", "y2"),
    "width": ("width", "imagewidth"),
    "height": ("height", "imageheight"),
}


@dataclasses.dataclass(frozen=True)
class _Columns:
    """How the columns of a table are understood.

    Attributes:
      places: number of the column by its meaning.
      width: number of cells in the first row.
      classes: number of the column by the class whose 0 or 1 it holds, in place of a label.
      note: a line on what was not obvious; "" where the header says it all.
    """

    places: dict[str, int]
    width: int
    classes: dict[str, int] = dataclasses.field(default_factory=dict)
    note: str = ""

    def rows(self, cells: list[str]) -> Iterator[dict[str, str]]:
        """Yields the row by meaning, once for each class that is 1; or a row with a `problem`."""
        if problem := self._problem(cells):
            yield {"problem": problem}
            return
        row = {name: cells[i] for name, i in self.places.items()}
        if not self.classes:
            yield row
            return
        for label in [label for label, i in self.classes.items() if float(cells[i])] or [""]:
            yield {**row, "label": label}

    def _problem(self, cells: list[str]) -> str:
        """Why a row can't be read; "" where it can."""
        needed = max([*self.places.values(), *self.classes.values()]) + 1
        if len(cells) < needed:
            return f"malformed row: {len(cells)} columns where {needed} are needed"
        if any(cells[self.width :]):
            return (
                f"malformed row: {len(cells)} columns where the first row has {self.width}; a cell "
                "with a comma in it is written in quotes"
            )
        if wrong := [label for label, i in self.classes.items() if not _is_zero_or_one(cells[i])]:
            return f"malformed row: the column {wrong[0]} holds neither 0 nor 1"
        return ""


def read(
    paths: Sequence[str],
    images: ImageFolder,
    rule: str,
    say: Callable[[str], None] = lambda line: None,
    rest: Rest | None = None,
    chosen: Sequence[str] = (),
) -> Iterator[LabeledImage | Finding]:
    """Yields the photographs of tables in the order in which they first appear.

    Before them come the findings that `write` could not put into a table. Of several tables, each
    may be a split by its name, such as train.csv.

    Args:
      paths: the tables, UTF-8.
      images: where the photographs are; names without extension are found too.
      rule: see `objects.examples`.
      say: gets a line for columns that are not called by the usual names, and for photographs that
        are in no table.
      rest: see `statements.gather`. Its findings are counted and not listed: a table is often a
        choice of many photographs.
      chosen: columns as --csv_columns has them, such as "label:Kind of animal".

    Raises:
      InputError: one is empty, is not UTF-8, or its columns are not understood.
    """
    known = set()
    reading = _Reading(images, say, _parsed(chosen), known, class_labels.Spellings())
    for path in paths:
        for item in _read_findings(path):
            known.add(item.file)
            yield item

    def said() -> Iterator[Statement | Finding]:
        for path in paths:
            origin = os.path.basename(path) if len(paths) > 1 else ""
            yield from _statements(path, origin, reading)

    unnamed, hint = 0, ""
    for item in statements.gather(said(), rule, rest):
        if isinstance(item, Finding) and item.kind == statements.UNNAMED:
            unnamed += item.file not in known
            if item.reason != statements.UNNAMED:  # its folder is offered
                hint = " --unannotated=folder labels those in class folders by these."
        else:
            yield item
    if unnamed:
        say(f"No usable row names {unnamed} photographs of --image_dir: they are left out.{hint}")


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What all tables are read with.

    Attributes:
      images: where the photographs are.
      say: gets a line on what was not obvious.
      chosen: heading, or number from 1, of columns by their meaning.
      refused: gets the photographs whose row can't be used.
      spellings: of the labels.
    """

    images: ImageFolder
    say: Callable[[str], None]
    chosen: Mapping[str, str]
    refused: set[str]
    spellings: class_labels.Spellings


def _parsed(chosen: Sequence[str]) -> dict[str, str]:
    columns = {}
    for entry in chosen:
        meaning, _, heading = entry.partition(":")
        if meaning not in _COLUMNS or not heading.strip():
            raise InputError(
                f"write MEANING:HEADING, MEANING being one of {', '.join(_COLUMNS)}.",
                option="csv_columns",
                value=entry,
            )
        columns[meaning] = heading.strip()
    return columns


def _statements(path: str, origin: str, reading: _Reading) -> Iterator[Statement | Finding]:
    split = splits.of_file(origin)
    unheaded = first = None
    others = missing = 0
    for line, row in _rows(path, reading.say, reading.chosen):
        place = row.get("filename") or f"{os.path.basename(path)} line {line}"
        try:
            yield from _understand(row, reading, place, split, origin)
        except ValueError as error:
            found = Finding(place, str(error))
            is_missing = found.kind == _MISSING
            if "unheaded" in row and is_missing and not os.path.splitext(row["filename"])[1]:
                unheaded, first = found, row["unheaded"]
                continue
            missing += is_missing
            yield found
        others += 1
    if unheaded and others and not missing:
        reading.say(
            f"{path}: its first row ({first}) names no photograph, and all others do. If it is a "
            "header, say what its columns are: --csv_columns=filename:HEADING,label:HEADING."
        )
        unheaded = Finding(unheaded.file, f"looks like a header: {first}")
    if unheaded:
        yield unheaded


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
    with files.opened(place, newline="", encoding="utf-8", errors="surrogateescape") as file:
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


def _rows(
    path: str,
    say: Callable[[str], None] = lambda line: None,
    chosen: Mapping[str, str] = types.MappingProxyType({}),
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields line numbers and rows by column; a row that can't be read has the column `problem`.

    The first row of a table without header has the column `unheaded`, with all its cells. File
    names need not be text; all else must be UTF-8.
    """
    try:
        with _open(path) as file:
            reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
            if _stated_delimiter(path):
                next(reader)
            header = columns = None
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if header is None:
                    header = cells
                    if _is_header(path, cells, chosen):
                        _check_text(cells)
                        continue
                if columns is None:
                    columns = _columns(path, header, cells, chosen)
                    if columns.note:
                        say(f"{path}: {columns.note}.")
                name = columns.places["filename"]
                _check_text(cell for i, cell in enumerate(cells) if i != name)
                for row in columns.rows(cells):
                    yield (
                        reader.line_num,
                        row | ({"unheaded": ", ".join(cells)} if cells is header else {}),
                    )
    except UnicodeEncodeError as error:
        raise _bad(path, f"line {reader.line_num} is not in UTF-8.", "Save it so.") from error
    except csv.Error as error:
        raise _bad(path, f"line {reader.line_num}: {error}.") from error
    if header is None:
        raise _bad(path, "it is empty.")


def _bad(path: str, problem: str, remedy: str = "") -> InputError:
    return InputError(problem, option="csv_file", value=path, remedy=remedy)


def _open(path: str) -> contextlib.AbstractContextManager[TextIO]:
    return files.opened(path, newline="", encoding="utf-8-sig", errors="surrogateescape")


def _check_text(cells: Iterable[str]) -> None:
    """Raises UnicodeEncodeError for bytes that were no UTF-8."""
    for cell in cells:
        cell.encode()


def _delimiter(path: str) -> str:
    """The separator that makes the most columns of the first line that is not blank."""
    with files.opened(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise _bad(path, "it is in UTF-16.", "Save it in UTF-8.")
    if stated := _stated_delimiter(path):
        return stated
    with _open(path) as file:
        first = next((line for line in file if line.strip()), "")
    best = max(",;\t|", key=first.count)
    if first and not first.count(best):
        raise _bad(path, _ONE_COLUMN)
    return best


def _stated_delimiter(path: str) -> str:
    """What a first line such as `sep=;` says, as Excel writes and understands it; else "".

    A tab may be written out: `sep=\\t` or `sep=tab`.
    """
    with _open(path) as file:
        line = file.readline().rstrip("\r\n")
    match = re.fullmatch(r'"?sep=(,|;|\||\t|\\t|tab)"?[,;\t]*', line, re.I)
    return "\t" if match and match[1].lower() in ("\\t", "tab") else match[1] if match else ""


def _columns_of_header(
    cells: list[str], chosen: Mapping[str, str] = types.MappingProxyType({})
) -> dict[str, int]:
    """Where each column is by the names in a header."""
    names = [_letters(cell) for cell in cells]
    columns = {
        meaning: names.index(_letters(heading))
        for meaning, heading in chosen.items()
        if _letters(heading) in names
    }
    for column, aliases in _COLUMNS.items():
        places = (names.index(alias) for alias in aliases if alias in names)
        free = (place for place in places if place not in columns.values())
        if column not in columns and (place := next(free, None)) is not None:
            columns[column] = place
    if "filename" in columns and "label" not in columns:  # dog breed, true label
        rest = [i for i in range(len(names)) if i not in columns.values()]
        like = [i for i in rest if names[i].endswith(_LABELS)]
        if len(like) == 1:  # several may hold 0 and 1 each
            columns["label"] = like[0]
    return columns


def _letters(heading: str) -> str:
    """A heading in small letters without blanks, signs and accents."""
    letters = unicodedata.normalize("NFKD", heading.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


def _is_header(path: str, cells: list[str], chosen: Mapping[str, str]) -> bool:
    """Whether the first row names the columns; raises InputError where the label's is missing."""
    columns = _columns_of_header(cells, chosen)
    if "filename" not in columns:
        return False
    if chosen.get("label", "").isdecimal():
        return True
    if "label" in columns or len(cells) - len(columns) > 1:  # which may be one of 0 and 1 a class
        return True
    raise _bad(
        path,
        f"it has the columns {', '.join(cells)}; {_NEEDED}",
        _NAME_LABEL,
    )


def _numbered(path: str, cells: list[str], chosen: Mapping[str, str]) -> dict[str, int]:
    """Where the chosen columns are that no heading names, by their numbers from 1.

    Raises:
      InputError: one is neither a heading nor the number of a column.
    """
    columns = {}
    for meaning, heading in chosen.items():
        if not heading.isdecimal() or not 0 < int(heading) <= len(cells):
            raise InputError(
                f"{path} has no such column, but {', '.join(cells)}.",
                option="csv_columns",
                value=f"{meaning}:{heading}",
            )
        columns[meaning] = int(heading) - 1
    return columns


def _columns(path: str, first: list[str], cells: list[str], chosen: Mapping[str, str]) -> _Columns:
    """How the columns are understood, by the first row and the first one of a photograph.

    Raises:
      InputError: they are not.
    """
    names = [] if first is cells else [_letters(cell) for cell in first]
    unnamed = {key: text for key, text in chosen.items() if _letters(text) not in names}
    numbered = _numbered(path, first, unnamed)
    if first is cells:
        places = numbered
        if not {"filename", "label"} <= numbered.keys():
            places = _without_header(path, cells) | numbered
        note = f"it has no header, and is read as {', '.join(sorted(places, key=places.get))}"
        rest = [cell for i, cell in enumerate(cells) if cell and i not in places.values()]
        if rest and "xmin" not in places:  # else the other corners of AutoML's boxes
            note += f"; not read: the columns of {class_labels.shortened(rest)}"
        return _Columns(places, len(cells), note=note)
    places, width = _columns_of_header(first, chosen) | numbered, len(first)
    if "split" not in places:
        rest = [i for i in range(min(width, len(cells))) if i not in places.values()]
        if told := [i for i in rest if splits.named(cells[i])]:
            places["split"] = told[0]
    if "label" in places:
        other = {name: first[i] for name, i in places.items() if _letters(first[i]) != name}
        notes = [f"the column {cell} is read as {name}" for name, cell in other.items()]
        rest = [cell for i, cell in enumerate(first) if i not in places.values()]
        if rest := [cell for cell in rest if cell and not cell.startswith("Unnamed:")]:
            notes.append(f"not read: {class_labels.shortened(rest)}")
        return _Columns(places, width, note="; ".join(notes))
    classes: dict[str, int] = {}
    for i, heading in enumerate(first):
        name = class_labels.clean(heading)
        if name in classes:
            alike = class_labels.one_class((first[classes[name]], heading), name)
            raise _bad(path, f"its columns {alike}.", "Give each class one column.")
        if name and i not in places.values():
            classes[name] = i
    if not all(i < len(cells) and _is_zero_or_one(cells[i]) for i in classes.values()):
        raise _bad(
            path,
            f"it has the columns {', '.join(first)}; {_NEEDED}",
            _NAME_LABEL,
        )
    shown = class_labels.shortened(list(classes))
    return _Columns(places, width, classes, f"each class has a column of 0 and 1: {shown}")


def _is_zero_or_one(cell: str) -> bool:
    return bool(re.fullmatch(r"[01](\.0*)?", cell))


def _without_header(path: str, cells: list[str]) -> dict[str, int]:
    """Where each column is by its position, from the first row."""
    if len(cells) < 2:
        raise _bad(path, _ONE_COLUMN)
    if len(cells) > 2 and _is_split(cells[0]) and not _is_split(cells[2]):
        # As AutoML has it; of a box it gives all four corners, of which two may be left out.
        names = {"split": 0, "filename": 1, "label": 2}
        box = {"xmin": 3, "ymin": 4, "xmax": 7, "ymax": 8}
        return names | box if len(cells) > 8 else names
    names = ["filename", "label"]
    if len(cells) in (3, 7):
        names.append("split")
        if cells[2] and not _is_split(cells[2]):
            raise _bad(
                path,
                f"its first row ({', '.join(cells)}) is neither filename, label and split nor a "
                "header that is understood.",
                "Say what its columns are: --csv_columns=filename:HEADING,label:HEADING.",
            )
    if len(cells) in (6, 7):
        names.extend(_SIDES)
    if _is_picture(cells[1]) and not _is_picture(cells[0]):
        names[:2] = ["label", "filename"]
    if len(names) != len(cells):
        raise _bad(
            path,
            f"it has {len(cells)} columns and no header that names filename and label.",
            "Add one, or say which they are: --csv_columns=filename:1,label:2.",
        )
    return {name: i for i, name in enumerate(names)}


def _is_picture(cell: str) -> bool:
    return bool(re.search(r"\.(jpe?g|png|gif|bmp|webp|tiff?|heic)$", cell, re.IGNORECASE))


def _is_split(cell: str) -> bool:
    return bool(splits.named(cell)) or cell.upper() == _UNASSIGNED


def _understand(
    row: dict[str, str], reading: _Reading, place: str, table_split: str, origin: str
) -> Iterator[Statement | Finding]:
    """Yields what a row says; raises ValueError with what is wrong."""
    if "problem" in row:
        raise ValueError(row["problem"])
    if not row["filename"]:
        raise ValueError("no filename")
    found = reading.images.find(row["filename"])
    label, remark = reading.spellings.read(row["label"])
    if not label:
        if found:
            reading.refused.add(found.path)
        raise ValueError("no label: the cell is empty")
    split = splits.named(row.get("split", ""))
    if row.get("split", "").upper() not in ("", _UNASSIGNED) and not split:
        if found:
            reading.refused.add(found.path)
        raise ValueError(f"unknown split: {row['split']}; train, validation or test")
    if not found:
        raise ValueError(f"{_MISSING}: {row['filename']}")
    if remark:
        yield Finding(place, remark, Effect.CORRECTED)
    if found.remark:
        yield Finding(place, found.remark, Effect.CORRECTED)
    sides, box = {side: row.get(side, "") for side in _SIDES}, None
    try:
        box = objects.parse_box(**sides) if any(sides.values()) else None
    except ValueError as error:
        yield Finding(place, str(error), Effect.CORRECTED)
    size = (row.get("width", ""), row.get("height", ""))
    size = tuple(map(int, size)) if all(side.isdecimal() and int(side) for side in size) else None
    yield Statement(found.path, (LabeledObject(label, box),), split or table_split, size, origin)
