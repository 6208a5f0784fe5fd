"""Files that are whole or not there, and folders that one process at a time may write."""

import atexit
import contextlib
import errno
import os
import platform
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO

from foundation.errors import Unreadable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What a system says of a file itself, and will say again. All else is of the disk, the connection
# or the process: EIO, ESTALE, ENOTCONN, ENXIO, ETIMEDOUT, EMFILE, ENOMEM, …
_OF_A_FILE = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,  # a name that the file system can't have
    errno.EILSEQ,
    errno.EFBIG,
    errno.EOVERFLOW,
}


@contextlib.contextmanager
def readable(path: str | os.PathLike) -> Iterator[None]:
    """Tells a block that reads a file apart from the file where the machine is what fails.

    Raises:
      Unreadable: the disk, the connection or the process failed. Other kinds of OSError, such as
        that there is no such file, are raised as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno in _OF_A_FILE:
            raise
        raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike, error: OSError) -> Unreadable:
    """What to say of a file that could not be read, by no fault of its own."""
    return Unreadable(
        f"{os.fspath(path)}: {error.strerror or error}. Check the disk or the connection, and run "
        "the same command again. If only this file is damaged, move it away."
    )


@contextlib.contextmanager
def opened(path: str | os.PathLike, mode: str = "r", **how) -> Iterator[IO]:
    """Opens a file to be read; raises what `readable` does. `how` goes to `open`."""
    with readable(path), open(path, mode, **how) as file:
        yield file


def status(path: str | os.PathLike) -> os.stat_result | None:
    """What a path leads to; None where it leads to nothing. Raises Unreadable; see `readable`."""
    try:
        with readable(path):
            return os.stat(path)
    except Unreadable:
        raise
    except (OSError, ValueError):  # a null character
        return None


def is_file(path: str | os.PathLike) -> bool:
    """Whether a path leads to a plain file; raises Unreadable where nobody can tell."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


@contextlib.contextmanager
def whole(path: str | os.PathLike, mode: str = "w", **how) -> Iterator[IO]:
    """Opens a file that takes the name `path` when the block ends without an error.

    Until then it has a temporary name in the same folder, and takes its own when the disk has it;
    after an error that file is removed and what was at `path` is untouched. A link stays one, and
    what it leads to is replaced. What is no file, such as /dev/stdout or a pipe, is written to as
    it is. Text is UTF-8; `how` goes to `open`.

    Raises:
      OSError: it could not be written.
    """
    path = os.path.realpath(path) if os.path.islink(path) else os.fspath(path)
    partial = f"{path}.{os.getpid()}.tmp"
    if "b" not in mode:
        how = {"encoding": "utf-8", **how}
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, mode, **how) as file:
            yield file
        return
    try:
        with open(partial, mode, **how) as file:
            yield file
        settle(partial)
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(partial)
        if isinstance(error, OSError) and error.strerror and error.filename in (None, partial):
            error.filename = path  # the error of a full disk names no file
        raise


def settle(path: str | os.PathLike) -> None:
    """Waits until the disk has a file, or a folder's names: then no loss of power undoes it.

    Raises:
      OSError: the disk failed.
    """
    if os.path.isdir(path) and fcntl is None:
        return  # Windows opens no folder
    handle = os.open(path, os.O_RDONLY if fcntl else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        error.filename = os.fspath(path)
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some networks' disks can't tell
            raise
    finally:
        os.close(handle)


def check_takes_files(folder: str | os.PathLike) -> None:
    """Raises OSError where files can't be made in a folder, which need not be there yet."""
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


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
def locked(path: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a folder or a file while the block runs; a file is made, and stays.

    The kernel drops the lock with the process, however that ends. Systems without `fcntl`
    (Windows) and file systems without locks have none: there nothing keeps a second process out.

    Args:
      path: the folder or the file.
      wait: until no other process holds it.

    Raises:
      BlockingIOError: another process holds it, whose name `holder` knows of a file.
      OSError: the file can't be made.
    """
    with _held(path, os.path.isdir(path), wait):
        yield


def holder(path: str | os.PathLike) -> str:
    """Who holds the lock of a file, for the start of a sentence: "process 123 on host"."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            return file.read() or "another process"
    return "another process"


def scratch_folder(kind: str) -> str:
    """A new folder for temporary files, of this user alone, that is removed with the process.

    Those of the same kind that killed processes of this user left on this machine are removed
    first. Whether a process lives, the lock of its folder says: where there are no locks, all stay.

    Args:
      kind: what the names of such folders begin with.

    Returns:
      its path, in the folder that the environment's TMPDIR names.

    Raises:
      OSError: it can't be made.
    """
    prefix = f"{kind}_{platform.node()}_"
    _remove_abandoned(prefix)
    path = os.path.join(tempfile.gettempdir(), f"{prefix}{uuid.uuid4().hex}")
    kept = contextlib.ExitStack()
    kept.enter_context(own_folder(path, wait=True, mode=0o700))
    atexit.register(kept.close)
    return path


def _remove_abandoned(prefix: str) -> None:
    """Removes this user's folders for temporary files whose lock no process holds."""
    if fcntl is None:
        return
    for entry in os.scandir(tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            is_ours = entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
            if not is_ours or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            handle = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(handle)


@contextlib.contextmanager
def own_folder(path: str | os.PathLike, wait: bool = False, mode: int = 0o777) -> Iterator[None]:
    """Keeps an empty folder to this process while the block runs, and removes it then.

    What a process that was killed left there is removed first. The block may rename the folder.

    Args:
      path: the folder.
      wait: until no other process has it.
      mode: permissions of a folder that is made.

    Raises:
      BlockingIOError: another process has it.
      OSError: it can't be made.
    """
    with _held(path, is_folder=True, wait=wait, mode=mode) as own:
        for entry in os.scandir(path):
            shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.remove(entry)
        try:
            yield
        except OSError as error:
            if error.strerror and not error.filename:
                error.filename = os.fspath(path)  # the error of a full disk names no file
            raise
        finally:
            if _is(own, path):  # else it was renamed, and this is another's
                shutil.rmtree(path, ignore_errors=True)


def say_whole(writing: str | os.PathLike, whole: str | os.PathLike) -> None:
    """Renames a folder whose files are complete, once the disk has them all.

    From then on the files count, and `move_all` may put them in their places.

    Raises:
      OSError: the disk failed.
    """
    for entry in os.scandir(writing):
        settle(entry.path)
    settle(writing)
    os.rename(writing, whole)


def move_all(whole: str | os.PathLike, folder: str | os.PathLike, last: str) -> None:
    """Moves all files of one folder to another, `last` after the others, and removes the empty one.

    A second call does what an interrupted one left.

    Raises:
      OSError: a file could not be moved.
    """
    for name in sorted(os.listdir(whole), key=lambda name: name == last):
        os.replace(os.path.join(whole, name), os.path.join(folder, name))
    os.rmdir(whole)


@contextlib.contextmanager
def _held(
    path: str | os.PathLike, is_folder: bool, wait: bool = False, mode: int = 0o777
) -> Iterator[os.stat_result]:
    """Makes a folder or a file and holds its lock; what it is, whatever becomes of its name."""
    for left in range(9, -1, -1):
        if is_folder:
            os.makedirs(path, mode, exist_ok=True)
        if fcntl is None:
            yield os.stat(path)
            return
        try:
            handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            if left and is_folder:
                continue  # another process has removed it meanwhile
            raise
        try:
            _lock(handle, wait)
            own = os.fstat(handle)
            # Who held it before may have renamed or removed it: then once more.
            if _is(own, path) or not left:
                if not is_folder:
                    _sign(handle)
                yield own
                return
        finally:
            os.close(handle)


def _is(own: os.stat_result, path: str | os.PathLike) -> bool:
    """Whether it has this name."""
    try:
        return os.path.samestat(own, os.stat(path))
    except OSError:
        return False


def _sign(handle: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())


def _lock(handle: int, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
