"""Whether services and workers at HOST:PORT can be reached, and when they are gone."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

_TIMEOUT_SECS = 5.0
_CHECK_SECS = 5.0
_PATIENCE = 3  # failed checks in a row


def problem(address: str, timeout_secs: float = _TIMEOUT_SECS) -> str:
    """Why nothing listens at HOST:PORT; "" where something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_secs).close()
    except (OSError, ValueError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def listening(port: int) -> socket.socket:
    """A socket that listens at a port on all networks, as TensorFlow's own; raises OSError."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=both)


def missing(addresses: Sequence[str], timeout_secs: float = _TIMEOUT_SECS) -> list[str]:
    """Those at which nothing listens."""
    return [address for address in addresses if problem(address, timeout_secs)]


@contextlib.contextmanager
def watched(
    addresses: Sequence[str],
    lost: Callable[[list[str]], None],
    check_secs: float = _CHECK_SECS,
    patience: int = _PATIENCE,
) -> Iterator[None]:
    """Checks from a thread while the block runs.

    Args:
      addresses: HOST:PORT of each.
      lost: gets, once, the first that `patience` checks in a row have missed.
      check_secs: from one check to the next.
      patience: how many checks may fail.
    """
    ended = threading.Event()

    def check():
        misses = dict.fromkeys(addresses, 0)
        while not ended.wait(check_secs):
            gone = missing(addresses)
            misses = {one: misses[one] + 1 if one in gone else 0 for one in misses}
            if max(misses.values()) >= patience and not ended.is_set():
                return lost([one for one in misses if misses[one] >= patience])

    if addresses:
        threading.Thread(target=check, daemon=True, name="checks addresses").start()
    try:
        yield
    finally:
        ended.set()
