"""What people say of pictures: the pictures in a folder, their labels in a CSV beside it."""

import csv
import hashlib
import os
import threading
from collections.abc import Sequence

from foundation import files, labels, picture_formats
from foundation.errors import InputError

IMAGES, TABLE = "images", "labels.csv"
_HEADING = ("filename", "label")
_LONGEST_LABEL = 100
_HEADING_ROW = ",".join(_HEADING)
_SUFFIXES = {"JPEG": "jpg", "JPEG 2000": "jp2", "PNM": "ppm"}


class LabelError(ValueError):
    """A label that can't be kept: it is empty or too long."""


class Feedback:
    """A folder with images/ and labels.csv, as `convert_data.py --image_dir --csv_file` reads them.

    Several threads may add to it.
    """

    def __init__(self, folder: str):
        """
        Raises:
          InputError: labels.csv is no table of pictures and labels.
          OSError: the folder can't be made or read.
        """
        self._images, self._table = os.path.join(folder, IMAGES), os.path.join(folder, TABLE)
        self._lock = threading.Lock()
        os.makedirs(self._images, exist_ok=True)
        self._rows()

    def add(self, data: bytes, label: str) -> int:
        """Keeps a picture's file and its label; the same picture again gets its new label.

        Returns:
          how many pictures have been kept.

        Raises:
          LabelError: the label is empty or too long.
          InputError: labels.csv is no table of pictures and labels any more.
          OSError: it can't be written.
        """
        label = labels.clean(label)
        if not label or len(label) > _LONGEST_LABEL:
            raise LabelError(f"a label has 1 to {_LONGEST_LABEL} characters")
        kind = picture_formats.name(data)
        suffix = _SUFFIXES.get(kind, kind.lower() or "img")
        name = f"{hashlib.sha256(data).hexdigest()[:32]}.{suffix}"
        with self._lock:
            path = os.path.join(self._images, name)
            if not os.path.exists(path):
                with files.whole(path, "wb") as file:
                    file.write(data)
            rows = {**dict(self._rows()), name: label}
            with files.whole(self._table, newline="") as file:
                csv.writer(file).writerows([_HEADING, *rows.items()])
            return len(rows)

    def _rows(self) -> Sequence[tuple[str, str]]:
        if not os.path.exists(self._table):
            return ()
        # People edit it: spreadsheets begin it with a mark, and leave empty lines.
        try:
            with open(self._table, newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file) if any(row)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise self._unusable(f"can't be read ({error})", "Save it as CSV in UTF-8") from error
        if not rows:
            return ()
        if tuple(rows[0][: len(_HEADING)]) != _HEADING:
            raise self._unusable(f"its first row is not {_HEADING_ROW}", "Put that row above it")
        if any(len(row) < len(_HEADING) for row in rows):
            raise self._unusable(f"its rows are not of {_HEADING_ROW}", "Mend the file")
        return [(name, label) for name, label, *_ in rows[1:]]

    def _unusable(self, problem: str, remedy: str) -> InputError:
        return InputError(
            f"{self._table}: {problem}.",
            option="feedback_dir",
            remedy=f"{remedy}, or name another folder.",
        )
