"""Watches what a process opens, writes and starts while it reads files of strangers."""

import os
import sys
import threading
from multiprocessing import connection

from tests.fuzzing import system_calls
from tests.fuzzing.places import WRITING, Places

# Whatever of these happens, a file has made the program do something.
_NEVER = {
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"),
    *("os.link", "os.symlink", "os.chmod", "os.chown", "os.kill", "webbrowser.open", "os.putenv"),
    "os.chdir",
}
_READS = {"os.listdir", "os.scandir"}
_WRITES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}


class Guard:
    """Notes what must not happen while it is on.

    Attributes:
      on: whether notes are taken of what Python does.
      sees_all: whether notes are taken of what compiled code does, too; an `Overseer` says when.
    """

    def __init__(self, places: Places, end: connection.Connection):
        """What is set up here stays with the process.

        Args:
          places: what may be read and written.
          end: of a pipe with an `Overseer` at the other one.
        """
        self.on = False
        self._places, self._end = places, end
        self._found: list[str] = []
        self._busy = threading.local()
        self.sees_all = system_calls.listen(end)
        sys.addaudithook(self._hook)

    def taken(self) -> list[str]:
        """What has happened since the last call, a line each."""
        found, self._found = self._found, []
        while self.sees_all and self._end.poll():
            found.append(self._end.recv())
        return found

    def _hook(self, event: str, given: tuple) -> None:
        if not self.on or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            if problem := self._problem(event, given):
                self._found.append(problem)
        finally:
            self._busy.now = False

    def _problem(self, event: str, given: tuple) -> str:
        if event == "open":
            path, _, flags = given
            writes = bool((flags or 0) & WRITING)
            return self._outside(path, "wrote" if writes else "read", writes)
        if event in _READS:
            return self._outside(given[0] or ".", event, False)
        if event in _WRITES:
            path, folder = given[0], given[-1]  # of an open folder, or -1
            if isinstance(folder, int) and folder >= 0:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
            target = given[1] if event == "os.rename" else path
            return self._outside(path, event, True) or self._outside(target, event, True)
        if event == "pickle.find_class" and not str(given[0]).startswith("datasets."):
            return f"unpickled {given[0]}.{given[1]}"
        return f"{event} {given}"[:200] if event in _NEVER else ""

    def _outside(self, path, done: str, writes: bool) -> str:
        is_name = isinstance(path, str | bytes | os.PathLike)  # else an open file
        return self._places.problem(path, done, writes) if is_name else ""
