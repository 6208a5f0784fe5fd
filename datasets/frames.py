"""The frames of TFRecord files: the length of a record, the record, and the checksums of both."""

import gzip
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence

from datasets import schema, storage

_HEADER_BYTES = 12  # length of the record, checksum of the length
_FOOTER_BYTES = 4  # checksum of the record
# Of so many records one has its place written down, where the files are counted or written.
MARKED = 1024
# Of a compressed file the end is not known, and a length is no reason to ask for so much memory.
_LONGEST_COMPRESSED = 1 << 29


class BrokenFrame(Exception):
    """A record has no end, so those after it cannot be found."""


def frames(
    path: str, compression: str, contents: bool = True, begin: int = 0
) -> Iterator[tuple[bytes, ...]]:
    """Walks through the records of a TFRecord file, of an uncompressed one from a byte on.

    Yields:
      Header (length and its checksum), record, and footer (its checksum) as they are in the file;
      without `contents` the record is empty. Its checksum is not checked.

    Raises:
      BrokenFrame: the file ends within a record, or a length is wrong.
    """
    size, _ = storage.size_and_mtime(path)
    start = end = begin

    def broken(reason: str) -> BrokenFrame:
        lost = "" if compression else f" ({size - start} bytes)"
        return BrokenFrame(f"{reason}; what stands from there on{lost} is lost")

    with storage.open_file(path) as raw:
        file = gzip.open(raw) if compression else raw
        if begin:
            file.seek(begin)
        try:
            while header := file.read(_HEADER_BYTES):
                start = end
                if len(header) < _HEADER_BYTES:
                    raise broken("the file is cut off")
                if schema.masked_crc(header[:8]) != header[8:]:
                    if not end:
                        raise BrokenFrame("this is not a TFRecord file")
                    raise broken("its length is corrupt")
                length = struct.unpack("<Q", header[:8])[0]
                end += _HEADER_BYTES + length + _FOOTER_BYTES
                if not compression and end > size:
                    raise broken("the file is cut off")
                if compression and length > _LONGEST_COMPRESSED:
                    raise broken(f"a compressed record of {length} bytes")
                record = file.read(length) if contents else b""
                if not contents:
                    file.seek(end - _FOOTER_BYTES)
                footer = file.read(_FOOTER_BYTES)
                if len(footer) < _FOOTER_BYTES:
                    raise broken("the file is cut off")
                yield header, record, footer
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise broken(f"the compressed file is cut off or corrupt ({error})") from error


def offset_of(path: str, record: int, marks: Sequence[int] = ()) -> int:
    """The byte at which a record of an uncompressed file begins, by the headers before it.

    With `marks`, the bytes at which every `MARKED`-th record begins, only by the last few of them.

    Raises:
      BrokenFrame: as `frames`, or the file has fewer records.
    """
    passed = min(record // MARKED, len(marks))
    offset = marks[passed - 1] if passed else 0
    found = passed * MARKED
    walked = frames(path, "", contents=False, begin=offset)
    for header, _, _ in itertools.islice(walked, record - found):
        offset += length_of(header)
        found += 1
    if found < record:
        raise BrokenFrame(f"it has {found} records where more were counted")
    return offset


def length_of(header: bytes) -> int:
    """The bytes of a record, its header and its footer included."""
    return _HEADER_BYTES + struct.unpack("<Q", header[:8])[0] + _FOOTER_BYTES


def compression_of(path: str) -> str:
    """How a TFRecord file is compressed, by its first bytes: "GZIP" or ""."""
    with storage.open_file(path) as file:
        return "GZIP" if schema.is_gzip(file.read(12)) else ""
