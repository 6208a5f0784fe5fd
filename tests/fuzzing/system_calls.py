"""One process looks at what another asks the kernel for: files, programs, connections.

Python's own hook sees what Python does. What TensorFlow's, HDF5's and Pillow's compiled code does,
the kernel alone sees: it lets the calls named here wait until the other process has looked at them
(seccomp_unotify(2)).
"""

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from multiprocessing import connection, reduction
from typing import NamedTuple

from tests import seccomp
from tests.fuzzing.places import WRITING, Places


class _Call(NamedTuple):
    """A system call.

    Attributes:
      name: as in its manual.
      paths: of each path, the numbers of the arguments that hold its folder and itself; None is the
        working folder.
      flags: number of the argument that says whether an open file is written; None: it writes.
    """

    name: str
    paths: tuple[tuple[int | None, int], ...]
    flags: int | None = None


_FIRST, _AT, _BOTH = ((None, 0),), ((0, 1),), ((None, 0), (None, 1))
# By their numbers on x86-64.
_ON_FILES = {
    2: _Call("open", _FIRST, 1),
    257: _Call("openat", _AT, 2),
    437: _Call("openat2", _AT),
    76: _Call("truncate", _FIRST),
    82: _Call("rename", _BOTH),
    83: _Call("mkdir", _FIRST),
    84: _Call("rmdir", _FIRST),
    85: _Call("creat", _FIRST),
    87: _Call("unlink", _FIRST),
    90: _Call("chmod", _FIRST),
    92: _Call("chown", _FIRST),
    94: _Call("lchown", _FIRST),
    133: _Call("mknod", _FIRST),
    188: _Call("setxattr", _FIRST),
    258: _Call("mkdirat", _AT),
    259: _Call("mknodat", _AT),
    260: _Call("fchownat", _AT),
    263: _Call("unlinkat", _AT),
    264: _Call("renameat", ((0, 1), (2, 3))),
    268: _Call("fchmodat", _AT),
    316: _Call("renameat2", ((0, 1), (2, 3))),
    452: _Call("fchmodat2", _AT),
}
# Whatever of these happens, a file has made the program do something.
_NEVER = {
    **{42: "connect", 49: "bind", 59: "execve", 322: "execveat", 62: "kill", 80: "chdir"},
    **{81: "fchdir", 86: "link", 265: "linkat", 88: "symlink", 266: "symlinkat"},
    **{101: "ptrace", 165: "mount", 304: "open_by_handle_at", 425: "io_uring_setup"},
}
# ioctl_seccomp(2), struct seccomp_notif: key, thread, flags, number of the call, architecture,
# place of the instruction, six arguments. struct seccomp_notif_resp: key, result, error, flags.
_RECEIVE, _SEND, _GO_ON = 0xC0502100, 0xC0182101, 1
_WAITING, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_LONGEST_PATH = 4096


def listen(end: connection.Connection) -> bool:
    """Gives what this process asks for from now on to an `Overseer` at the other end.

    Returns:
      Whether the system can do that; without it, there is none to ask.
    """
    calls = [*_ON_FILES, *_NEVER]
    program = [(seccomp.LOAD, 0, 0, seccomp.NUMBER)]
    for i, call in enumerate(calls):
        program.append((seccomp.EQUAL, len(calls) - i, 0, call))
    program += [(seccomp.GIVE, 0, 0, seccomp.ALLOW), (seccomp.GIVE, 0, 0, seccomp.ASK)]
    try:
        listener = seccomp.install(program, listens=True) if seccomp.IS_KNOWN else 0
    except OSError:
        listener = 0
    end.send_bytes(b"1" if listener else b"0")
    if listener:
        reduction.send_handle(end, listener, None)
        os.close(listener)
    return bool(listener)


class Overseer:
    """Answers the calls of a process: what leads elsewhere is refused, and told to the process.

    Attributes:
      refused: by the numbers of inputs, what was refused.
    """

    def __init__(
        self, end: connection.Connection, places: Places, number: Callable[[], int | None]
    ):
        """
        Args:
          end: of a pipe; at the other one is `listen`.
          places: what may be read and written.
          number: of the input that the process reads now; None: it reads none, all is allowed.
        """
        self._end, self._places, self._number = end, places, number
        self.refused: dict[int, str] = {}
        self._listener: int | None = None
        self._source: connection.Connection | int | None = end  # where the next word comes from

    @property
    def sees_all(self) -> bool:
        """Whether the system lets it answer; known once the process has begun."""
        return self._listener is not None

    def wait(self, sentinel: int, seconds: float) -> None:
        """Waits for a call and answers it, or for the sentinel, or so long."""
        sources = [sentinel] if self._source is None else [sentinel, self._source]
        if self._source not in connection.wait(sources, seconds):
            return
        if self._listener is not None:
            self._answer()
            return
        try:
            sees_all = self._end.recv_bytes() == b"1"
            self._listener = reduction.recv_handle(self._end) if sees_all else None
        except EOFError:  # the process is gone
            pass
        self._source = self._listener

    def close(self) -> None:
        self._end.close()
        if self._listener is not None:
            os.close(self._listener)

    def _answer(self) -> None:
        waiting = bytearray(_WAITING.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, waiting)
            key, thread, _, call, _, _, *given = _WAITING.unpack(waiting)
            number = self._number()
            problem = "" if number is None else self._problem(thread, call, given)
            if problem:
                self.refused.setdefault(number, problem)
                self._end.send(problem)
            answer = (0, -errno.EACCES, 0) if problem else (0, 0, _GO_ON)
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(key, *answer))
        except OSError as error:
            if error.errno != errno.ENOENT:  # the process that asked is gone
                raise

    def _problem(self, thread: int, number: int, given: list[int]) -> str:
        if number in _NEVER:
            return f"{_NEVER[number]} (seen by the kernel)"
        call = _ON_FILES[number]
        writes = call.flags is None or bool(given[call.flags] & WRITING)
        for folder, path in call.paths:
            name = _text(thread, given[path])
            start = "cwd" if folder is None else _folder(given[folder])
            if not name.startswith("/"):
                name = os.path.join(os.readlink(f"/proc/{thread}/{start}"), name)
            if problem := self._places.problem(name, call.name, writes):
                return f"{problem} (seen by the kernel)"
        return ""


def _folder(argument: int) -> str:
    """What the argument for an open folder means, as a file in /proc."""
    number = argument & 0xFFFFFFFF
    return "cwd" if number == 2**32 - 100 else f"fd/{number}"


def _text(thread: int, address: int) -> str:
    """A path in the memory of another process; "" where none is there."""
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            return os.fsdecode(os.pread(memory.fileno(), _LONGEST_PATH, address).split(b"\0")[0])
    except (OSError, OverflowError):
        return ""
