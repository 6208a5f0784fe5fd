"""Reads lists of texts out of MATLAB's files, versions 5 to 7.

SciPy's reader ends the process at some damaged files; of all that it knows these lists need little.
The format is MathWorks' "MAT-File Format", chapter 1.
"""

import math
import struct
import zlib
from collections.abc import Iterator

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_CELL, _CHAR = 1, 4  # kinds of matrices
# The kinds of elements that hold characters; in files of MATLAB's, UTF-16 of one unit each.
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
# Of a compressed list of a million names.
_MOST_BYTES = 1 << 28
_MOST_DEPTH = 4


class NotMatlab(ValueError):
    """A file that is not of this kind, or damaged; the text says how."""


def texts(data: bytes, variable: str) -> list[str] | None:
    """The texts in a cell array of a file; None where it has no such variable.

    Args:
      data: the file.
      variable: name of the array; cells in its cells are followed.

    Raises:
      NotMatlab: it can't be read.
    """
    mark = data[_HEADER_BYTES - 2 : _HEADER_BYTES]
    if mark not in (b"IM", b"MI"):
        raise NotMatlab("its header is not of MATLAB 5 to 7")
    order = "<" if mark == b"IM" else ">"
    try:
        for kind, content in _elements(data[_HEADER_BYTES:], order):
            if kind == _COMPRESSED:
                ((kind, content),) = _elements(_inflated(content), order)
            if kind == _MATRIX:
                matrix = _Matrix(content, order)
                if matrix.name == variable:
                    return list(matrix.texts(_MOST_DEPTH))
    except (struct.error, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise NotMatlab(str(error)) from error
    return None


def _inflated(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    found = stream.decompress(content, _MOST_BYTES)
    if stream.unconsumed_tail:
        raise NotMatlab(f"a variable of more than {_MOST_BYTES >> 20} MiB")
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each element; those of up to four bytes may have a short head."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        start = position + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            following = position + 8
        else:
            # What is compressed is not filled up to a multiple of eight.
            following = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data) or (start == position + 4 and size > 4):
            raise NotMatlab("it is cut off")
        yield kind, data[start : start + size]
        position = following


class _Matrix:
    """An array: its name, and what follows the name in the file."""

    def __init__(self, content: bytes, order: str):
        flags, sizes, name, *self._parts = _elements(content, order)
        self._order, self._kind = order, struct.unpack_from(f"{order}I", flags[1])[0] & 0xFF
        self.sizes = struct.unpack(f"{order}{len(sizes[1]) // 4}i", sizes[1])
        self.name = name[1].decode("latin-1")

    def texts(self, depth: int) -> Iterator[str]:
        """Of a text itself, of cells those in them, in the order of the file."""
        if self._kind == _CELL and depth:
            for kind, content in self._parts:
                if kind == _MATRIX and content:
                    yield from _Matrix(content, self._order).texts(depth - 1)
        elif self._kind == _CHAR:
            yield from self._rows()

    def _rows(self) -> Iterator[str]:
        """The rows of an array of characters, which lies in the file column by column."""
        if not self._parts:
            return
        kind, content = self._parts[0]
        if kind not in _TEXTS:
            raise NotMatlab(f"characters of kind {kind}")
        ending = {"utf-16": "-le" if self._order == "<" else "-be"}.get(_TEXTS[kind], "")
        text = content.decode(_TEXTS[kind] + ending)
        height = self.sizes[0] if self.sizes else 0
        if height < 1 or math.prod(self.sizes) != len(text):
            return
        for row in range(height):
            yield text[row::height].rstrip()
