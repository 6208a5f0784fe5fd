"""Labelled photographs to a dataset: TFRecord shards, labels.txt, dataset.json, rejected.csv.

Threads read and check the photographs; this one puts their records into shards, in an order that
depends on the names of the photographs only. So the files are the same to the byte for any number
of threads, and classes are mixed in every shard. Only a few photographs are in memory at a time,
and their list lies on the disk.
"""

import collections
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

from datasets import splits
from datasets.conversion import depth, description, near_duplicates, workers
from datasets.conversion.depth import Depth
from datasets.conversion.description import Identity
from datasets.conversion.destination import NEAR_DUPLICATES, REJECTED, Destination
from datasets.conversion.image_bytes import Photograph
from datasets.conversion.records import Record, RecordMaker, Whitening
from datasets.conversion.shards import ShardWriter
from datasets.conversion.survey import Survey
from datasets.conversion.tally import Conversion, Tally
from datasets.disk_table import DiskTable
from datasets.findings import Finding, until_error
from datasets.options import ConversionOptions, DestinationOptions
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder
from foundation import machine
from foundation.errors import InputError

# Yields items and shows how many came; of (items, what is done with them, their number or None).
Progress = Callable[[Iterable, str, int | None], Generator]


def unshown(items: Iterable, text: str, total: int | None) -> Generator:
    """The progress that shows nothing."""
    yield from items


@dataclasses.dataclass(frozen=True)
class Source:
    """Photographs with their labels.

    Attributes:
      items: what a reader yields.
      folder: where the photographs are.
      classes: class names in the order of their numbers; empty: the sorted names of the labels.
    """

    items: Iterable[LabeledImage | Finding]
    folder: ImageFolder
    classes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Job:
    """How a conversion is to go.

    Attributes:
      destination: where the dataset goes; an earlier one there is only replaced when the new one
        is whole.
      options: what is stored, and what is refused.
      flags: what dataset.json keeps of the options; a finished dataset of the same flags and
        photographs is left as it is, unless it is to be overwritten: its shards may be damaged.
      whitening: fitted to the training photographs; None for none.
      survey: takes in each example; with one, all photographs are read even where nothing is to be
        written anew. None for none.
      say: gets a line for what is done.
      progress: shows how far it is.
    """

    destination: DestinationOptions
    options: ConversionOptions
    flags: Mapping[str, object] = dataclasses.field(default_factory=dict)
    whitening: Whitening | None = None
    survey: Survey | None = None
    say: Callable[[str], None] = print
    progress: Progress = unshown

    @property
    def num_workers(self) -> int:
        return self.options.num_workers or machine.num_processors()

    @contextlib.contextmanager
    def shown(self, items: Iterable, text: str, total: int | None = None) -> Iterator[Iterator]:
        """The items, shown in a bar that ends with the block."""
        with contextlib.closing(self.progress(items, text, total)) as shown:
            yield shown


def convert(source: Source, job: Job) -> Conversion:
    """Converts photographs into a dataset.

    Raises:
      InputError: no photograph; another dataset is in the place; a photograph is not usable, with
        --on_error=fail; more than half are not usable; a class is empty in training.
      OSError: the destination cannot be written.
    """
    destination = Destination.of(job.destination)
    photographs, findings = _read(source, job)
    pairs, gone = None, set()
    if job.options.near_duplicates != "ignore":
        pairs = _near_duplicates(photographs, source.folder, job)
        if job.options.near_duplicates == "drop":
            gone = near_duplicates.dropped(pairs)
            photographs = _without(photographs, gone)
    tally = Tally(photographs.by_key(), findings, source.classes, job.destination, job.options)
    conversion = _convert(photographs, tally, source.folder, destination, job)
    if pairs and not job.destination.dry_run:
        near_duplicates.write(destination.side_path(NEAR_DUPLICATES), pairs)
    return dataclasses.replace(conversion, near_duplicates=pairs, num_dropped=len(gone))


def _convert(
    photographs: DiskTable, tally: Tally, folder: ImageFolder, destination: Destination, job: Job
) -> Conversion:
    numbers = {name: i for i, name in enumerate(tally.classes)}
    bits = Depth(job.options.sixteen_bit, lambda: _bits_used(photographs, folder, job.say))
    maker = RecordMaker(folder, numbers, job.options, bits, job.whitening)
    results = workers.results(photographs.by_key(), maker.make, job.num_workers)
    if job.survey:
        results = _surveyed(results, job.survey)
    with contextlib.closing(results), job.shown(results, "converting", len(photographs)) as shown:
        if job.destination.dry_run:
            for image, result in shown:
                tally.add(image, result)
            tally.check()
            return tally.conversion([])
        identity = Identity(
            dict(job.flags),
            tally.classes,
            description.fingerprint(photographs.by_key(), folder),
        )
        earlier = destination.finished()
        difference = description.difference(earlier, identity, destination) if earlier else ""
        if not job.destination.overwrite:
            if earlier and not difference:
                counts = {split: part["classes"] for split, part in earlier["splits"].items()}
                if not job.survey:
                    return Conversion(tally.classes, counts, earlier["files"], already_done=True)
                for image, result in shown:
                    tally.add(image, result)
                made = tally.conversion(earlier["files"])
                return dataclasses.replace(made, counts=counts, already_done=True)
            _refuse_to_replace(destination, difference)
        with destination.writing():
            return _write(shown, tally, identity, destination, job, replaces=bool(earlier))


def _surveyed(
    results: Generator[tuple[LabeledImage, Record | str]], survey: Survey
) -> Generator[tuple[LabeledImage, Record | str]]:
    with contextlib.closing(results):
        for image, result in results:
            if not isinstance(result, str):
                survey.add(image, result)
            yield image, result


def _bits_used(
    photographs: DiskTable, folder: ImageFolder, say: Callable[[str], None]
) -> Iterator[int]:
    """Yields the bits that each 16-bit photograph uses; says where they differ."""
    say("Finding out how many bits the 16-bit photographs use …")
    counts, examples = collections.Counter(), {}
    for image in photographs.by_key():
        with contextlib.suppress(Exception):  # the conversion reports those that can't be read
            photograph = Photograph(folder.read(image.path))
            if photograph.is_deep and photograph.stated_bits is None:
                bits = photograph.bits_used()
                counts[bits] += 1
                examples[bits] = min(image.path, examples.get(bits, image.path))
    if line := depth.mixture(counts, examples):
        say(line)
    yield from counts


def _read(source: Source, job: Job) -> tuple[DiskTable, list[Finding]]:
    """The photographs, by the hash of their paths, and the findings of the source."""
    photographs, findings = DiskTable(), []
    with job.shown(source.items, "reading labels") as items:
        for item in until_error(items) if job.options.on_error == "fail" else items:
            if isinstance(item, LabeledImage):
                photographs.add(_place(item), item)
            else:
                findings.append(item)
    if not len(photographs):
        first = f" The first of {len(findings)}: {findings[0]}." if findings else ""
        raise InputError(f"No labelled photograph was found.{first}")
    return photographs, findings


def _place(image: LabeledImage) -> bytes:
    """A photograph's place in the order of records: by a hash, so that shards are mixtures."""
    return hashlib.sha256(image.path.encode(errors="surrogateescape")).digest()


def _near_duplicates(
    photographs: DiskTable, folder: ImageFolder, job: Job
) -> list[near_duplicates.Pair]:
    images = list(photographs.by_key())
    given = {image.split for image in images}
    fractions = job.destination.validation_fraction, job.destination.test_fraction
    if job.destination.output_file:  # which has no splits
        images = [dataclasses.replace(image, split="") for image in images]
        given, fractions = {""}, (0.0, 0.0)
    choice = splits.Choice(given, *fractions)
    job.say("Looking for near duplicates …")
    return near_duplicates.find(images, folder, choice, job.num_workers)


def _without(photographs: DiskTable, gone: set[str]) -> DiskTable:
    rest = DiskTable()
    for image in photographs.by_key():
        if image.path not in gone:
            rest.add(_place(image), image)
    return rest


def _write(
    results: Iterable[tuple[LabeledImage, Record | str]],
    tally: Tally,
    identity: Identity,
    destination: Destination,
    job: Job,
    replaces: bool,
) -> Conversion:
    """Writes the dataset into a hidden folder and, when it is whole and makes sense, moves it."""
    writer = ShardWriter(destination, job.destination.num_shards or 0)
    with contextlib.closing(writer):
        for image, result in results:
            if split := tally.add(image, result):
                writer.add(split, result.framed)
                if job.whitening and split == tally.training_split:
                    job.whitening.add(result.small)
        shards = writer.name_shards()
        try:
            tally.check()
        except InputError as error:
            if replaces or not tally.findings:
                raise
            path = destination.side_path(REJECTED)
            description.write_findings(path, tally)
            raise InputError(f"{error} What could not be used is listed in {path}.") from error
        files = description.write(destination, tally, identity, shards, job.whitening)
        destination.publish()
    return tally.conversion(files)


def _refuse_to_replace(destination: Destination, difference: str) -> None:
    if not (present := destination.files_in_the_way()):
        return
    what = f"a dataset {difference}" if difference else "not left by a finished conversion"
    raise InputError(
        f"{os.path.join(destination.folder, present[0])} is there already, {what}.",
        remedy="Replace it with --overwrite, or choose another place.",
    )
