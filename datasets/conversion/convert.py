"""Labelled photographs to a dataset: TFRecord shards, labels.txt, dataset.json, rejected.csv.

The photographs are put in an order that depends on their names only; an engine makes their records
and puts these into shards in that order. So the files are the same to the byte for any engine and
any number of threads, and classes are mixed in every shard. Only a few photographs are in memory at
a time, and their list lies on the disk.
"""

import dataclasses
import hashlib
from collections.abc import Collection

from datasets import splits
from datasets.buckets import join
from datasets.conversion import description, near_duplicates
from datasets.conversion.description import Identity
from datasets.conversion.destination import NEAR_DUPLICATES, REJECTED, Destination
from datasets.conversion.job import Job, Photographs, Source
from datasets.conversion.tally import Conversion, Tally
from datasets.disk_table import DiskTable, SortedOnDisk
from datasets.findings import Finding, until_error
from datasets.schema import LabeledImage
from foundation.errors import InputError


def convert(source: Source, job: Job) -> Conversion:
    """Converts photographs into a dataset.

    Raises:
      InputError: no photograph; another dataset is in the place; a photograph is not usable, with
        --on_error=fail; more than half are not usable; a class is empty in training.
      OSError: the destination cannot be written.
    """
    destination = Destination.of(job.destination)
    photographs, findings = _read(source, job)
    pairs, gone = None, ()
    if job.options.near_duplicates != "ignore":
        pairs = _near_duplicates(photographs, destination, job)
        if job.options.near_duplicates == "drop":
            gone = SortedOnDisk(lambda path: (path,), distinct=True)
            gone.update(near_duplicates.dropped(pairs))
            photographs = _without(photographs, gone)
    tally = Tally(photographs, findings, source.classes, job.destination, job.options)
    conversion = _convert(photographs, tally, destination, job)
    if pairs and not job.destination.dry_run:
        with destination.beside(NEAR_DUPLICATES) as path:
            near_duplicates.write(path, pairs)
    return dataclasses.replace(conversion, near_duplicates=pairs, num_dropped=len(gone))


def _convert(
    photographs: Photographs, tally: Tally, destination: Destination, job: Job
) -> Conversion:
    def checked(files: list[str]) -> Conversion:
        with job.engine.filling(photographs, tally, destination, job, writes=False):
            return tally.conversion(files)

    if job.destination.dry_run:
        made = checked([])
        tally.check()
        return made
    identity = Identity(
        dict(job.flags), tally.classes, description.fingerprint(photographs, photographs.folder)
    )
    earlier = destination.finished()
    difference = description.difference(earlier, identity, destination) if earlier else ""
    if not job.destination.overwrite:
        if earlier and not difference:
            counts = {split: part["classes"] for split, part in earlier["splits"].items()}
            if not job.survey:
                return Conversion(tally.classes, counts, earlier["files"], already_done=True)
            return dataclasses.replace(checked(earlier["files"]), counts=counts, already_done=True)
        _refuse_to_replace(destination, difference)
    with destination.writing():
        return _write(photographs, tally, identity, destination, job, replaces=bool(earlier))


def _read(source: Source, job: Job) -> tuple[Photographs, Collection[Finding]]:
    """The photographs, by the hash of their paths, and the findings of the source."""
    photographs, findings = DiskTable(), DiskTable()
    with job.shown(source.items, "reading labels") as items:
        for item in until_error(items) if job.options.on_error == "fail" else items:
            if isinstance(item, LabeledImage):
                photographs.add(_place(item), item)
            else:
                findings.add(b"", item)
    if not len(photographs):
        first = f" The first of {len(findings)}: {next(findings.by_key())}." if findings else ""
        raise InputError(f"No labelled photograph was found.{first}")
    return Photographs(photographs, source.folder), findings.by_key()


def _place(image: LabeledImage) -> bytes:
    """A photograph's place in the order of records: by a hash, so that shards are mixtures."""
    return hashlib.sha256(image.path.encode(errors="surrogateescape")).digest()


def _near_duplicates(
    photographs: Photographs, destination: Destination, job: Job
) -> Collection[near_duplicates.Pair]:
    near_duplicates.require()
    fractions = job.destination.validation_fraction, job.destination.test_fraction
    choice = None
    if not job.destination.output_file:  # which has no splits
        choice = splits.Choice({image.split for image in photographs}, *fractions)
    job.say("Looking for near duplicates …")
    return job.engine.near_duplicates(photographs, choice, destination, job)


def _without(photographs: Photographs, gone: Collection[str]) -> Photographs:
    rest = DiskTable()
    for image in photographs:
        if image.path not in gone:
            rest.add(_place(image), image)
    return Photographs(rest, photographs.folder)


def _write(
    photographs: Photographs,
    tally: Tally,
    identity: Identity,
    destination: Destination,
    job: Job,
    replaces: bool,
) -> Conversion:
    """Writes the dataset into a hidden folder and, when it is whole and makes sense, moves it."""
    with job.engine.filling(photographs, tally, destination, job, writes=True) as into_shards:
        try:
            tally.check()
        except InputError as error:
            if replaces or not tally.findings:
                raise
            with destination.beside(REJECTED) as path:
                description.write_findings(path, tally)
            path = destination.side_path(REJECTED)
            raise InputError(f"{error} What could not be used is listed in {path}.") from error
        files = description.write(destination, tally, identity, into_shards(), job.whitening)
        destination.publish()
    return tally.conversion(files)


def _refuse_to_replace(destination: Destination, difference: str) -> None:
    if not (present := destination.files_in_the_way()):
        return
    what = f"a dataset {difference}" if difference else "not left by a finished conversion"
    raise InputError(
        f"{join(destination.folder, present[0])} is there already, {what}.",
        remedy="Replace it with --overwrite, or choose another place.",
    )
