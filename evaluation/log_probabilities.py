"""What a net says of every example and every class, on disk: too much for memory."""

import tempfile
import weakref
from collections.abc import Iterator

import numpy as np

# Values that stay in memory until they are written as one block: 8 MiB.
_BLOCK_VALUES = 2**21
_ITEM = np.dtype(np.float32)


class LogProbabilities:
    """Logarithms of the probabilities, float32 [N, C], in a temporary file without a name.

    The file is a row of blocks of examples, and each block holds one class after the other. So a
    class of all examples is read in a few long stretches, as the scores of a class need it.
    """

    def __init__(self, folder: str, num_classes: int):
        """Opens the file in `folder`, which must have 4 x N x C bytes left.

        Raises:
          OSError: it can't be made.
        """
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)
        weakref.finalize(self, self._file.close)
        self.num_classes = num_classes
        self._block_rows = max(1, _BLOCK_VALUES // num_classes)
        self._waiting: list[np.ndarray] = []
        self._lengths: list[int] = []  # examples of each written block

    def __len__(self) -> int:
        """The number of examples."""
        return sum(self._lengths) + sum(map(len, self._waiting))

    def append(self, rows: np.ndarray) -> None:
        """Adds examples, [B, C]; raises OSError where the disk is full."""
        self._waiting.append(rows.astype(_ITEM))
        if sum(map(len, self._waiting)) >= self._block_rows:
            self._flush()

    def blocks(self) -> Iterator[np.ndarray]:
        """All examples in order, float32 [B, C] at a time."""
        self._flush()
        start = 0
        for length in self._lengths:
            yield self._read(start, length * self.num_classes).reshape(-1, length).T
            start += length

    def of_class(self, number: int) -> np.ndarray:
        """float32 [N], what is said of one class."""
        self._flush()
        parts, start = [], 0
        for length in self._lengths:
            parts.append(self._read(start, length, skip=number * length))
            start += length
        return np.concatenate(parts) if parts else np.zeros(0, _ITEM)

    def _flush(self) -> None:
        if not self._waiting:
            return
        block = np.concatenate(self._waiting)
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(block.T).data)
            self._file.flush()
        except OSError as error:
            error.filename = self._folder  # the error of a full disk names no file
            raise
        self._lengths.append(len(block))
        self._waiting = []

    def _read(self, start: int, count: int, skip: int = 0) -> np.ndarray:
        """`count` values, from `skip` on, of the block whose first example is number `start`."""
        self._file.seek((start * self.num_classes + skip) * _ITEM.itemsize)
        return np.frombuffer(self._file.read(count * _ITEM.itemsize), _ITEM)
