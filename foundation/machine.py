"""What the machine gives this process: processors and memory."""

import contextlib
import ctypes
import os
import sys


def num_processors() -> int:
    """How many processors this process may use, by its affinity where the system has one."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


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
