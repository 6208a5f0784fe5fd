"""Feeds a reader many inputs in a process of its own, and watches what becomes of that.

A crash of the process, a trace, a second without an answer, a gibibyte more of memory, a file
opened or written elsewhere: each is a finding with its input. The process goes on with the next
input, in a new process where the former one is gone.
"""

import collections
import dataclasses
import json
import mmap
import os
import pathlib
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import hypothesis
from hypothesis.strategies import SearchStrategy

from foundation.errors import InputError
from tests import forked
from tests.fuzzing import mutations
from tests.fuzzing.guard import Guard

MOST_SECONDS, MOST_MEMORY = 1.0, 1 << 30
# Without any answer for so long, the process is ended: others may have the processors.
_LONGEST_WAIT = 30.0
# Inputs of one process, so that what TensorFlow keeps of each graph does not pile up.
_PER_PROCESS = 20_000
_FROM_HYPOTHESIS = 250  # inputs in a row
_MOST_FINDINGS = 25
_ALIKE = 2  # findings at the same line that are kept
# Inputs done, number of the next or the present one, whether it is being read, since when, length.
_HEADER = struct.Struct("<qq?dI")

# From one input to nothing; raises InputError for what it refuses.
Read = Callable[[bytes], None]


@dataclasses.dataclass(frozen=True)
class Target:
    """What reads files of strangers.

    Attributes:
      prepare: in an empty folder, makes what is needed beside the input, and returns sound inputs
        and what reads one.
      strategy: gives Hypothesis' strategy for inputs; None where there is none.
      mend: makes checksums right again after a mutation; it is applied to every other one.
      words: to be put into inputs; see `mutations.mutated`.
    """

    prepare: Callable[[pathlib.Path], tuple[list[bytes], Read]]
    strategy: Callable[[], SearchStrategy[bytes]] | None = None
    mend: Callable[[bytes], bytes] | None = None
    words: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """An input that did harm, and what it did."""

    number: int
    problem: str
    trace: str
    data: bytes

    def __str__(self) -> str:
        start = f"{self.data[:200]!r}{'…' if self.data[200:] else ''}"
        return f"input {self.number}: {self.problem}\n{self.trace}{len(self.data)} bytes: {start}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What came out: how many inputs were read in how many seconds, and what did harm."""

    count: int
    seconds: float
    slowest: float
    memory: int
    findings: tuple[Finding, ...]


def fuzz(module: str, name: str, count: int, folder: pathlib.Path, seed: int = 0) -> Report:
    """Reads `count` inputs.

    Args:
      module, name: where the target is: a table TARGETS, and its key there.
      count: number of inputs; equal seeds give equal ones.
      folder: empty; what is read and written lies in it.
      seed: of the random numbers.
    """
    began, done, next_one = time.monotonic(), 0, 0
    findings: list[Finding] = []
    slowest, memory = 0.0, 0
    while done < count and len(findings) < _MOST_FINDINGS:
        place = folder / str(next_one)
        place.mkdir(parents=True)
        board = _Board(place / "board", next_one)
        end = next_one + min(count - done, _PER_PROCESS)
        given = (module, name, seed, next_one, end, place)
        process = forked.context().Process(target=_work, args=given)
        process.start()
        gone = _watch(process, board)
        findings += _kept(place)
        here = board.read()
        if gone:
            findings.append(Finding(here.number, gone, _noise(place), here.data))
        elif not here.done:
            raise AssertionError(f"{name}: nothing was read: {_error(place)}")
        done, next_one = done + here.done + bool(gone), here.number + bool(gone)
        if (place / "figures.json").exists():
            figures = json.loads((place / "figures.json").read_text())
            slowest, memory = max(slowest, figures[0]), max(memory, figures[1])
        board.close()
        shutil.rmtree(place)
    return Report(done, time.monotonic() - began, slowest, memory, tuple(findings))


class _State(NamedTuple):
    """See `_HEADER`."""

    done: int
    number: int
    reads: bool
    began: float
    data: bytes


class _Board:
    """The input that is being read, where both processes see it."""

    def __init__(self, path: pathlib.Path, first: int | None = None):
        size = _HEADER.size + 4 * mutations.MOST_BYTES
        if first is not None:
            path.write_bytes(b"\0" * size)
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        if first is not None:
            self.write(0, first, False)

    def write(self, done: int, number: int, reads: bool, data: bytes = b"") -> None:
        data = data[: 4 * mutations.MOST_BYTES]
        self._memory[_HEADER.size : _HEADER.size + len(data)] = data
        header = _HEADER.pack(done, number, reads, time.monotonic(), len(data))
        self._memory[: _HEADER.size] = header

    def read(self) -> _State:
        *rest, length = _HEADER.unpack(self._memory[: _HEADER.size])
        return _State(*rest, self._memory[_HEADER.size : _HEADER.size + length])

    def close(self) -> None:
        self._memory.close()


def _watch(process, board: _Board) -> str:
    """Waits for the end of a process; what its last input did to it, "" where that is nothing."""
    while process.exitcode is None:
        process.join(0.2)
        now = board.read()
        if now.reads and time.monotonic() - now.began > _LONGEST_WAIT:
            process.kill()
            process.join()
            return f"hung: no answer in {_LONGEST_WAIT:g} s"
    if process.exitcode and board.read().reads:
        return f"the process died with exit code {process.exitcode}"
    return ""


def _noise(place: pathlib.Path) -> str:
    """The last that was said on standard error."""
    text = (place / "noise.txt").read_text(errors="replace")
    return "".join(f"  {line}\n" for line in text.splitlines()[-5:])


def _error(place: pathlib.Path) -> str:
    path = place / "error.txt"
    return path.read_text() if path.exists() else f"it died\n{_noise(place)}"


def _kept(place: pathlib.Path) -> Iterator[Finding]:
    for path in sorted(place.glob("finding_*.json")):
        found = json.loads(path.read_text())
        yield Finding(**{**found, "data": bytes.fromhex(found["data"])})


def _work(module: str, name: str, seed: int, first: int, end: int, place: pathlib.Path) -> None:
    """A process: reads the inputs `first` to `end`, and those that Hypothesis thinks of between."""
    os.environ.update(TMPDIR=str(place / "tmp"), HOME=str(place / "tmp"))
    for folder in ("tmp", "inside", "outside"):
        (place / folder).mkdir()
    tempfile.tempdir = None  # it was known before
    hypothesis.configuration.set_hypothesis_home_dir(place / "tmp")
    warnings.simplefilter("ignore")
    with open(place / "noise.txt", "wb") as noise:  # of TIFF's and TensorFlow's own code
        for stream in (1, 2):
            os.dup2(noise.fileno(), stream)
    try:
        reading = _Reading(module, name, place)
    except BaseException:
        (place / "error.txt").write_text(traceback.format_exc())
        raise
    number = first
    while number < end and reading.goes_on:
        if reading.target.strategy and number // _FROM_HYPOTHESIS % 2:
            wanted = min(_FROM_HYPOTHESIS, end - number)
            reading.hypothesis_inputs(number, wanted, seed)
            number += wanted
        else:
            reading.one(number, reading.mutated(number, seed))
            number += 1
    reading.finish(number)


class _Reading:
    """One target in one process, and what it has found."""

    def __init__(self, module: str, name: str, place: pathlib.Path):
        self.target: Target = __import__(module, fromlist=["TARGETS"]).TARGETS[name]
        self._place, self._board, self._done = place, _Board(place / "board"), 0
        self._sound, self._read = self.target.prepare(place / "inside")
        for data in self._sound:
            for _ in range(2):  # what is imported and compiled is so now
                self._read(data)
        self.guard = Guard([place / "inside", place / "tmp"], place / "outside")
        self._seen: collections.Counter = collections.Counter()
        self._at_first, self._slowest = _memory(), 0.0
        self.goes_on = True

    def mutated(self, number: int, seed: int) -> bytes:
        chance = random.Random(f"{seed} {number}")
        data = chance.choice(self._sound)
        data = mutations.mutated(data, self._sound, self.target.words, chance)
        return self.target.mend(data) if self.target.mend and number % 2 else data

    def hypothesis_inputs(self, number: int, count: int, seed: int) -> None:
        """Up to `count` inputs; Hypothesis ends sooner where it knows no more."""

        @hypothesis.seed(seed + number)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(self.target.strategy())
        def test(data):
            self.one(number, data)

        test()

    def one(self, number: int, data: bytes) -> None:
        """Reads an input."""
        if not self.goes_on:
            return
        self._board.write(self._done, number, True, data)
        wall, busy, problem, trace = time.monotonic(), time.process_time(), "", ""
        self.guard.on = True
        try:
            self._read(data)
        except InputError as error:
            str(error).encode(errors="replace")
        except BaseException as error:
            where = [one for one in traceback.extract_tb(error.__traceback__)]
            problem = f"{type(error).__name__}: {str(error)[:200]}"
            trace = "".join(traceback.format_list(where[-4:]))
        self.guard.on = False
        wall, busy = time.monotonic() - wall, time.process_time() - busy
        self._slowest = max(self._slowest, min(wall, busy))
        if min(wall, busy) > MOST_SECONDS:  # not while it only waited for a processor
            problem = problem or f"took {wall:.1f} s"
        if _memory() - self._at_first > MOST_MEMORY:
            problem = problem or f"took {(_memory() - self._at_first) >> 20} MiB more"
            self.goes_on = False  # the peak of a process never falls
        for done in self.guard.taken():
            problem = problem or done
        self._done += 1
        self._board.write(self._done, number + 1, False, data)
        if problem:
            self._keep(number, problem, trace, data)

    def _keep(self, number: int, problem: str, trace: str, data: bytes) -> None:
        kind = trace or problem.split(" ")[0]
        self._seen[kind] += 1
        if self._seen[kind] > _ALIKE:
            return
        found = {"number": number, "problem": problem, "trace": trace, "data": data.hex()}
        count = sum(1 for _ in self._place.glob("finding_*.json"))
        (self._place / f"finding_{count:03}.json").write_text(json.dumps(found))

    def finish(self, number: int) -> None:
        """Ends the process; `number` is that of the next input."""
        self._board.write(self._done, number, False)
        figures = [self._slowest, _memory() - self._at_first]
        (self._place / "figures.json").write_text(json.dumps(figures))
        sys.stdout.flush()
        os._exit(0)  # threads of TensorFlow's need not be waited for


def _memory() -> int:
    """The most bytes that this process has held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
