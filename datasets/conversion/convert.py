"""Labelled photographs to a dataset: TFRecord shards, labels.txt, dataset.json, rejected.csv.

Threads read and check the photographs; this one puts their records into shards, in an order
that depends on the names of the photographs only. So the files are the same to the byte for any
number of threads, classes are mixed in every shard, and no more than a few photographs are in
memory at a time, nor the list of them.
"""

import collections
import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from datasets import splits, zca
from datasets.conversion import workers
from datasets.conversion.destination import DATASET_JSON, DUPLICATES, LABELS, REJECTED, Destination
from datasets.conversion.records import Options, Record
from datasets.conversion.shards import Shard, ShardWriter
from datasets.disk_table import DiskTable
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import Rejected

# The one split of a dataset that is a single file.
WHOLE = "all"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to make of the photographs.

    Attributes:
      classes: class names in the order of their numbers; empty for the sorted names of the source.
      validation_fraction, test_fraction: see `splits.Choice`.
      num_shards: of each split; 0 for as many as make about 128 MiB each.
      crop_to_box, box_margin, max_side, filters, verify: see `records.Options`.
      zca_size, zca_epsilon: see `zca.Fit`; size 0 fits no whitening.
      stop_on_error: the first photograph that is not usable ends the conversion.
    """

    classes: tuple[str, ...] = ()
    validation_fraction: float | None = None
    test_fraction: float | None = None
    num_shards: int = 0
    crop_to_box: bool = False
    box_margin: float = 0.0
    max_side: int = 0
    filters: tuple[str, ...] = ()
    verify: bool = True
    zca_size: int = 0
    zca_epsilon: float = 0.01
    stop_on_error: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Duplicate:
    """A photograph whose bytes are those of an earlier one."""

    file: str
    same_as: str
    problem: str  # such as "labels cat and dog"; "" when nothing is wrong with it


@dataclasses.dataclass
class Summary:
    """What came of a conversion.

    Attributes:
      classes: in the order of their numbers.
      counts: examples of each split, by class.
      files: written, by their names in the destination's folder.
      rejected: sorted by file.
      changes: examples that were encoded anew, by reason.
      mixed_splits: of the source, where one file takes them all; "" for photographs without one.
      already_done: the same dataset was there and nothing was done; then only the first three.
    """

    classes: tuple[str, ...]
    counts: dict[str, Mapping[str, int]]
    files: list[str]
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    duplicates: list[Duplicate] = dataclasses.field(default_factory=list)
    changes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mixed_splits: tuple[str, ...] = ()
    already_done: bool = False


def convert(
    source: Iterable[LabeledImage | Rejected],
    folder: ImageFolder,
    destination: Destination,
    settings: Settings,
    *,
    flags: Mapping[str, object],
    num_workers: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
    show_progress: bool = False,
    screen: Callable[[list[LabeledImage]], set[str]] | None = None,
) -> Summary:
    """Converts photographs into a dataset.

    Args:
      source: what a reader yields.
      folder: where the photographs are.
      destination: where the dataset goes; an earlier one there is only replaced when the new one
        is whole.
      settings: what to make of the photographs.
      flags: noted in dataset.json; a finished dataset of the same flags and photographs is left
        as it is, unless `overwrite`.
      num_workers: threads; the files don't depend on it.
      overwrite: replace a dataset that is there, the same one too: its shards may be damaged.
      dry_run: read and check everything, write nothing.
      show_progress: a bar on standard error.
      screen: from all photographs that the source names to the paths of those to leave out.

    Raises:
      ValueError: no photograph; another dataset is in the place; a photograph is not usable and
        `settings.stop_on_error`; more than half are not usable; a class is empty in training.
      OSError: the destination cannot be written.
    """
    photographs, rejected = _read(source, settings.stop_on_error, show_progress)
    if screen is not None:
        photographs = _without(photographs, screen(list(photographs.by_key())))
    tally = _Tally(photographs.by_key(), rejected, settings, destination.is_file)
    options = Options(
        {name: i for i, name in enumerate(tally.classes)},
        settings.crop_to_box,
        settings.box_margin,
        settings.max_side,
        settings.filters,
        settings.verify,
        settings.zca_size,
    )
    with contextlib.ExitStack() as stack:
        results = workers.results(photographs.by_key(), folder.path, options, num_workers)
        stack.enter_context(contextlib.closing(results))
        if show_progress:
            results = _with_progress(results, "converting", len(photographs))
            stack.enter_context(contextlib.closing(results))
        if dry_run:
            for image, result in results:
                tally.add(image, result)
            tally.check()
            return tally.summary([])
        identity = {
            "flags": dict(flags),
            "classes": list(tally.classes),
            "source": _fingerprint(photographs.by_key(), folder),
        }
        earlier = destination.finished()
        difference = _difference(earlier, identity, destination) if earlier else ""
        if earlier and not difference and not overwrite:
            counts = {split: part["classes"] for split, part in earlier["splits"].items()}
            return Summary(tally.classes, counts, earlier["files"], already_done=True)
        if not overwrite:
            _refuse_to_replace(destination, difference)
        return _write(results, tally, destination, settings, identity, bool(earlier))


def _read(
    source: Iterable[LabeledImage | Rejected], stop_on_error: bool, show_progress: bool
) -> tuple[DiskTable, list[Rejected]]:
    """The photographs, by the hash of their paths, and what the source leaves out."""
    photographs, rejected = DiskTable(), []
    with contextlib.ExitStack() as stack:
        if show_progress:
            source = _with_progress(source, "reading labels")
            stack.enter_context(contextlib.closing(source))
        for item in until_error(source) if stop_on_error else source:
            if isinstance(item, LabeledImage):
                photographs.add(_place(item), item)
            else:
                rejected.append(item)
    if not len(photographs):
        first = f" The first of {len(rejected)}: {_told(rejected[0])}." if rejected else ""
        raise ValueError(f"No labelled photograph was found.{first}")
    return photographs, rejected


def _place(image: LabeledImage) -> bytes:
    """In this order each shard is a mixture, whatever the order of the source."""
    return hashlib.sha256(_bytes(image.path)).digest()


def _without(photographs: DiskTable, gone: set[str]) -> DiskTable:
    rest = DiskTable()
    for image in photographs.by_key():
        if image.path not in gone:
            rest.add(_place(image), image)
    return rest


def until_error(source: Iterable[LabeledImage | Rejected]) -> Iterator[LabeledImage | Rejected]:
    """Yields what a source does; ValueError at the first that is not usable."""
    for item in source:
        if isinstance(item, Rejected) and not item.harmless:
            raise _stopped(item)
        yield item


def _write(
    results: Iterable[tuple[LabeledImage, Record | str]],
    tally: "_Tally",
    destination: Destination,
    settings: Settings,
    identity: Mapping[str, object],
    replaces: bool,
) -> Summary:
    """Writes the dataset beside its place and, when it is whole and makes sense, moves it there."""
    destination.begin()
    writer = ShardWriter(destination, settings.num_shards)
    fit = zca.Fit(settings.zca_size, settings.zca_epsilon) if settings.zca_size else None
    try:
        for image, result in results:
            if split := tally.add(image, result):
                writer.add(split, result.framed)
                if fit and split in (splits.TRAIN, WHOLE):
                    fit.add(result.small)
        shards = writer.finish()
        try:
            tally.check()
        except ValueError as error:
            if replaces or not tally.rejected:
                raise
            path = os.path.join(destination.folder, destination.side(REJECTED))
            _write_table(path, _REJECTED_COLUMNS, tally.summary([]).rejected)
            raise ValueError(f"{error} What could not be used is listed in {path}.") from error
        files = _write_side_files(destination, tally, identity, shards, fit)
        destination.publish()
    finally:
        writer.close()
        destination.close()
    return tally.summary(files)


class _Tally:
    """What is known of the dataset while its records come in."""

    def __init__(
        self,
        photographs: Iterable[LabeledImage],
        rejected: list[Rejected],
        settings: Settings,
        is_file: bool,
    ):
        labels, given = set(), set()
        for image in photographs:
            labels.add(image.label)
            given.add(image.split)
        self.classes = settings.classes or tuple(sorted(labels))
        self.counts = collections.defaultdict(collections.Counter)
        self.rejected = rejected
        self.duplicates = []
        self.changes = collections.Counter()
        self.source_formats = collections.Counter()
        self.stored_formats = collections.Counter()
        self.widths = []
        self.heights = []
        self._settings = settings
        self._choice = None
        self._mixed_splits = ()
        if is_file:
            self._mixed_splits = tuple(sorted(given)) if len(given) > 1 else ()
        else:
            self._choice = splits.Choice(
                given, settings.validation_fraction, settings.test_fraction
            )
        self._first_of = DiskTable()  # by the digest of the bytes

    @property
    def num_examples(self) -> int:
        return sum(count.total() for count in self.counts.values())

    def add(self, image: LabeledImage, result: Record | str) -> str:
        """Takes in a photograph's record, or why it has none; returns its split or ""."""
        if isinstance(result, str):
            self.rejected.append(Rejected(image.path, result))
            if self._settings.stop_on_error:
                raise _stopped(self.rejected[-1])
            return ""
        split = self._split(image, result.digest)
        self.counts[split][image.label] += 1
        self.source_formats[result.source_format] += 1
        self.stored_formats[result.stored_format] += 1
        self.widths = _range(*self.widths, result.width)
        self.heights = _range(*self.heights, result.height)
        if result.change:
            self.changes[result.change] += 1
        if result.clipped:
            self.rejected.append(Rejected(image.path, result.clipped, harmless=True))
        if earlier := self._first_of.get(result.digest):
            if earlier[0].path != image.path:
                self.duplicates.append(self._duplicate(image, earlier[0], split, result.digest))
        else:
            self._first_of.add(result.digest, image)
        return split

    def check(self) -> None:
        """Raises ValueError for a dataset that must be a mistake."""
        self._check_share()
        self._check_classes()

    def summary(self, files: list[str]) -> Summary:
        # A photograph with several examples is told of once.
        rejected = sorted(set(self.rejected), key=lambda item: (item.file, item.reason))
        self.duplicates.sort(key=lambda item: item.file)
        return Summary(
            self.classes,
            self.counts,
            files,
            rejected,
            self.duplicates,
            self.changes,
            self._mixed_splits,
        )

    def _split(self, image: LabeledImage, digest: bytes) -> str:
        return self._choice.of(image.split, digest) if self._choice else WHOLE

    def _duplicate(self, image: LabeledImage, first: LabeledImage, split: str, digest: bytes):
        problems = []
        if image.label != first.label:
            problems.append(f"labels {first.label} and {image.label}")
        if split != (other := self._split(first, digest)):
            problems.append(f"splits {other} and {split}")
        return Duplicate(image.path, first.path, "; ".join(problems))

    def _check_share(self) -> None:
        errors = [item for item in self.rejected if not item.harmless]
        total = self.num_examples + len(errors)
        if 2 * len(errors) > total:
            kinds = collections.Counter(item.kind for item in errors).most_common()
            of_most = (item for item in errors if item.kind == kinds[0][0])
            first = min(of_most, key=lambda item: item.file)
            raise ValueError(
                f"{len(errors)} of {total} photographs are not usable: "
                f"{', '.join(f'{kind} ({count})' for kind, count in kinds)}; "
                f"such as {_told(first)}."
            )

    def _check_classes(self) -> None:
        if self._choice is None:
            if self._settings.classes:
                return  # it may be a part of a collection, and not for training
            training = self.counts[WHOLE]
        elif not self._choice.trains:
            return
        else:
            training = self.counts[splits.TRAIN]
        if empty := [name for name in self.classes if not training[name]]:
            elsewhere = sum(count[empty[0]] for count in self.counts.values())
            others = f" (and of {len(empty) - 1} other classes)" if len(empty) > 1 else ""
            raise ValueError(
                f"No photograph of the class {empty[0]!r}{others} is left for training"
                f"{f'; {elsewhere} are in other splits' if elsewhere else ''}. Add some, take the "
                "class out, or set --validation_fraction=0."
            )


def _with_progress(items: Iterable, text: str, total: int | None = None) -> Iterator:
    from tqdm import tqdm  # here, for the start-up time of --help

    interval = 0.1 if sys.stderr.isatty() else 10
    with tqdm(
        items, text, total, unit=" images", mininterval=interval, file=sys.stderr
    ) as progress:
        yield from progress


def _fingerprint(photographs: Iterable[LabeledImage], folder: ImageFolder) -> str:
    """Changes when a photograph, or what the source says of it, does; no photograph is read."""
    digest = hashlib.sha256()
    names = [field.name for field in dataclasses.fields(LabeledImage)]
    for image in photographs:
        try:
            status = os.stat(os.path.join(folder.path, image.path))
            version = (status.st_size, status.st_mtime_ns)
        except OSError:
            version = None
        content = tuple(getattr(image, name) for name in names)
        digest.update(_bytes(repr((content, version))))
    return digest.hexdigest()


def _difference(
    earlier: Mapping[str, object], identity: Mapping[str, object], destination: Destination
) -> str:
    """How a finished dataset differs from the one to make; "" when it doesn't."""
    identity = json.loads(json.dumps(identity))  # tuples are lists in what was read
    flags, earlier_flags = identity["flags"], earlier.get("flags", {})
    for name in sorted({*flags, *earlier_flags}):
        # More was verified than is asked for now; or none noted it yet.
        if name == "verify" and earlier_flags.get(name, "full") == "full":
            continue
        if flags.get(name) != earlier_flags.get(name):
            value = earlier_flags.get(name)
            return f"made without --{name}" if value is None else f"made with --{name}={value}"
    if identity["classes"] != earlier.get("classes"):
        return "of other classes"
    if identity["source"] != earlier.get("source"):
        return "of other photographs or labels"
    for part in earlier["splits"].values():
        for shard in part["shards"]:
            path = os.path.join(destination.folder, shard["file"])
            if not os.path.isfile(path) or os.path.getsize(path) != shard["bytes"]:
                return f"whose {shard['file']} is missing or cut off"
    return ""


def _refuse_to_replace(destination: Destination, difference: str) -> None:
    if not (present := destination.files_in_the_way()):
        return
    what = f"a dataset {difference}" if difference else "not left by a finished conversion"
    raise ValueError(
        f"{os.path.join(destination.folder, present[0])} is there already, {what}. Replace it "
        "with --overwrite, or choose another place."
    )


_REJECTED_COLUMNS = ("file", "reason")
_DUPLICATE_COLUMNS = ("file", "same_as", "problem")


def _write_side_files(
    destination: Destination,
    tally: _Tally,
    identity: Mapping[str, object],
    shards: Mapping[str, list[Shard]],
    fit: zca.Fit | None,
) -> list[str]:
    """Writes all that goes beside the shards; returns the names of all files."""
    summary = tally.summary([])
    names = [shard.file for part in shards.values() for shard in part]
    with open(destination.path(destination.side(LABELS)), "wb") as file:
        file.writelines(_bytes(f"{i}:{name}\n") for i, name in enumerate(tally.classes))
    tables = [(REJECTED, _REJECTED_COLUMNS, summary.rejected)]
    if summary.duplicates:
        tables.append((DUPLICATES, _DUPLICATE_COLUMNS, summary.duplicates))
    for name, columns, rows in tables:
        _write_table(destination.path(destination.side(name)), columns, rows)
        names.append(destination.side(name))
    if fit:
        names.append(destination.side(zca.FILE_NAME))
        fit.save(destination.path(names[-1]))
    names += [destination.side(LABELS), destination.side(DATASET_JSON)]
    kinds = collections.Counter(item.kind for item in summary.rejected)
    content = {
        "name": destination.name,
        "num_examples": tally.num_examples,
        **identity,
        "splits": {
            split: {
                "num_examples": tally.counts[split].total(),
                "classes": {name: tally.counts[split][name] for name in tally.classes},
                "shards": [shard._asdict() for shard in part],
            }
            for split, part in shards.items()
        },
        "widths": tally.widths,
        "heights": tally.heights,
        "source_formats": dict(sorted(tally.source_formats.items())),
        "stored_formats": dict(sorted(tally.stored_formats.items())),
        "encoded_anew": dict(sorted(tally.changes.items())),
        "rejected": dict(sorted(kinds.items())),
        "duplicates": len(summary.duplicates),
        "files": names,
    }
    with open(destination.path(destination.side(DATASET_JSON)), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    return names


def _write_table(path: str, columns: Sequence[str], rows: Iterable[object]) -> None:
    """Writes the attributes of rows as CSV."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([getattr(row, column) for column in columns] for row in rows)


def _stopped(item: Rejected) -> ValueError:
    return ValueError(f"{_told(item)}. Stopped by --on_error=fail.")


def _told(item: Rejected) -> str:
    return f"{item.file}: {item.reason}"


def _range(*values: int) -> list[int]:
    return [min(values), max(values)]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
