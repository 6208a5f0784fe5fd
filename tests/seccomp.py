"""Filters of seccomp(2): which system calls of a process the kernel lets pass, and how it refuses.

They hold for all threads of the process and for what it starts, whatever language the code is in.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable

# The numbers of calls that filters name are those of this system.
IS_KNOWN = sys.platform == "linux" and platform.machine() == "x86_64"

# Instructions of a filter: (one of these, skipped if true, skipped if false, a value).
LOAD, EQUAL, AT_LEAST, GIVE = 0x20, 0x15, 0x35, 0x06
# What it loads from; behind it come eight bytes for each argument of the call.
NUMBER, ARGUMENTS = 0, 16
# What it gives; with REFUSE the number of an error.
ALLOW, ASK, REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000
_ALL_THREADS, _LISTENER, _ALL_THREADS_OR_ERROR = 1, 8, 16


def install(program: Iterable[tuple[int, int, int, int]], listens: bool = False) -> int:
    """Sets a filter, which stays.

    Args:
      program: its instructions.
      listens: calls for which it gives ASK wait for an answer (seccomp_unotify(2)).

    Returns:
      A file with those that wait, or 0.

    Raises:
      OSError: the system knows no filters, or another listener is there already.
    """
    code = [struct.pack("HBBI", *instruction) for instruction in program]
    filters = ctypes.create_string_buffer(b"".join(code))
    content = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, set_filter = 38, 317, 1
    checked(libc.prctl(no_new_privileges, 1, 0, 0, 0))
    flags = _ALL_THREADS | (_LISTENER | _ALL_THREADS_OR_ERROR if listens else 0)
    return checked(libc.syscall(seccomp, set_filter, flags, content))


def checked(result: int) -> int:
    """The result of a call of the C library; raises OSError where that is an error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
