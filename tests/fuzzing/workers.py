"""Feeds a reader many inputs in a process of its own, and watches what becomes of that.

A crash of the process, a trace, a second without an answer, a gibibyte more of memory, a file
opened or written elsewhere: each is a finding with its input. The process goes on with the next
input, in a new process where the former one is gone. Where the system can do it (Linux, x86-64),
the process that began it answers its system calls: see tests/fuzzing/system_calls.py.
"""

import collections
import contextlib
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
from multiprocessing.connection import Connection
from typing import NamedTuple

import hypothesis
from hypothesis.strategies import SearchStrategy

from foundation.errors import InputError
from tests import forked
from tests.fuzzing import mutations
from tests.fuzzing.guard import Guard
from tests.fuzzing.places import Places
from tests.fuzzing.system_calls import Overseer

MOST_SECONDS, MOST_MEMORY = 1.0, 1 << 30
# Without any answer for so long, the process is ended: others may have the processors.
_LONGEST_WAIT = 30.0
_STEP = 0.2  # seconds between two looks at it
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
    """What came out: how many inputs were read in how many seconds, and what did harm.

    `saw_all` says whether what compiled code asks of the system was looked at.
    """

    count: int
    seconds: float
    slowest: float
    memory: int
    findings: tuple[Finding, ...]
    saw_all: bool


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
        ours, theirs = forked.context().Pipe()
        given = (module, name, seed, range(next_one, end), place, theirs)
        process = forked.context().Process(target=_work, args=given)
        process.start()
        theirs.close()
        overseer = Overseer(ours, _places(place), board.reads)
        gone = _watch(process, board, overseer)
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
    seconds = time.monotonic() - began
    return Report(done, seconds, slowest, memory, tuple(findings), overseer.sees_all)


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

    def reads(self) -> int | None:
        """The number of the input that is being read now; None where none is."""
        _, number, reads, *_ = _HEADER.unpack(self._memory[: _HEADER.size])
        return number if reads else None

    def read(self) -> _State:
        *rest, length = _HEADER.unpack(self._memory[: _HEADER.size])
        return _State(*rest, self._memory[_HEADER.size : _HEADER.size + length])

    def close(self) -> None:
        self._memory.close()


def _places(place: pathlib.Path) -> Places:
    # The names of YOLO's classes are looked for up to two folders above.
    return Places([place / "inside", place / "tmp"], listed=[place])


def _watch(process, board: _Board, overseer: Overseer) -> str:
    """Waits for the end of a process; what its last input did to it, "" where that is nothing."""
    waited, last = 0.0, time.monotonic()
    began = board.read().began
    while process.exitcode is None:
        overseer.wait(process.sentinel, _STEP)
        now, state = time.monotonic(), board.read()
        # At most so much at a time: the whole machine may have stood still.
        waited = waited + min(now - last, 5 * _STEP) if state.began == began else 0.0
        last, began = now, state.began
        if state.reads and waited > _LONGEST_WAIT:
            process.kill()
            process.join()
            break
    overseer.close()
    last = board.read()
    if not last.reads:
        return ""
    refused = overseer.refused.get(last.number, "")
    after = refused and f" after {refused} was refused"
    if waited > _LONGEST_WAIT:
        return f"hung: no answer in {_LONGEST_WAIT:g} s{after}"
    return f"the process died with exit code {process.exitcode}{after}" if process.exitcode else ""


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


def _work(
    module: str, name: str, seed: int, numbers: range, place: pathlib.Path, overseer: Connection
) -> None:
    """A process: reads inputs of these numbers, and those that Hypothesis thinks of between."""
    os.environ.update(TMPDIR=str(place / "tmp"), HOME=str(place / "tmp"))
    for folder in ("tmp", "inside", "outside"):
        (place / folder).mkdir()
    tempfile.tempdir = None  # it was known before
    hypothesis.configuration.set_hypothesis_home_dir(place / "tmp")
    os.chdir(place / "outside")  # what is looked for in the working folder is seen
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    with open(place / "noise.txt", "wb") as noise:  # of TIFF's and TensorFlow's own code
        for stream in (1, 2):
            os.dup2(noise.fileno(), stream)
    try:
        reading = _Reading(module, name, place, overseer)
    except BaseException:
        (place / "error.txt").write_text(traceback.format_exc())
        raise
    number, end = numbers.start, numbers.stop
    while number < end and reading.goes_on:
        if reading.target.strategy and number // _FROM_HYPOTHESIS % 2:
            wanted = min(_FROM_HYPOTHESIS, end - number)
            reading.hypothesis_inputs(number, wanted, seed)
            number += wanted
        else:
            reading.one(number, reading.mutated(number, seed))
            number += 1
    reading.finish(number)


class _Outcome(NamedTuple):
    """Seconds that pass and that processors work, and what went wrong."""

    wall: float
    busy: float
    problem: str
    trace: str


class _Reading:
    """One target in one process, and what it has found."""

    def __init__(self, module: str, name: str, place: pathlib.Path, overseer: Connection):
        self.target: Target = __import__(module, fromlist=["TARGETS"]).TARGETS[name]
        self._place, self._board, self._done = place, _Board(place / "board"), 0
        self._sound, self._read = self.target.prepare(place / "inside")
        for data in self._sound:
            for _ in range(2):  # what is imported and compiled is so now
                self._read(data)
        self.guard = Guard(_places(place), overseer)
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
        outcome = self._outcome(number, data)
        self._slowest = max(self._slowest, min(outcome.wall, outcome.busy))
        problems = [outcome.problem or self._slowness(number, data, outcome)]
        if (more := _memory() - self._at_first) > MOST_MEMORY:
            problems.append(f"took {more >> 20} MiB more")
            self.goes_on = False  # the peak of a process never falls
        self._done += 1
        self._board.write(self._done, number + 1, False, data)
        if problem := "; ".join(filter(None, problems)):
            self._keep(number, problem, outcome.trace, data)

    def _outcome(self, number: int, data: bytes) -> _Outcome:
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
        self._board.write(self._done, number, False, data)
        # What was refused may have become the error.
        problem = next(iter(self.guard.taken()), problem)
        return _Outcome(wall, busy, problem, trace)

    def _slowness(self, number: int, data: bytes, first: _Outcome) -> str:
        """What to say of an input that took long; "" where it waited for a processor or a disk."""
        if min(first.wall, first.busy) > MOST_SECONDS:
            return f"took {first.wall:.1f} s"
        if first.wall <= MOST_SECONDS:
            return ""
        queued = _queued()
        again = self._outcome(number, data)
        queued = sum(now - queued.get(thread, 0.0) for thread, now in _queued().items())
        stood = again.wall - again.busy - queued
        return f"stood still for {stood:.1f} s, twice" if stood > MOST_SECONDS else ""

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


def _queued() -> dict[str, float]:
    """Seconds that each thread of this process has waited for a processor."""
    found = {}
    for thread in pathlib.Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended
            found[thread.parent.name] = int(thread.read_text().split()[1]) / 1e9
    return found
