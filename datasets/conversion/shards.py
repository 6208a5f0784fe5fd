"""Puts records into the TFRecord files of each split."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from datasets import frames
from datasets.conversion.destination import Destination

SHARD_BYTES = 128 << 20


class Shard(NamedTuple):
    """A file that is written, as dataset.json describes it.

    The fingerprint is a SHA-256 over the frame of each record, its length and checksums. It changes
    when a byte of a record does, and can be checked without reading the images. The marks are the
    bytes at which every `frames.MARKED`-th record begins.
    """

    file: str
    num_examples: int
    bytes: int
    fingerprint: str
    marks: tuple[int, ...] = ()


def is_full(size: int, more: int) -> bool:
    """Whether a record of `more` bytes begins another shard where their number is not given."""
    return size > 0 and size + more > SHARD_BYTES


class ShardWriter:
    """Writes the shards of all splits side by side, in the block of `Destination.writing`."""

    def __init__(self, destination: Destination, num_shards: int):
        """With `num_shards` 0, each shard takes about 128 MiB."""
        self._destination = destination
        self._num_shards = 1 if destination.is_file else num_shards
        self._open: dict[str, list[OpenShard]] = {}
        self._counts: dict[str, int] = {}

    def add(self, split: str, framed: bytes) -> None:
        """Appends a record with its length and checksums to one of the split's shards."""
        shards = self._open.setdefault(split, [])
        count = self._counts[split] = self._counts.get(split, 0) + 1
        if self._num_shards:
            if not shards:
                _allow_open_files(len(self._open) * self._num_shards)
                shards.extend(self._new(split, i) for i in range(self._num_shards))
            shards[(count - 1) % self._num_shards].add(framed)
            return
        if not shards or is_full(shards[-1].size, len(framed)):
            if shards:
                shards[-1].close()
            shards.append(self._new(split, len(shards)))
        shards[-1].add(framed)

    def name_shards(self) -> dict[str, list[Shard]]:
        """Closes the shards and gives them their names, which say how many there are."""
        named = {}
        for split, shards in sorted(self._open.items()):
            named[split] = []
            for i, shard in enumerate(shards):
                shard.close()
                name = self._destination.shard(split, i, len(shards))
                os.rename(shard.path, self._destination.path(name))
                named[split].append(shard.described(name))
        return named

    def close(self) -> None:
        """Closes what `name_shards` did not."""
        for shards in self._open.values():
            for shard in shards:
                with contextlib.suppress(OSError):  # closing writes what is buffered
                    shard.close()

    def _new(self, split: str, i: int) -> "OpenShard":
        path = self._destination.path(f"{split}-{i:05d}")
        return OpenShard(path, open(path, "wb"))


class OpenShard:
    """A shard that is being written to a file, which `path` names for messages."""

    def __init__(self, path: str, file: BinaryIO):
        self.path = path
        self.file = file
        self.digest = hashlib.sha256()
        self.count = 0
        self.size = 0
        self.marks: list[int] = []

    def add(self, framed: bytes) -> None:
        if self.count and self.count % frames.MARKED == 0:
            self.marks.append(self.size)
        with self._named_errors():
            self.file.write(framed)
        self.digest.update(framed[:12] + framed[-4:])
        self.count += 1
        self.size += len(framed)

    def described(self, name: str) -> Shard:
        """What was written so far, under the name that the file gets."""
        digest, marks = self.digest.hexdigest(), tuple(self.marks)
        return Shard(name, self.count, self.size, digest, marks)

    def close(self) -> None:
        with self._named_errors():
            self.file.close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}.") from error


def _allow_open_files(count: int) -> None:
    """Raises the process's own limit, commonly 1,024, towards what the system allows."""
    if os.name == "posix":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count + 256
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
