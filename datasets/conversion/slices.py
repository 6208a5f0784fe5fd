"""The parts of a conversion that the workers of a cluster do, each by itself.

The list of photographs is cut into slices. A worker makes the records of a slice and keeps them in
a file for each split, in the list's order. Once the sizes of all records are known, it is known
which of them are in which shard, and each shard is put together by one worker. What is written has
a name of its own and the same bytes whenever it is written, so that any part may be done twice.
"""

import bisect
import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from datasets import splits
from datasets.buckets import join, open_file, whole
from datasets.conversion import tally, workers
from datasets.conversion.depth import Depth, Used
from datasets.conversion.destination import Destination
from datasets.conversion.records import RecordMaker, used_bits
from datasets.conversion.shards import OpenShard, Shard, is_full
from datasets.conversion.tally import Counts, Duplicate, Example
from datasets.findings import Finding, stopped_by
from datasets.options import ConversionOptions
from datasets.schema import Box, LabeledImage
from datasets.sources.bucket_folder import folder_at
from foundation.errors import InputError

# Photographs of a slice; between these, a thousandth of all.
_SMALLEST, _LARGEST = 8, 1000


# The sizes of the records of some slices: number of the slice, and sizes by split.
Sizes = Sequence[tuple[int, Mapping[str, Sequence[int]]]]


class BitsWanted(Exception):
    """A photograph can't be stored before it is known how many bits the others of the set use."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What each worker is told.

    Attributes:
      folder: where the list is, and where the workers leave what they make.
      image_dir: where the photographs are.
      options: what is stored of them.
      classes: class names in the order of their numbers.
      choice: which split each photograph goes to; None: all go into one file.
      keeps_records: whether records are written.
    """

    folder: str
    image_dir: str
    options: ConversionOptions
    classes: tuple[str, ...] = ()
    choice: splits.Choice | None = None
    keeps_records: bool = True


@dataclasses.dataclass
class Slice:
    """What came of a slice.

    Attributes:
      number: of the slice.
      sizes: of each record with its frame, in bytes, by split.
      counts: numbers of what is in it.
      findings: what there is to report.
      examples: SHA-256 of the photograph, place in the list, example.
    """

    number: int
    sizes: dict[str, list[int]]
    counts: Counts
    findings: list[Finding]
    examples: list[tuple[bytes, int, Example]]


def write_list(folder: str, photographs: Iterable[LabeledImage], total: int) -> int:
    """Writes the list of so many photographs; returns the number of its slices.

    The examples of one photograph follow each other and are in one slice.
    """
    size = max(_SMALLEST, min(_LARGEST, total // 1000))
    place = number = 0
    lines = []
    for _, examples in itertools.groupby(photographs, key=lambda image: image.path):
        for image in examples:
            boxes = [list(box) for box in image.boxes]
            entry = [place, image.path, image.label, boxes, image.split, image.size]
            lines.append(json.dumps(entry) + "\n")
            place += 1
        if len(lines) >= size:
            _write_lines(_list(folder, number), lines)
            number, lines = number + 1, []
    if lines:
        _write_lines(_list(folder, number), lines)
        number += 1
    return number


def read_list(folder: str, number: int) -> Iterator[tuple[int, LabeledImage]]:
    """Yields the photographs of a slice, each with its place in the whole list.

    Raises:
      InputError: the list is not there.
    """
    try:
        file = open_file(_list(folder, number))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is not shared.",
            remedy="Choose a bucket or a folder that all workers share with the machine that "
            "starts them as --output_dir.",
        ) from error
    with file:
        for line in file:
            place, path, label, boxes, split, size = json.loads(line)
            boxes = tuple(Box(*box) for box in boxes)
            yield place, LabeledImage(path, label, boxes, split, tuple(size) if size else None)


def convert(work: Work, number: int, bits: int | None = None) -> Slice:
    """Makes the records of a slice.

    Args:
      work: what all workers are told.
      number: of the slice.
      bits: how many the 16-bit photographs of the set use; None where that is not known.

    Raises:
      BitsWanted: it matters, and is not known.
      InputError: there is no --image_dir; a photograph is not usable, with --on_error=fail.
    """

    def wanted() -> Iterable[int]:
        raise BitsWanted

    depth = Depth(work.options.sixteen_bit if bits is None else str(bits), wanted)
    classes = {name: i for i, name in enumerate(work.classes)}
    maker = RecordMaker(folder_at(work.image_dir), classes, work.options, depth)
    places, images = zip(*read_list(work.folder, number), strict=True)
    results = workers.results(images, maker.make, work.options.num_workers or 1)
    made = Slice(number, {}, Counts(), [], [])
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(results))
        files = {}
        for place, (image, result) in zip(places, results, strict=True):
            for finding in tally.findings(image, result):
                if finding.is_error and work.options.on_error == "fail":
                    raise stopped_by(finding)
                made.findings.append(finding)
                made.counts.count_error(finding)
            if isinstance(result, str):
                continue
            split = tally.split_of(work.choice, image.split, result.digest)
            made.counts.count(split, image.label, result)
            made.examples.append((result.digest, place, Example(image.path, image.label, split)))
            made.sizes.setdefault(split, []).append(len(result.framed))
            if work.keeps_records:
                if split not in files:
                    path = records(work.folder, number, split)
                    files[split] = stack.enter_context(whole(path))
                files[split].write(result.framed)
    return made


def bits_used(work: Work, number: int) -> Used:
    """The bits that the 16-bit photographs of a slice use."""
    listed = (image for _, image in read_list(work.folder, number))
    return used_bits(folder_at(work.image_dir), listed)


def duplicates(examples: Iterable[tuple[int, Example]]) -> Iterator[tuple[int, Duplicate]]:
    """Yields the duplicates among examples of equal bytes, with their places in the list.

    Args:
      examples: each with its place in the list; they are gone through twice.
    """
    _, first = min(examples, key=lambda item: item[0])
    for place, example in examples:
        if found := tally.duplicate(example, first):
            yield place, found


class Plan:
    """Which records are in which shard: as a ShardWriter would put them, one after the other.

    Attributes:
      totals: number of records of each split.
    """

    def __init__(self, num_shards: int):
        """Nothing is known yet; with `num_shards` 0, each shard takes about 128 MiB."""
        self._num_shards = num_shards
        self._starts: dict[str, list[int]] = {}  # the first record of each shard, without a number
        self._firsts: list[dict[str, int]] = []  # the number of the first record of each group
        self._last_bytes: dict[str, int] = {}
        self.totals: dict[str, int] = {}

    def add(self, group: Sizes) -> None:
        """Takes in the sizes of the records of the next slices, by split; see `Slice`."""
        self._firsts.append(dict(self.totals))
        for _, by_split in group:
            for split, sizes in by_split.items():
                count = self.totals.get(split, 0)
                self.totals[split] = count + len(sizes)
                if self._num_shards:
                    continue
                starts, filled = self._starts.setdefault(split, [0]), self._last_bytes.get(split, 0)
                for i, size in enumerate(sizes):
                    if is_full(filled, size):
                        starts.append(count + i)
                        filled = 0
                    filled += size
                self._last_bytes[split] = filled

    def shards(self) -> Iterator[tuple[str, int]]:
        """Yields the split and the number of each shard."""
        for split in sorted(self.totals):
            yield from ((split, i) for i in range(self.num_shards(split)))

    def num_shards(self, split: str) -> int:
        return self._num_shards or len(self._starts[split])

    def places(
        self, number: int, group: Sizes
    ) -> Iterator[tuple[tuple[str, int], tuple[int, list[tuple[int, int]]]]]:
        """Yields what the shards get of a group, the `number`-th that was added.

        Yields:
          (split, number of the shard), (number of the slice, first byte and bytes of each record).
        """
        ranks = dict(self._firsts[number])
        for slice_number, by_split in group:
            for split, sizes in by_split.items():
                found: dict[int, list[tuple[int, int]]] = {}
                start, rank = 0, ranks.get(split, 0)
                for size in sizes:
                    found.setdefault(self._shard(split, rank), []).append((start, size))
                    start, rank = start + size, rank + 1
                ranks[split] = rank
                for shard, places in found.items():
                    yield (split, shard), (slice_number, places)

    def save(self, folder: str) -> None:
        """Writes what `read_plan` reads."""
        content = [self._num_shards, self._starts, self._firsts, self.totals]
        _write_lines(_plan(folder), [json.dumps(content)])

    def _shard(self, split: str, rank: int) -> int:
        if self._num_shards:
            return rank % self._num_shards
        return bisect.bisect_right(self._starts[split], rank) - 1


def read_plan(folder: str) -> Plan:
    with open_file(_plan(folder)) as file:
        num_shards, starts, firsts, totals = json.load(file)
    plan = Plan(num_shards)
    plan._starts, plan._firsts, plan.totals = starts, firsts, totals
    return plan


def read_sizes(folder: str, number: int) -> list[tuple[int, dict[str, list[int]]]]:
    """The sizes of the records of a group of slices: slice, and sizes by split."""
    return sorted(read_lines(join(folder, "sizes", f"{number:07d}")), key=lambda part: part[0])


def read_lines(path: str) -> list:
    """What the lines of a file of JSON hold."""
    with open_file(path) as file:
        return [json.loads(line) for line in file]


def put_together(
    folder: str,
    destination: Destination,
    key: tuple[str, int],
    num_shards: int,
    parts: Iterable[tuple[int, list[tuple[int, int]]]],
) -> Shard:
    """Writes a shard; see `Plan.places`. Raises OSError where a record is not there."""
    split, number = key
    name = destination.shard(split, number, num_shards)
    path = shard_path(folder, name)
    with whole(path) as target:
        shard = OpenShard(path, target)
        for slice_number, places in sorted(parts):
            source = records(folder, slice_number, split)
            with open_file(source) as file:
                for start, size in places:
                    file.seek(start)
                    framed = file.read(size)
                    if len(framed) != size:
                        raise OSError(f"{source} is cut off.")
                    shard.add(framed)
    return shard.described(name)


def records(folder: str, number: int, split: str) -> str:
    """Path of the records of a slice."""
    return join(folder, "records", f"{number:07d}.{split}")


def shard_path(folder: str, name: str) -> str:
    """Path of a shard until it is published."""
    return join(folder, "shards", name)


def _list(folder: str, number: int) -> str:
    return join(folder, "list", f"{number:07d}")


def _plan(folder: str) -> str:
    return join(folder, "plan.json")


def _write_lines(path: str, lines: Iterable[str]) -> None:
    with whole(path) as file:
        file.write("".join(lines).encode())
