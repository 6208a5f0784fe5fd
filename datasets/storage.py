"""Files of a dataset, on this machine or anywhere TensorFlow can open them (gs://, …)."""

import contextlib
import glob
import json
import os
from collections.abc import Iterator
from typing import BinaryIO

from foundation import files
from foundation.errors import InputError


def _is_remote(path: str) -> bool:
    return "://" in path


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """What TensorFlow says of a path elsewhere becomes an InputError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise InputError(
            f"{path}: TensorFlow can't read it ({error.message}).",
            remedy="Copy it to this machine, or to a bucket that this TensorFlow opens (gs://).",
        ) from error


def list_folder(folder: str) -> list[str]:
    """The names in --dataset_dir; raises InputError where there is no such folder."""
    if not _is_remote(folder):
        if os.path.isdir(folder):
            return os.listdir(folder)
    else:
        with _told(folder):
            if exists(folder):
                return [name.rstrip("/") for name in _gfile().listdir(folder)]
    raise InputError("there is no such folder.", option="dataset_dir", value=folder)


def find(pattern: str) -> list[str]:
    """The files that a name or a glob means; raises InputError where nothing opens their place."""
    if _is_remote(pattern):
        with _told(pattern):
            return _gfile().glob(pattern)
    return [pattern] if os.path.exists(pattern) else glob.glob(pattern)


def exists(path: str) -> bool:
    return _gfile().exists(path) if _is_remote(path) else os.path.exists(path)


def open_file(path: str) -> BinaryIO:
    return _gfile().GFile(path, "rb") if _is_remote(path) else open(path, "rb")


def size_and_mtime(path: str) -> tuple[int, float]:
    """Bytes, and seconds since 1970."""
    if _is_remote(path):
        stat = _gfile().stat(path)
        return stat.length, stat.mtime_nsec / 1e9
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime


def identity(path: str) -> tuple[int, int, int] | None:
    """Bytes, time and number of a file of this machine, which change with it; elsewhere None."""
    if _is_remote(path):
        return None
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def read_json(path: str) -> dict:
    """What a JSON file holds; {} where it is absent, damaged, or holds no object."""
    try:
        with open_file(path) as file:
            content = json.loads(file.read())
    except Exception:  # absent, unreadable or damaged: then the records are scanned
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: str, content: dict) -> None:
    """Writes a file that only saves time; does nothing where the folder can't be written."""
    if not _is_remote(path):
        with contextlib.suppress(OSError), files.whole(path) as file:
            json.dump(content, file, indent=1)
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    with contextlib.suppress(Exception):  # any of the file system's own
        with _gfile().GFile(temporary, "w") as file:
            file.write(json.dumps(content, indent=1))
        _gfile().rename(temporary, path, overwrite=True)
