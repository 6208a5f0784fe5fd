"""Plugs to pull: kills at any moment and at any change on the disk, and disks that fail.

What a process is to do to itself, it does in `first` of `forked.Script`, before its script begins.
"""

import ctypes
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from tests import seccomp
from tests.forked import Script

# Audit events of Python (docs.python.org/3/library/audit_events.html) that change a folder, besides
# opening to write. What TensorFlow's own code writes raises none.
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def moments(count: int, end: float, seed: int) -> list[float]:
    """Random moments in 0..end, one in each of `count` equal parts, so that they are spread."""
    return list((np.arange(count) + np.random.default_rng(seed).random(count)) * end / count)


def chosen(count: int, of: int, seed: int) -> list[int]:
    """So many different numbers of range(of), spread over it, in order; all where there are few."""
    return sorted({int(moment) for moment in moments(min(count, of), of, seed)})


def kill_after(seconds: float, script: str, *words: str, **options) -> int | None:
    """Runs a script that is killed after so many seconds; its exit code where it ended before."""
    process = Script(script, *words, **options)
    readers = [
        threading.Thread(target=one.read, daemon=True) for one in (process.stdout, process.stderr)
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(60)
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive(), "a process that it began goes on without it"
    return None if process.returncode == -signal.SIGKILL else process.returncode


def note_changes(folder: str, notes: str) -> None:
    """Writes a line to the file `notes` before each change that this process makes in `folder`."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT)
    _before_changes(folder, lambda change: os.write(file, f"{change}\n".encode()))


def at_change(folder: str, number: int, act: Callable[[], None]) -> None:
    """Calls `act` before this process makes its change `number`, from 0, in `folder`."""
    lock, left = threading.Lock(), iter(range(number, -1, -1))

    def count(change: str) -> None:
        with lock:
            due = next(left, None) == 0
        if due:
            act()

    _before_changes(folder, count)


def kill() -> None:
    """Ends this process as a pulled plug does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _before_changes(folder: str, act: Callable[[str], None]) -> None:
    def hook(event: str, args: tuple) -> None:
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & _TO_WRITE:
                return
        elif event not in _CHANGES:
            return
        paths = [os.fspath(a) for a in args if isinstance(a, str | os.PathLike)]
        if any(path.startswith(folder) for path in paths):
            act(f"{event} {' '.join(paths)}")

    sys.addaudithook(hook)


def obey_permissions() -> None:
    """Takes from this process root's right to write where the mode of a folder says no."""
    # capset(2): CAP_DAC_OVERRIDE is bit 1, CAP_DAC_READ_SEARCH bit 2.
    version_3 = 0x20080522
    header = struct.pack("Ii", version_3, 0)
    data = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp.checked(libc.capget(header, data))
    words = list(struct.unpack("6I", data.raw))
    words[0] &= ~0b110
    seccomp.checked(libc.capset(header, struct.pack("6I", *words)))


_WRITE, _PREAD, _PWRITE, _WRITEV = 1, 17, 18, 20  # numbers of system calls of x86-64
WRITES, READS = (_WRITE, _PWRITE, _WRITEV), (_PREAD,)


def fail_calls(calls: Sequence[int], error: int) -> None:
    """Has the system refuse this process these calls from now on, on all but its three streams.

    Args:
      calls: WRITES, or READS: those at a position, by which TensorFlow reads files.
      error: the number of the error that they give, such as errno.EIO.
    """
    # Skips over what remains of the program are counted in instructions.
    program = [(seccomp.LOAD, 0, 0, seccomp.NUMBER)]
    for i, call in enumerate(calls):
        program.append((seccomp.EQUAL, len(calls) - i, 0, call))
    program += [
        (seccomp.GIVE, 0, 0, seccomp.ALLOW),
        (seccomp.LOAD, 0, 0, seccomp.ARGUMENTS),  # the first, the file
        (seccomp.AT_LEAST, 1, 0, 3),
        (seccomp.GIVE, 0, 0, seccomp.ALLOW),
        (seccomp.GIVE, 0, 0, seccomp.REFUSE | error),
    ]
    seccomp.install(program)
