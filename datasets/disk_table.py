"""Values under keys, kept on the disk, so that memory does not grow with their number."""

import contextlib
import pickle
import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

_Value = TypeVar("_Value")
_FETCHED_AT_ONCE = 256


class DiskTable:
    """Values under keys, one or several under each; for one process.

    They lie in a temporary file without a name, which the system removes with the table. Small
    tables never reach the disk.

    Every method raises OSError where the place of temporary files, `TMPDIR`, is full.
    """

    def __init__(self):
        # An empty name stands for such a file.
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        self._has_index = False
        # Nothing is ever rolled back, so SQLite needs no journal.
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute(
            "CREATE TABLE entries (number INTEGER PRIMARY KEY, key BLOB, value BLOB)"
        )
        self._rows.execute("BEGIN")  # one transaction for everything, never committed

    def __len__(self) -> int:
        return self._rows.execute("SELECT count(*) FROM entries").fetchone()[0]

    def add(self, key: bytes, value: object) -> None:
        """Adds a value that can be pickled; not while others are being yielded."""
        with _space():
            self._rows.execute(
                "INSERT INTO entries (key, value) VALUES (?, ?)",
                (key, pickle.dumps(value, pickle.HIGHEST_PROTOCOL)),
            )

    def __contains__(self, key: bytes) -> bool:
        if not self._has_index:
            self._make_index()
        query = "SELECT EXISTS (SELECT 1 FROM entries WHERE key = ?)"
        return bool(self._rows.execute(query, (key,)).fetchone()[0])

    def get(self, key: bytes) -> list:
        """The values under a key, in the order in which they were added."""
        if not self._has_index:
            self._make_index()
        return list(self._values("SELECT value FROM entries WHERE key = ? ORDER BY number", (key,)))

    def by_key(self) -> Iterator:
        """Yields all values by the order of their keys; under one key, as they were added."""
        return self._values("SELECT value FROM entries ORDER BY key, number")

    def by_group(self) -> Iterator[list]:
        """Yields the values of each key together, in the order in which the keys first appeared."""
        self._make_index()
        keys = self._fetch("SELECT key FROM entries GROUP BY key ORDER BY min(number)")
        return (self.get(key) for key in keys)

    def _make_index(self) -> None:
        with _space():
            self._rows.execute("CREATE INDEX IF NOT EXISTS by_key ON entries (key)")
        self._has_index = True

    def _values(self, query: str, parameters: tuple = ()) -> Iterator:
        return map(pickle.loads, self._fetch(query, parameters))

    def _fetch(self, query: str, parameters: tuple = ()) -> Iterator:
        with _space():
            cursor = self._rows.execute(query, parameters)
            while rows := cursor.fetchmany(_FETCHED_AT_ONCE):
                for (value,) in rows:
                    yield value


class SortedOnDisk(Collection, Generic[_Value]):
    """Values in the order of some text of theirs, kept as a DiskTable keeps them."""

    def __init__(self, text: Callable[[_Value], Sequence[str]], distinct: bool = False):
        """Nothing is in it yet.

        Args:
          text: of a value, what it is sorted by; equal ones stay as they were added.
          distinct: of values with the same text, the first is kept alone.
        """
        self._text, self._distinct = text, distinct
        self._table = DiskTable()

    def add(self, value: _Value) -> None:
        """Not while the values are being yielded."""
        key = self._key(value)
        if not self._distinct or key not in self._table:
            self._table.add(key, value)

    def update(self, values: Iterable[_Value]) -> None:
        for value in values:
            self.add(value)

    def __iter__(self) -> Iterator[_Value]:
        return self._table.by_key()

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, value: object) -> bool:
        return value in self._table.get(self._key(value))

    def _key(self, value: _Value) -> bytes:
        # Bytes in UTF-8 sort as the characters do; a file's name may hold some that are no text.
        return "\0".join(self._text(value)).encode(errors="surrogatepass")


@contextlib.contextmanager
def _space():
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(
            f"The list of photographs cannot be kept in the temporary folder: {error}. Name one "
            "with more room in the environment variable TMPDIR."
        ) from error
