"""Files that are whole or not there, and folders that one process at a time may write."""

import contextlib
import os
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def whole(path: str | os.PathLike, mode: str = "w", **how) -> Iterator[IO]:
    """Opens a file that takes the name `path` when the block ends without an error.

    Until then it has a temporary name beside it; after an error that file is removed and what was
    at `path` is untouched. Text is UTF-8; `how` goes to `open`.

    Raises:
      OSError: it could not be written.
    """
    path = os.fspath(path)
    partial = f"{path}.{os.getpid()}.tmp"
    if "b" not in mode:
        how = {"encoding": "utf-8", **how}
    try:
        with open(partial, mode, **how) as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of the file `path` while the block runs; the file is made and stays.

    The kernel drops the lock with the process, however that ends. Systems without `fcntl`
    (Windows) have no such lock: there nothing keeps a second process out.

    Raises:
      BlockingIOError: another process holds it.
      OSError: the file can't be made.
    """
    with open(path, "a", encoding="utf-8") as file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
