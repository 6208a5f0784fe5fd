"""Watches what a process opens, writes and starts while it reads files of strangers."""

import ctypes
import os
import struct
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence

# Whatever of these happens, a file has made the program do something.
_NEVER = {
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"),
    *("os.link", "os.symlink", "os.chmod", "os.chown", "os.kill", "webbrowser.open", "os.putenv"),
}
_WRITES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What TensorFlow's and HDF5's own code opens no hook of Python's sees, but the kernel does.
_IN_OPEN, _IN_CREATE, _IN_NONBLOCK = 0x20, 0x100, 0o4000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name behind it
_REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Guard:
    """Notes what must not happen while it is on.

    Attributes:
      found: what has happened, a line each.
      on: whether notes are taken.
    """

    def __init__(self, allowed: Sequence[str], forbidden: str):
        """The hook stays with the process.

        Args:
          allowed: folders that may be read and written.
          forbidden: a folder that nothing may open a file in.
        """
        self.found: list[str] = []
        self.on = False
        self._writable = tuple(os.path.join(os.path.realpath(one), "") for one in allowed)
        libraries = {sys.prefix, sys.base_prefix, _REPOSITORY, *sysconfig.get_paths().values()}
        system = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/etc/localtime", "/etc/mime")
        self._readable = (*self._writable, *(os.path.realpath(one) for one in libraries), *system)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._events = self._libc.inotify_init1(_IN_NONBLOCK)
        forbidden = os.path.realpath(forbidden)
        watch = self._libc.inotify_add_watch(
            self._events, os.fsencode(forbidden), _IN_OPEN | _IN_CREATE
        )
        if self._events < 0 or watch < 0:
            raise OSError(ctypes.get_errno(), "inotify", forbidden)
        self._busy = threading.local()
        sys.addaudithook(self._hook)

    def taken(self) -> list[str]:
        """What has happened since the last call."""
        self.found += [f"opened {name} outside (seen by the kernel)" for name in self._opened()]
        found, self.found = self.found, []
        return found

    def _opened(self) -> Iterator[str]:
        """Names of what was opened or made in the forbidden folder; whoever lists it opens none."""
        try:
            events = os.read(self._events, 1 << 16)
        except BlockingIOError:
            return
        while events:
            *_, length = _EVENT.unpack_from(events)
            end = _EVENT.size + length
            if name := events[_EVENT.size : end].rstrip(b"\0"):
                yield os.fsdecode(name)
            events = events[end:]

    def _hook(self, event: str, given: tuple) -> None:
        if not self.on or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            if problem := self._problem(event, given):
                self.found.append(problem)
        finally:
            self._busy.now = False

    def _problem(self, event: str, given: tuple) -> str:
        if event == "open":
            path, _, flags = given
            if not isinstance(path, str | bytes | os.PathLike):
                return ""
            writes = (flags or 0) & _WRITING
            return self._outside(path, "wrote" if writes else "read", bool(writes))
        if event in _WRITES:
            path, folder = given[0], given[-1]  # of an open folder, or -1
            if isinstance(folder, int) and folder >= 0:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
            return self._outside(path, event, True)
        if event == "pickle.find_class" and not str(given[0]).startswith("datasets."):
            return f"unpickled {given[0]}.{given[1]}"
        return f"{event} {given}"[:200] if event in _NEVER else ""

    def _outside(self, path, done: str, writes: bool) -> str:
        if isinstance(path, int):
            return ""
        place = os.path.realpath(os.fsdecode(path))
        within = os.path.join(place, "").startswith(self._writable if writes else self._readable)
        if place == os.devnull or within:
            return ""
        return f"{done} {place}"
