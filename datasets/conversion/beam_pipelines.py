"""What the workers of a cluster do, joined into pipelines of Apache Beam.

Results are files in the working folder, since a pipeline gives its starter nothing else. The files
of a kind are written in groups, so that there are neither millions of them nor a single large one.

Beam's own coder refuses text that is not Unicode, which names of files and classes may be: between
the steps these are in objects, which are pickled, in lines of JSON, or in bytes.
"""

import contextlib
import itertools
import json
import math
import operator
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from datasets.buckets import is_url, join, whole
from datasets.conversion import near_duplicates, slices
from datasets.conversion.depth import Used
from datasets.conversion.destination import Destination
from datasets.conversion.near_duplicates import Pair, Picture
from datasets.conversion.slices import BitsWanted, Plan, Slice, Work
from datasets.conversion.tally import Counts
from datasets.schema import LabeledImage
from datasets.sources.bucket_folder import folder_at
from foundation.errors import InputError, Unreadable

# A picture's hash as eight bytes, its split, and all of its labels.
_Kind = tuple[bytes, str, tuple[bytes, ...]]
UNREADABLE = "unreadable.json"  # the last file that a worker could not read, and why
_HASH = struct.Struct(">Q")
_SHARDS = 1000  # described in a file


def groups_of(num_slices: int) -> int:
    """How many slices are a group."""
    return math.ceil(math.sqrt(num_slices))


def convert(pipeline: beam.Pipeline, work: Work, num_slices: int) -> None:
    """Makes all records.

    Writes, beside the records: counts.json, bits.json, failures.json, and the folders sizes,
    findings and duplicates.
    """
    numbers = _slices(pipeline, num_slices)
    first = numbers | "Convert" >> beam.FlatMap(_convert, work).with_outputs(
        "waiting", "failed", main="done"
    )
    # Photographs of 16 bits wait until it is known how many of these all others use.
    waiting = first.waiting | "CountWaiting" >> beam.combiners.Count.Globally()
    used = (
        numbers
        | "FindBits" >> beam.FlatMap(_bits_used, work, beam.pvalue.AsSingleton(waiting))
        | "MergeBits" >> beam.CombineGlobally(_merged_bits)
    )
    used | "WriteBits" >> beam.Map(_write_json, join(work.folder, "bits.json"), Used.content)
    rest = first.waiting | "ConvertDeep" >> beam.FlatMap(
        _convert, work, beam.pvalue.AsSingleton(used)
    ).with_outputs("waiting", "failed", main="done")
    done = (first.done, rest.done) | "Done" >> beam.Flatten()
    failures = (first.failed, rest.failed) | "Failures" >> beam.Flatten()
    (
        failures
        | "FirstFailure" >> beam.combiners.Top.Smallest(1)
        | "WriteFailure" >> beam.Map(_write_json, join(work.folder, "failures.json"))
    )
    (
        done
        | "Counts" >> beam.Map(lambda part: part.counts)
        | "MergeCounts" >> beam.CombineGlobally(_merged_counts)
        | "WriteCounts" >> beam.Map(_write_json, join(work.folder, "counts.json"), Counts.content)
    )
    group = groups_of(num_slices)
    done | "Sizes" >> beam.Map(_sizes, group) | "WriteSizes" >> _Grouped(work.folder, "sizes")
    (
        done
        | "Findings" >> beam.FlatMap(_findings, group)
        | "WriteFindings" >> _Grouped(work.folder, "findings")
    )
    (
        done
        | "Examples" >> beam.FlatMap(lambda part: ((one[0], one[1:]) for one in part.examples))
        | "SameBytes" >> beam.GroupByKey()
        | "Duplicates" >> beam.FlatMap(_duplicates, group)
        | "WriteDuplicates" >> _Grouped(work.folder, "duplicates")
    )


def put_together(
    pipeline: beam.Pipeline, folder: str, num_groups: int, destination: Destination
) -> None:
    """Puts records into shards by the plan in the folder; writes shards, and shards_described."""
    planned = pipeline | "Plan" >> beam.Create([folder]) | "ReadPlan" >> beam.Map(slices.read_plan)
    parts = (
        pipeline
        | "Groups" >> beam.Create([num_groups])
        | "EachGroup" >> beam.FlatMap(_numbers)
        | "SpreadGroups" >> beam.Reshuffle()
        | "Places" >> beam.FlatMap(_places, folder, beam.pvalue.AsSingleton(planned))
    )
    # Those that get no record, where there are more shards than records.
    empty = planned | "EachShard" >> beam.FlatMap(
        lambda plan: zip(plan.shards(), itertools.repeat(None), strict=False)
    )
    (
        (parts, empty)
        | "All" >> beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "PutTogether"
        >> beam.Map(_put_together, folder, destination, beam.pvalue.AsSingleton(planned))
        | "WriteDescriptions" >> _Grouped(folder, "shards_described")
    )


def find_near_duplicates(pipeline: beam.Pipeline, work: Work, num_slices: int) -> None:
    """Finds what `near_duplicates.find` does; writes the folder pairs.

    Pictures of one hash, split and set of labels are one kind. Kinds that share a band of their
    hashes are compared, and the members of near kinds are paired with the first of the other.
    """
    members = _slices(pipeline, num_slices) | "Hash" >> beam.FlatMap(_hashed, work)
    near = (
        members
        | "Kinds" >> beam.Keys()
        | "EachKind" >> beam.Distinct()
        | "Bands" >> beam.FlatMap(_by_band)
        | "SameBand" >> beam.GroupByKey()
        | "Compare" >> beam.FlatMap(_near_kinds)
    )
    firsts = (
        {"members": members, "near": near}
        | "FirstOfKind" >> beam.CoGroupByKey()
        | "Introduce" >> beam.FlatMap(_introduced)
    )
    (
        {"members": members, "firsts": firsts}
        | "Meet" >> beam.CoGroupByKey()
        | "Pair" >> beam.FlatMap(_pairs, groups_of(num_slices))
        | "WritePairs" >> _Grouped(work.folder, "pairs")
    )


def _slices(pipeline: beam.Pipeline, num_slices: int) -> beam.PCollection:
    return (
        pipeline
        | "Slices" >> beam.Create([num_slices])
        | "EachSlice" >> beam.FlatMap(_numbers)
        | "SpreadSlices" >> beam.Reshuffle()
    )


def _numbers(count: int) -> Iterator[int]:
    yield from range(count)


class _Grouped(beam.PTransform):
    """Writes (number of a group, line), into a file for each group."""

    def __init__(self, folder: str, name: str):
        self._folder = join(folder, name)

    def expand(self, pcollection):
        return (
            pcollection
            | "ByGroup" >> beam.GroupByKey()
            | "Write" >> beam.Map(_write_group, self._folder)
        )


def _write_group(given: tuple[int, Iterable[str]], folder: str) -> None:
    group, lines = given
    with whole(join(folder, f"{group:07d}")) as file:
        file.write("".join(f"{line}\n" for line in sorted(lines)).encode())


def _write_json(value: object, path: str, content: Callable = lambda value: value) -> None:
    with whole(path) as file:
        file.write(json.dumps(content(value)).encode())


def _convert(number: int, work: Work, used: Used | None = None) -> Iterator:
    bits = None if used is None else max(used.counts, default=16)
    try:
        with _noting(work.folder):
            part = slices.convert(work, number, bits)
    except BitsWanted:
        yield beam.pvalue.TaggedOutput("waiting", number)
    except (InputError, Unreadable) as error:
        if isinstance(error, Unreadable) and is_url(work.image_dir):
            raise  # the runner may try again: a network is often back by then
        problem = f"{error} (on the worker {socket.gethostname()})"
        yield beam.pvalue.TaggedOutput("failed", (number, json.dumps(problem)))
    else:
        examples, errors = part.counts.num_examples, part.counts.errors.total()
        Metrics.counter("conversion", "examples").inc(examples)
        Metrics.counter("conversion", "rejected").inc(errors)
        yield part


@contextlib.contextmanager
def _noting(folder: str) -> Iterator[None]:
    """Notes which file could not be read, and fails all the same: the runner may try once more."""
    try:
        yield
    except Unreadable as error:
        problem = f"{error} (on the worker {socket.gethostname()})"
        with whole(join(folder, UNREADABLE)) as file:
            file.write(json.dumps(problem).encode())
        raise


def _bits_used(number: int, work: Work, waiting: int) -> Iterator[Used]:
    if waiting:
        with _noting(work.folder):
            yield slices.bits_used(work, number)


def _merged_bits(parts: Iterable[Used]) -> Used:
    merged = Used()
    for part in parts:
        merged.merge(part)
    return merged


def _merged_counts(parts: Iterable[Counts]) -> Counts:
    merged = Counts()
    for part in parts:
        merged.merge(part)
    return merged


def _sizes(part: Slice, group: int) -> tuple[int, str]:
    return part.number // group, json.dumps([part.number, part.sizes])


def _findings(part: Slice, group: int) -> Iterator[tuple[int, str]]:
    for one in part.findings:
        line = [one.file, one.reason, one.effect.name, socket.gethostname()]
        yield part.number // group, json.dumps(line)


def _duplicates(found: tuple[bytes, Iterable], groups: int) -> Iterator[tuple[int, str]]:
    _, examples = found
    for place, one in slices.duplicates(examples):
        line = [one.file, place, one.same_as, one.problem]
        yield _group_of(one.file, groups), json.dumps(line)


def _group_of(path: str, number: int) -> int:
    return zlib.crc32(path.encode(errors="surrogateescape")) % number


def _places(number: int, folder: str, plan: Plan) -> Iterator:
    yield from plan.places(number, slices.read_sizes(folder, number))


def _put_together(
    given: tuple[tuple[str, int], Iterable], folder: str, destination: Destination, plan: Plan
) -> tuple[int, str]:
    (split, number), parts = given
    parts = filter(None, parts)
    count = plan.num_shards(split)
    shard = slices.put_together(folder, destination, (split, number), count, parts)
    return number // _SHARDS, json.dumps([split, number, *shard])


def _hashed(number: int, work: Work) -> Iterator[tuple[_Kind, LabeledImage]]:
    """The kind of each photograph of a slice, and the photograph."""
    folder = folder_at(work.image_dir)
    listed = (image for _, image in slices.read_list(work.folder, number))
    for path, group in itertools.groupby(listed, key=lambda image: image.path):
        examples = list(group)
        with _noting(work.folder):
            found = near_duplicates.hashed(folder, path)
        if found:
            value, digest = found
            split = near_duplicates.split_of(work.choice, examples[-1], digest)
            names = sorted({image.label for image in examples})
            labels = tuple(name.encode(errors="surrogateescape") for name in names)
            yield (_HASH.pack(value), split, labels), examples[-1]


def _by_band(kind: _Kind) -> Iterator[tuple[tuple[int, int], _Kind]]:
    for band, bits in enumerate(near_duplicates.bands(*_HASH.unpack(kind[0]))):
        yield (band, bits), kind


def _near_kinds(
    given: tuple[tuple[int, int], Iterable[_Kind]],
) -> Iterator[tuple[_Kind, tuple[_Kind, int]]]:
    """Each of two near kinds with the other and their distance, from the first band they share."""
    (band, _), kinds = given
    kinds = sorted(kinds)
    hashes = np.array([_HASH.unpack(kind[0])[0] for kind in kinds], np.uint64)
    numbers: dict[tuple, int] = {}
    others = np.array([numbers.setdefault(kind[1:], len(numbers)) for kind in kinds])
    for i, j, distance in near_duplicates.compared(hashes, others):
        one, other = (near_duplicates.bands(int(hashes[k])) for k in (i, j))
        if any(map(operator.eq, one[:band], other[:band])):
            continue
        yield kinds[i], (kinds[j], distance)
        yield kinds[j], (kinds[i], distance)


def _introduced(
    given: tuple[_Kind, dict[str, Iterable]],
) -> Iterator[tuple[_Kind, tuple[_Kind, int, LabeledImage]]]:
    """Tells each near kind the first member of this one."""
    kind, joined = given
    first = None
    for other, distance in joined["near"]:
        first = first or _first(joined["members"])
        yield other, (kind, distance, first)


def _pairs(given: tuple[_Kind, dict[str, Iterable]], groups: int) -> Iterator[tuple[int, str]]:
    """Pairs each member of this kind with the first ones of others."""
    kind, joined = given
    if not (others := list(joined["firsts"])):
        return
    first = _first(joined["members"])
    for image in joined["members"]:
        for other, distance, first_of_other in others:
            if image == first and kind > other:
                continue  # the other kind has this pair
            one, two = _picture(image, kind), _picture(first_of_other, other)
            if pair := near_duplicates.pair_of(one, two, distance):
                yield _group_of(pair.first.path, groups), _pair_line(pair)


def _first(members: Iterable[LabeledImage]) -> LabeledImage:
    return min(members, key=lambda image: image.path)


def _picture(image: LabeledImage, kind: _Kind) -> Picture:
    packed, split, labels = kind
    names = frozenset(label.decode(errors="surrogateescape") for label in labels)
    return Picture(image, *_HASH.unpack(packed), split, names)


def _pair_line(pair: Pair) -> str:
    images = [[one.path, one.label] for one in (pair.first, pair.second)]
    return json.dumps([*images, pair.splits, pair.distance, pair.kept])
