"""How long training waits for a checkpoint to be written, and how long a start takes to read it.

python -m benchmarks.checkpoints --parameters=68300000

The numbers are random. "On the disk" is the part of writing in which the system waits for the
disk itself; reading finds the file in the system's cache.
"""

import os
import tempfile
import time
from unittest import mock

import command_line
from foundation.options import Options, option, options

_VARIABLES = 160  # of a net


@options
class CheckpointBenchmark(Options):
    """What is written."""

    parameters: int = option(68_300_000, "Of the net: ResNet-50's with 21,841 classes.")
    numbers: int = option(4, "For each: the weight, and what optimizer and averages keep.")
    turns: int = option(5, "Checkpoints.", bounds=(1, None))
    folder: str | None = option(
        None, "Where they are written, and removed again; unset: a temporary one.", path=True
    )


def main(given: CheckpointBenchmark) -> None:
    command_line.load_tensorflow()
    import numpy as np
    import tensorflow as tf

    from foundation import files
    from nets import checkpoints

    rng, size = np.random.default_rng(0), given.parameters // _VARIABLES
    values = {
        f"block_{i}/weights/{j}": tf.constant(rng.standard_normal(size, np.float32))
        for i in range(_VARIABLES)
        for j in range(given.numbers)
    }
    waited, settle = [], files.settle

    def timed(path):
        began = time.perf_counter()
        settle(path)
        waited.append(time.perf_counter() - began)

    print(f"{len(values) * size * 4 / 1e9:.2f} GB in {len(values)} variables")
    print(f"{'written':>10}{'on the disk':>14}{'read':>8}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for turn in range(given.turns):
            prefix, times = os.path.join(folder, f"model.ckpt-{turn}"), [time.perf_counter()]
            waited.clear()
            with mock.patch.object(files, "settle", timed):
                checkpoints.write(prefix, values, keep=2)
            times.append(time.perf_counter())
            reader = checkpoints.read(prefix)
            for name in reader.names:
                reader.get(name)
            times.append(time.perf_counter())
            written, read = np.diff(times)
            print(f"{written:>9.2f}s{sum(waited):>13.2f}s{read:>7.2f}s", flush=True)


if __name__ == "__main__":
    command_line.run(main, CheckpointBenchmark)
