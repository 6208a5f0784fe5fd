"""What each stage of a conversion costs with ten million photographs, which are listed, not made.

python -m benchmarks.scale --images=10000000

A generated listing goes through the conversion's own code: the list on the disk, its order, the
count of classes, the look at each file's size and time, splits, duplicates, shards, dataset.json,
and a training's look at all of it. What is left out is what photographs are needed for: reading,
checking and encoding one, which `benchmarks/conversion.py` measures. Records hold a few bytes, and
a shard as many of them as there were photographs in 128 MiB. A tenth of the listing goes first,
in a process of its own: memory is flat where both need the same.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import command_line
from foundation.options import Options, option, options


@options
class ScaleBenchmark(Options):
    """What is listed."""

    images: int = option(10_000_000, "Photographs of the larger listing.", bounds=(10, None))
    classes: int = option(21_841, "Their classes.", bounds=(2, None))
    kib: int = option(90, "Size of a photograph, which decides how many a shard holds.")
    folder: str | None = option(
        None, "Where the shards are made, and removed again; unset: a temporary one.", path=True
    )
    alone: bool = option(False, "For the processes: one listing, its rows as JSON.")


def listing(count: int, num_classes: int) -> Iterator:
    """The photographs as a folder a class would give them."""
    from datasets.schema import LabeledImage

    for i in range(count):
        label = f"n{i * num_classes // count:08}"
        yield LabeledImage(f"{label}/{label}_{i}.JPEG", label)


class Stages:
    """Takes the times of one stage after the other, and the most memory up to its end."""

    def __init__(self):
        self.rows: list[tuple[str, float, float, float]] = []
        self._began = self._now()

    def end(self, name: str) -> None:
        now = self._now()
        spent = [after - before for after, before in zip(now, self._began, strict=True)]
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.rows.append((name, *spent, most))
        self._began = now

    def _now(self) -> tuple[float, float]:
        """Of the clock, and of the processor."""
        return time.perf_counter(), time.process_time()


def convert(given: ScaleBenchmark, folder: str) -> list[tuple[str, float, float, float]]:
    """Takes a listing through the stages; returns names, both seconds, and MiB at most."""
    from datasets import tfrecord_dataset
    from datasets.conversion import description, shards
    from datasets.conversion.destination import Destination
    from datasets.conversion.tally import Tally
    from datasets.disk_table import DiskTable
    from datasets.options import ConversionOptions, DestinationOptions
    from datasets.sources.image_folder import ImageFolder

    stages, table = Stages(), DiskTable()
    for image in listing(given.images, given.classes):
        table.add(hashlib.sha256(image.path.encode()).digest(), image)
    stages.end("list")
    wish = DestinationOptions(output_dir=folder, dataset_name="listed")
    tally = Tally(table.by_key(), [], (), wish, ConversionOptions())
    stages.end("order, classes")
    source = description.fingerprint(table.by_key(), ImageFolder(folder))
    stages.end("size and time of each file")
    destination = Destination.of(wish)
    example = record(b"")
    shards.SHARD_BYTES = shards.SHARD_BYTES * len(example.framed) // (given.kib << 10)
    with destination.writing():
        writer = shards.ShardWriter(destination, 0)
        for image in table.by_key():
            made = record(hashlib.sha256(image.path.encode()[::-1]).digest())
            writer.add(tally.add(image, made), made.framed)
        stages.end("split, duplicates, shards")
        identity = description.Identity({}, tally.classes, source)
        description.write(destination, tally, identity, writer.name_shards(), None)
        destination.publish()
    stages.end("dataset.json, names")
    found = tfrecord_dataset.find(folder)
    stages.end(f"found again: {found.num_examples:,} to train on, {len(found.files):,} shards")
    return stages.rows


def record(digest: bytes):
    """What takes a record's place: nothing of a photograph but the digest of its bytes."""
    from datasets import schema
    from datasets.conversion.records import Record

    return Record(schema.frame(b"a few bytes"), digest, "JPEG", "jpeg", "", 375, 500, ())


def main(given: ScaleBenchmark) -> None:
    if given.alone:
        print(json.dumps(convert(given, given.folder)))
        return
    for count in (given.images // 10, given.images):
        with tempfile.TemporaryDirectory(dir=given.folder) as work:
            command = [sys.executable, "-m", "benchmarks.scale", "--alone", f"--folder={work}"]
            command += [f"--images={count}", f"--classes={given.classes}", f"--kib={given.kib}"]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows = json.loads(run.stdout)
            sizes = {name: os.path.getsize(f"{work}/{name}") for name in ("dataset.json",)}
        whole = "together", sum(row[1] for row in rows), sum(row[2] for row in rows), rows[-1][3]
        print(f"{count:,} photographs of {given.classes:,} classes")
        print(f"{'':<60}{'clock':>9}{'processor':>11}{'µs a file':>11}{'MiB at most':>13}")
        for name, clock, processor, most in [*rows, whole]:
            a_file = processor / count * 1e6
            print(f"{name:<60}{clock:>8.1f}s{processor:>10.1f}s{a_file:>11.1f}{most:>13.0f}")
        print(f"dataset.json: {sizes['dataset.json'] / 2**20:.1f} MiB\n", flush=True)


if __name__ == "__main__":
    command_line.run(main, ScaleBenchmark)
