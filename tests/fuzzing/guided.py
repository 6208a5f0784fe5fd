"""Fuzzing that follows which lines of ours an input reaches, by Atheris, for one target.

    python -m tests.fuzzing.guided csv -runs=100000

It needs the extra `fuzz`. Further options are libFuzzer's. It ends at the first input that does
harm, and says which one that is. Checksums are mended, so that what stands behind them is read.
"""

import mmap
import multiprocessing
import os
import pathlib
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection

import atheris
import tensorflow  # noqa: F401 - before what is instrumented

with atheris.instrument_imports(
    include=["datasets", "foundation", "nets", "preprocessing", "runs", "serving"]
):
    from foundation.errors import InputError
    from tests.fuzzing import data_targets, harmful, net_targets
    from tests.fuzzing.guard import Guard
    from tests.fuzzing.places import Places
    from tests.fuzzing.system_calls import Overseer
    from tests.fuzzing.workers import MOST_MEMORY, MOST_SECONDS, Target

TARGETS = {**data_targets.TARGETS, **net_targets.TARGETS, **harmful.TARGETS}
_LONGEST_WAIT = 600  # seconds
_LONGEST_WORD = 64  # bytes that libFuzzer takes of a dictionary


def main() -> int:
    """Fuzzes the target that the command line names; returns the exit code."""
    target = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        for folder in ("inside", "outside", "tmp", "seeds"):
            (place / folder).mkdir()
        places = Places([place / "inside", place / "tmp"], listed=[place])
        is_read = mmap.mmap(-1, 1)  # which both processes see
        ours, theirs = multiprocessing.Pipe()
        forks = multiprocessing.get_context("fork")
        process = forks.Process(target=_fuzz, args=(target, place, places, theirs, is_read))
        process.start()
        theirs.close()
        overseer = Overseer(ours, places, lambda: 0 if is_read[0] else None)
        while process.exitcode is None:
            overseer.wait(process.sentinel, 1.0)
        overseer.close()
    return process.exitcode


def _fuzz(
    target: Target, place: pathlib.Path, places: Places, overseer: Connection, is_read: mmap.mmap
) -> None:
    os.environ.update(TMPDIR=str(place / "tmp"), HOME=str(place / "tmp"))
    tempfile.tempdir = None  # it was known before
    warnings.simplefilter("ignore")
    sound, read = target.prepare(place / "inside")
    for number, data in enumerate(sound):
        (place / "seeds" / str(number)).write_bytes(data)
        for _ in range(2):  # what is imported and compiled is so now
            read(data)
    # libFuzzer takes no dictionary without words.
    (place / "words").write_text("\n".join([*_dictionary(target), '"0"']))
    guard = Guard(places, overseer)

    def one(data: bytes) -> None:
        data = target.mend(data) if target.mend else data
        wall, busy = time.monotonic(), time.process_time()
        guard.on, is_read[0] = True, 1
        try:
            read(data)
        except InputError:
            pass
        finally:
            guard.on, is_read[0] = False, 0
        wall, busy = time.monotonic() - wall, time.process_time() - busy
        if min(wall, busy) > MOST_SECONDS:  # not while it only waited for a processor
            raise AssertionError(f"took {wall:.1f} s")
        if found := guard.taken():
            raise AssertionError(found[0])

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MOST_MEMORY
    # Its alarm, every half of that time, would interrupt a call that waits for its answer.
    limits = (
        f"-timeout={_LONGEST_WAIT}",
        f"-rss_limit_mb={memory >> 20}",
        f"-dict={place / 'words'}",
    )
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:], str(place / "seeds")], one)
    atheris.Fuzz()


def _dictionary(target: Target) -> Iterator[str]:
    """The words of a target, as libFuzzer reads them."""
    for word in target.words:
        if 0 < len(word) <= _LONGEST_WORD:
            yield '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"'


if __name__ == "__main__":
    sys.exit(main())
