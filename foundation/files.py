"""Files that are whole or not there, and folders that one process at a time may write."""

import contextlib
import os
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def whole(path: str | os.PathLike, mode: str = "w", **how) -> Iterator[IO]:
    """Opens a file that takes the name `path` when the block ends without an error.

    Until then it has a temporary name in the same folder; after an error that file is removed and
    what was at `path` is untouched. Text is UTF-8; `how` goes to `open`.

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
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(partial)
        if isinstance(error, OSError) and error.strerror and error.filename in (None, partial):
            error.filename = path  # the error of a full disk names no file
        raise


def check_is_name(name: object) -> None:
    """Raises ValueError for what is no name of a file in a folder, but a path or no text at all."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(f"{str(name)[:80]!r} is no name of a file")


def check_is_inside(path: object) -> None:
    """Raises ValueError for what is no relative path, or one that leads out of its folder."""
    parts = path.split("/") if isinstance(path, str) else [path]
    for part in parts:
        check_is_name(part)


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of a folder or a file while the block runs; a file is made and stays.

    The kernel drops the lock with the process, however that ends. Systems without `fcntl`
    (Windows) and file systems without locks have none: there nothing keeps a second process out.

    Raises:
      BlockingIOError: another process holds it.
      OSError: the file can't be made.
    """
    flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags, 0o666)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
