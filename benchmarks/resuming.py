"""How long a training takes to its first images when it resumes far into a large dataset.

python -m benchmarks.resuming --records=10000000 --at=0.9

The dataset is as large as it says, 0.76 TB by default, but lies on the disk twice only: its
shards are names of two files, of unequal numbers of records, which hold photographs of ImageNet's
size; dataset.json has what a conversion writes of them. Each row is a process of its own, from
which nothing is carried over but the system's cache. "Passed over" is what a resume had to read if
it did not jump: measured on as many of the records as `--through` says, and reckoned for all.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import command_line
from foundation.options import Options, option, options


@options
class ResumeBenchmark(Options):
    """What is measured."""

    records: int = option(10_000_000, "Records of the dataset.", bounds=(1, None))
    at: float = option(0.9, "Where in an epoch the training resumes.", bounds=(0, 1))
    batch_size: int = option(256, "Images a batch.", bounds=(1, None))
    turns: int = option(3, "Processes a row.", bounds=(1, None))
    through: int = option(100_000, "Records that are read through, for comparison.")
    compressed: bool = option(False, "gzip the shards.")
    folder: str | None = option(
        None, "Where the shards are made, and removed again; unset: a temporary one.", path=True
    )
    consumed: int | None = option(None, "For the processes: where to resume.")


# Records of the two files; about 84 MiB and 67 MiB.
_SIZES = (1_160, 920)
_CLASSES = 10


def write(folder: pathlib.Path, num_records: int, compressed: bool) -> None:
    """A dataset whose shards are names of two files, with its dataset.json and labels.txt."""
    import gzip

    import numpy as np

    from benchmarks import photographs
    from datasets import schema, tfrecord_dataset
    from datasets.conversion.shards import OpenShard

    rng = np.random.default_rng(0)
    pictures = [photographs.jpeg(rng) for _ in range(64)]
    opened = gzip.open if compressed else open
    described = []
    for i, size in enumerate(_SIZES):
        path = str(folder / f"original_{i}")
        with opened(path, "wb") as file:
            shard = OpenShard(path, file)
            for record in range(size):
                example = schema.Example(
                    pictures[record % len(pictures)],
                    "jpeg",
                    *(375, 500, record % _CLASSES, f"class {record % _CLASSES}"),
                    *(f"{record}.jpg", (), ""),
                )
                shard.add(schema.frame(example.serialize()))
        described.append((shard.described(""), os.path.getsize(path)))
    num_shards = 2 * num_records // sum(_SIZES)
    shards = []
    for i in range(num_shards):
        shard, num_bytes = described[i % 2]
        name = f"photographs_train-{i:05}-of-{num_shards:05}.tfrecord"
        os.link(folder / f"original_{i % 2}", folder / name)
        shards.append(shard._asdict() | {"file": name, "bytes": num_bytes})
    names = [f"class {i}" for i in range(_CLASSES)]
    (folder / "labels.txt").write_text("".join(f"{i}:{name}\n" for i, name in enumerate(names)))
    content = {"name": "photographs", "classes": names, "splits": {"train": {"shards": shards}}}
    (folder / "dataset.json").write_text(json.dumps(content))
    found = tfrecord_dataset.find(str(folder))
    print(
        f"{found.num_examples:,} records in {len(found.files):,} shards, "
        f"{found.num_bytes / 1e12:.2f} TB by name"
    )


def first_batch(folder: str, consumed: int, batch_size: int) -> dict[str, float]:
    """Seconds to find the dataset, to make the pipeline, and to the first batch of it."""
    import tensorflow as tf

    from datasets import batches, tfrecord_dataset

    began = time.perf_counter()
    dataset = tfrecord_dataset.find(folder)
    found = time.perf_counter()
    preparation = batches.Preparation(lambda encoded, boxes, seed: tf.strings.length(encoded))
    ds = batches.training_batches(dataset, preparation, batch_size, consumed=consumed)
    jumped = time.perf_counter()
    next(iter(ds))
    return {
        "find": found - began,
        "jump": jumped - found,
        "first": time.perf_counter() - jumped,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def read_through(folder: str, count: int) -> float:
    """Seconds a record, of records that are read and left."""
    import tensorflow as tf

    from datasets import tfrecord_dataset

    dataset = tfrecord_dataset.find(folder)
    records = tf.data.TFRecordDataset(list(dataset.files), dataset.compression, 2**20)
    began = time.perf_counter()
    next(iter(records.skip(count)))
    return (time.perf_counter() - began) / count


def main(given: ResumeBenchmark) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.consumed is not None:
        print(json.dumps(first_batch(given.folder, given.consumed, given.batch_size)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        write(pathlib.Path(work), given.records, given.compressed)
        print(f"\n{'resumed at':>12}{'find':>8}{'jump':>8}{'first batch':>20}{'MiB at most':>13}")
        for place in (0, given.at, 3 + given.at):
            consumed = int(place * given.records)
            command = [sys.executable, "-m", "benchmarks.resuming", f"--folder={work}"]
            command += [f"--consumed={consumed}", f"--batch_size={given.batch_size}"]
            for _ in range(given.turns):
                run = subprocess.run(command, check=True, capture_output=True, text=True)
                row = json.loads(run.stdout)
                print(
                    f"{consumed:>12,}{row['find']:>7.2f}s{row['jump']:>7.2f}s{row['first']:>19.2f}s"
                    f"{row['mib']:>13,.0f}"
                )
        a_record = read_through(work, given.through)
        passed = given.at * given.records
        print(
            f"\nReading the {passed:,.0f} records that are passed over: {a_record * passed:,.0f} s"
        )
        print(f"({a_record * 1e6:.1f} µs each, of {given.through:,} from the system's cache).")


if __name__ == "__main__":
    command_line.run(main, ResumeBenchmark)
