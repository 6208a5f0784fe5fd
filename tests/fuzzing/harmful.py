"""Readers that do what none may do, each at every input but the sound one: what is to be found."""

import ctypes
import functools
import os
import pathlib
import pickle
import subprocess
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from tests.fuzzing import workers
from tests.fuzzing.workers import Read, Target

_SOUND = b"sound"


def _raise() -> None:
    raise KeyError("missing")


def _compute() -> None:
    end = time.process_time() + 1.2
    while time.process_time() < end:
        pass


def _take_memory() -> None:
    np.ones(workers.MOST_MEMORY + (64 << 20), np.uint8)


def _refused_read(read: Callable[[], object]) -> None:
    """A reader that takes what it may not have for an input that can't be read."""
    try:
        read()
    except Exception as error:
        raise InputError(f"it can't be read ({error})") from error


def _elsewhere() -> str:
    """A file beside the temporary folder of the process."""
    return os.path.join(os.path.dirname(tempfile.gettempdir()), "written")


def _does(harm: Callable[[], object]) -> Target:
    def read(data: bytes) -> None:
        if data != _SOUND:
            harm()

    def prepare(folder: pathlib.Path) -> tuple[list[bytes], Read]:
        (folder / "sound").write_bytes(_SOUND)
        tf.io.read_file(str(folder / "sound"))  # TensorFlow looks around as it begins
        return [_SOUND], read

    return Target(prepare)


def _reads(read: Callable[[], object]) -> Target:
    return _does(functools.partial(_refused_read, read))


TARGETS = {
    "trace": _does(_raise),
    "abort": _does(os.abort),
    "compute": _does(_compute),
    "sleep": _does(lambda: time.sleep(1.5)),
    "memory": _does(_take_memory),
    "python_read": _reads(lambda: open("/etc/passwd").close()),
    "python_environment": _reads(lambda: open("/proc/self/environ").close()),
    "python_listing": _reads(lambda: os.listdir("/etc")),
    "python_scan": _reads(lambda: os.scandir("/etc").close()),
    "python_move": _reads(lambda: os.chdir("/")),
    "python_write": _reads(lambda: pathlib.Path(_elsewhere()).write_bytes(b"")),
    "program": _reads(lambda: subprocess.run(["true"], check=True)),
    "unpickle": _reads(lambda: pickle.loads(pickle.dumps(pathlib.Path))),
    # The kernel alone sees these.
    "native_read": _reads(lambda: tf.io.read_file("/etc/passwd")),
    "native_environment": _reads(lambda: tf.io.read_file("/proc/self/environ")),
    "native_listing": _reads(lambda: tf.io.gfile.listdir("/etc")),
    "native_write": _reads(lambda: tf.io.write_file(_elsewhere(), b"")),
    "native_program": _reads(lambda: ctypes.CDLL(None).system(b"true")),
}
