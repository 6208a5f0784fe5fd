"""Sound files made unsound: bits flipped, pieces cut and doubled, numbers replaced, marks mended.

The marks are the checksums and lengths that a reader looks at first: where they stay wrong, what
stands behind them is never read.
"""

import random
import re
import struct
import zlib
from collections.abc import Sequence

from datasets import schema

MOST_BYTES = 1 << 16
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
# What people, tools and attackers write where a number belongs.
NUMBERS = (
    *("0", "-1", "1", "255", "256", "65535", "65536", "2147483647", "2147483648", "4294967296"),
    *("-2147483649", "9223372036854775807", "9223372036854775808", "1e308", "1e999", "-1e999"),
    *("nan", "NaN", "Infinity", "-inf", "1e-320", "0x10", "1_000", "٣", "²", "１", "", " ", "1.5"),
    *("9" * 400, "9" * 5000, "-" + "9" * 400, "1" + "0" * 300 + ".5", "true", "null", "[]"),
)
_INTEGERS = (
    *(0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 16),
)


def mutated(
    data: bytes, others: Sequence[bytes], words: Sequence[bytes], chance: random.Random
) -> bytes:
    """A file with one to four changes.

    Args:
      data: a sound file.
      others: further ones, of which pieces are taken.
      words: what means something to the reader, to be put in anywhere.
      chance: decides.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        change = chance.choice(_CHANGES)
        data = change(data, others, words, chance)[:MOST_BYTES]
    return data


def _place(data: bytes, chance: random.Random) -> tuple[int, int]:
    """Start and end of a piece; headers stand at the beginning, so it is often there."""
    start = chance.randrange(min(len(data), chance.choice((32, 512, MOST_BYTES))) + 1)
    return start, min(len(data), start + chance.choice((1, 2, 4, 8, 16, 64, 1024)))


def _flipped(data, others, words, chance):
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8)) if data else 0):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def _cut_out(data, others, words, chance):
    start, end = _place(data, chance)
    return data[:start] + data[end:]


def _cut_off(data, others, words, chance):
    return data[: chance.randrange(len(data) + 1)]


def _doubled(data, others, words, chance):
    start, end = _place(data, chance)
    return data[:end] + data[start:end] * chance.choice((1, 1, 3, 100)) + data[end:]


def _spliced(data, others, words, chance):
    other = chance.choice(others)
    start, end = _place(other, chance)
    place, after = _place(data, chance)
    return data[:place] + other[start:end] + data[after:]


def _integer(data, others, words, chance):
    """A number of 1 to 8 bytes in either order, at a place where one might stand."""
    start, _ = _place(data, chance)
    size = chance.choice((1, 2, 4, 8))
    value = (chance.choice(_INTEGERS) + chance.choice((0, 0, 1, -1))) % (1 << 8 * size)
    return (
        data[:start] + value.to_bytes(size, chance.choice(("little", "big"))) + data[start + size :]
    )


def _number(data, others, words, chance):
    """A number in digits."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return _integer(data, others, words, chance)
    place = chance.choice(found)
    return data[: place.start()] + chance.choice(NUMBERS).encode() + data[place.end() :]


def _word(data, others, words, chance):
    start, end = _place(data, chance)
    word = chance.choice(words) if words else chance.choice(NUMBERS).encode()
    return data[:start] + word + data[chance.choice((start, end)) :]


def _filled(data, others, words, chance):
    start, end = _place(data, chance)
    return data[:start] + bytes([chance.choice((0, 0xFF, 0x20, 0x80))]) * (end - start) + data[end:]


_CHANGES = (
    *(_flipped, _cut_out, _cut_off, _doubled, _spliced, _integer, _integer),
    *(_number, _number, _word, _word, _filled),
)


def png_mended(data: bytes) -> bytes:
    """A PNG with the right checksum behind each chunk that is whole."""
    found, position = [data[:8]], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        chunk = data[position + 4 : position + 8 + length]
        if len(chunk) < length + 4:
            break
        found += [data[position : position + 4], chunk, struct.pack(">I", zlib.crc32(chunk))]
        position += 12 + length
    return b"".join(found) + data[position:]


def records_mended(data: bytes) -> bytes:
    """A TFRecord file with the right checksums, of lengths that lead outside too."""
    found, position = [], 0
    while position + 12 <= len(data):
        header = data[position : position + 8]
        (length,) = struct.unpack("<Q", header)
        record = data[position + 12 : position + 12 + length]
        found += [header, schema.masked_crc(header), record]
        if len(record) < length:
            return b"".join(found)
        found.append(schema.masked_crc(record))
        position += 16 + length
    return b"".join(found) + data[position:]
