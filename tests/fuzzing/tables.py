"""The sorted tables that checkpoints of both versions are, taken apart and put together.

LevelDB's format without compression (tensorflow/core/lib/io/table_format.txt): blocks of keys and
values, an index block of the others' places, and a footer. Each block ends in its kind and its
checksum, masked as that of TFRecords.
"""

import struct
from collections.abc import Iterable, Iterator

from datasets import schema

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
_RAW = b"\0"  # the kind of a block that is not compressed


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number, and where what follows begins; IndexError at the end of the data."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


def _handles(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and size of each block that the footer and the index name, the index first."""
    footer = data[-_FOOTER:]
    start, position = _read_varint(footer, 0)
    size, position = _read_varint(footer, position)
    yield start, size
    start, position = _read_varint(footer, position)
    size, _ = _read_varint(footer, position)
    yield start, size
    for _, handle in _entries_of_block(data[start : start + size]):
        start, position = _read_varint(handle, 0)
        yield start, _read_varint(handle, position)[0]


def _entries_of_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    (restarts,) = struct.unpack("<I", block[-4:])
    end, position, key = len(block) - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _read_varint(block, position)
        own, position = _read_varint(block, position)
        length, position = _read_varint(block, position)
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def entries(data: bytes) -> list[tuple[bytes, bytes]]:
    """The keys and values of a sound table."""
    _, _, *blocks = _handles(data)
    return [
        entry for start, size in blocks for entry in _entries_of_block(data[start : start + size])
    ]


def mended(data: bytes) -> bytes:
    """A table with the right checksum behind each block that can be found."""
    found = bytearray(data)
    try:
        for start, size in list(_handles(data)):
            if start + size + 5 <= len(data):
                checksum = schema.masked_crc(data[start : start + size + 1])
                found[start + size + 1 : start + size + 5] = checksum
    except (IndexError, struct.error):
        pass
    return bytes(found)


def table(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of these keys and values, in this order."""
    pairs = list(pairs)
    body, handles = b"", []
    for part in (pairs, []):
        block = _block(part)
        handles.append(_varint(len(body)) + _varint(len(block)))
        body += block + _RAW + schema.masked_crc(block + _RAW)
    index = _block([(pairs[-1][0] if pairs else b"", handles[0])])
    handles.append(_varint(len(body)) + _varint(len(index)))
    body += index + _RAW + schema.masked_crc(index + _RAW)
    return body + b"".join(handles[1:]).ljust(_FOOTER - 8, b"\0") + _MAGIC


def _block(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    parts = [
        _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value for key, value in pairs
    ]
    return b"".join(parts) + struct.pack("<II", 0, 1)
