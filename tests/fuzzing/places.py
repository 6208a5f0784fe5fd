"""Where a reader of strangers' files may read and write."""

import os
import sys
import sysconfig
from collections.abc import Sequence

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What the loader of compiled libraries reads.
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
# What TensorFlow asks for random numbers, for memory and for its clock.
_MACHINE = ("/dev/urandom", "/proc/meminfo", "/sys/devices/system/cpu")
_REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Places:
    """Folders with what may be read and written, and what programs read of themselves besides."""

    def __init__(
        self, allowed: Sequence[str | os.PathLike], listed: Sequence[str | os.PathLike] = ()
    ):
        """
        Args:
          allowed: folders that may be read and written.
          listed: folders of which the names may be read, and no file.
        """
        self._listed = {os.path.realpath(one) for one in listed}
        self._writable = tuple(os.path.join(os.path.realpath(one), "") for one in allowed)
        packages = {sys.prefix, sys.base_prefix, _REPOSITORY, *sysconfig.get_paths().values()}
        known = {*packages, *_LIBRARIES, *_MACHINE}
        known = {os.path.join(os.path.realpath(one), "") for one in known}
        self._readable = (*self._writable, *known)

    def problem(self, path: str | bytes | os.PathLike, done: str, writes: bool) -> str:
        """What is wrong with a path: that it leads elsewhere; "" where it does not."""
        place = os.path.realpath(os.fsdecode(path))
        within = os.path.join(place, "").startswith(self._writable if writes else self._readable)
        within |= place == os.devnull or place in self._listed and not writes
        return "" if within else f"{done} {place}"
