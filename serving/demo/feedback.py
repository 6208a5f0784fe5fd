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
_SUFFIXES = {"JPEG": "jpg", "JPEG 2000": "jp2", "PNM": "ppm"}


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
          ValueError: the label is empty or too long.
          OSError: it can't be written.
        """
        label = labels.clean(label)
        if not label or len(label) > _LONGEST_LABEL:
            raise ValueError(f"a label has 1 to {_LONGEST_LABEL} characters")
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
        with open(self._table, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in list(csv.reader(file))[1:] if any(row)]
        if any(len(row) < len(_HEADING) for row in rows):
            raise InputError(
                f"{self._table}: its rows are not of {' and '.join(_HEADING)}, between commas.",
                option="feedback_dir",
                remedy="Mend the file, or name another folder.",
            )
        return [(name, label) for name, label, *_ in rows]
