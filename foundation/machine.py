"""What the machine gives this process: processors and memory."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator

# What Keras imports for functions of its own that are not used here.
_OF_KERAS = ("matplotlib", "pandas", "sklearn")


def num_processors() -> int:
    """How many processors this process may use, by its affinity where the system has one."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices natively: AVX512_BF16 or AMX."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def matrix_speed() -> float:
    """Floating-point operations a second of matrix products here, measured in 0.1 s.

    It is the best of many short products on one processor, which other work seldom disturbs, times
    the number of processors.
    """
    import numpy as np
    import threadpoolctl

    side = 256
    left = np.random.default_rng(0).random((side, side), np.float32)
    product = np.empty_like(left)
    best, end = 0.0, time.perf_counter() + 0.1
    with threadpoolctl.threadpool_limits(1):
        while time.perf_counter() < end or not best:
            began = time.perf_counter()
            np.matmul(left, left, out=product)
            best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best * num_processors()


def end_with_parent(parent: int) -> None:
    """Has the system end this process when the one that began it ends; on Linux alone.

    For `preexec_fn` of `subprocess.Popen`, and for what begins a worker of a pool: without it, the
    workers of a process that is killed wait for work for ever.

    Args:
      parent: the number of the process that began this one, which may have ended meanwhile.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
            ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keeps the garbage collector off while many objects are made.

    It would go through all of them again and again: that is a quarter of TensorFlow's import.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def quick_imports(hidden: Collection[str] = _OF_KERAS) -> Iterator[None]:
    """Imports that take less time while the block runs.

    What is imported stays, so the garbage collector passes it over from then on.

    Args:
      hidden: packages that what is imported takes along where they are installed, and does without
        where not. They can be imported once the block has ended.
    """
    absent = {name: None for name in hidden if name not in sys.modules}
    sys.modules.update(absent)
    try:
        with without_collector():
            yield
            gc.freeze()
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def keep_freed_memory() -> None:
    """Has the C library keep freed memory, where it is glibc's; call it before threads start.

    A training step frees and takes gigabytes. By default much of that goes back to the system each
    time, which then has to clear it again page by page; and each thread's own arena grows by
    itself. Figures: benchmarks/RESULTS.md. MALLOC_… in the environment takes precedence.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    # Numbers of mallopt(3): M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX.
    settings = {-1: -1, -2: 64 << 20, -4: 0, -8: max(1, num_processors() // 8)}
    with contextlib.suppress(OSError, AttributeError):  # another C library has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in settings.items():
            mallopt(name, value)
