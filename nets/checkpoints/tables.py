"""The sorted tables that checkpoints of both versions are, and the messages in them.

TensorFlow's own reader ends the process at some damaged tables. The formats are LevelDB's table
without compression (tensorflow/core/lib/io/table_format.txt), Protocol Buffers' wire format, and
OrderedCode for keys (tensorflow/core/lib/strings/ordered_code.cc).
"""

import bisect
import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import google_crc32c

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_UNCOMPRESSED = 0
_LONGEST_KEY = 1 << 14
_CUT = "it is cut short"


class Damaged(ValueError):
    """A file that can't be read; the text says why."""


def checksum(data: bytes | memoryview) -> int:
    """The masked CRC-32C of tables (tensorflow/core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(bytes(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Table:
    """An open table; blocks are read when asked for."""

    def __init__(self, file: BinaryIO):
        """Reads the index; raises Damaged."""
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        if self._size < _FOOTER_BYTES:
            raise Damaged(_CUT)
        footer = self._bytes(self._size - _FOOTER_BYTES, _FOOTER_BYTES)
        if footer[-8:] != _MAGIC:
            raise Damaged("it does not end as a table does")
        _, position = _handle(footer, 0)
        place, _ = _handle(footer, position)
        blocks = [(key, _handle(value, 0)[0]) for key, value in self._entries(*place)]
        self._last_keys, self._places = [key for key, _ in blocks], [place for _, place in blocks]
        _check_order(self._last_keys)

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key; None where it is not there; raises Damaged."""
        block = bisect.bisect_left(self._last_keys, key)
        if block == len(self._places):
            return None
        return next((v for one, v in self._entries(*self._places[block]) if one == key), None)

    def items(self) -> list[tuple[bytes, memoryview]]:
        """All keys, in their order, and values; raises Damaged."""
        if sum(size for _, size in self._places) > self._size:
            raise Damaged("its blocks overlap")
        found = [entry for place in self._places for entry in self._entries(*place)]
        _check_order([key for key, _ in found])
        return found

    def _bytes(self, start: int, size: int) -> memoryview:
        if start + size > self._size:
            raise Damaged(_CUT)
        self._file.seek(start)
        found = self._file.read(size)
        if len(found) < size:
            raise Damaged(_CUT)
        return memoryview(found)

    def _entries(self, start: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
        """The keys and values of a block."""
        data = self._bytes(start, size + _TRAILER_BYTES)
        if data[size] != _UNCOMPRESSED:
            raise Damaged("it is compressed, or its bits have changed")
        if checksum(data[: size + 1]) != struct.unpack("<I", data[size + 1 :])[0]:
            raise Damaged("its checksum is wrong")
        block, key, position = data[:size], b"", 0
        if size < 4:
            raise Damaged(_CUT)
        end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # restart points, of no use here
        while position < end:
            shared, position = varint(block, position)
            own, position = varint(block, position)
            length, position = varint(block, position)
            value = position + own
            if shared > len(key) or shared + own > _LONGEST_KEY or value + length > end:
                raise Damaged("an entry leads outside")
            key = key[:shared] + bytes(block[position:value])
            position = value + length
            yield key, block[value:position]


def _check_order(keys: Sequence[bytes]) -> None:
    if any(key >= following for key, following in itertools.pairwise(keys)):
        raise Damaged("its keys are not in order")


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    """Start and size of a block, and where what follows begins."""
    start, position = varint(data, position)
    size, position = varint(data, position)
    return (start, size), position


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of 64 bits without a sign, and where what follows begins; raises Damaged."""
    value = 0
    for shift, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value & (1 << 64) - 1, position + shift + 1
    raise Damaged(_CUT)


def signed(value: int) -> int:
    """A number of 64 bits with its sign."""
    return value - (1 << 64) if value >> 63 else value


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: a number, or the bytes of any other value.

    Raises:
      Damaged: it is none.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind, size = tag & 7, {1: 8, 5: 4}.get(tag & 7, 0)
        if kind == 0:
            value, position = varint(message, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, position = varint(message, position)
        elif not size:
            raise Damaged(f"a field of kind {kind}")
        if position + size > len(message):
            raise Damaged(_CUT)
        yield tag >> 3, message[position : position + size]
        position += size


def text(value: int | memoryview) -> str:
    """A field's text; raises Damaged."""
    try:
        return str(value, "utf-8")
    except (TypeError, UnicodeDecodeError) as error:
        raise Damaged("a name that is no text") from error


def slice_key(name: str, extents: Sequence[tuple[int, int]]) -> bytes:
    """The key of a piece of a tensor: start and length, or -1 for all, in each dimension."""
    parts = [_ordered(0), _escaped(name.encode()), _ordered(len(extents))]
    return b"".join([*parts, *(_ordered_signed(n) for extent in extents for n in extent)])


def _escaped(data: bytes) -> bytes:
    escapes = {0: b"\0\xff", 255: b"\xff\0"}
    return b"".join(escapes.get(byte, bytes([byte])) for byte in data) + b"\0\x01"


def _ordered(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _ordered_signed(number: int) -> bytes:
    """The more bytes, the more bits are set at the beginning; seven bits a byte are left."""
    bits = (~number if number < 0 else number).bit_length()
    size = bits // 7 + 1  # one of the bits is the sign
    found = bytearray(number.to_bytes(10, "big", signed=True)[10 - size :])
    head = ((0xFFFF << 16 - size) & 0xFFFF).to_bytes(2, "big")
    found[0] ^= head[0]
    if size > 1:
        found[1] ^= head[1]
    return bytes(found)
