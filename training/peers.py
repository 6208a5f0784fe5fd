"""The other workers of a run: met at its start, and missed when they are gone.

TensorFlow waits for workers in silence, deaf to Ctrl-C, and for an hour where one of them still
runs an earlier training. So they meet before it begins: each tells the chief that it is there, and
the chief tells all of them to go. Later, a worker is there while its port can be connected to.
"""

import abc
import contextlib
import re
import socket
import time
from collections.abc import Callable, Sequence

from foundation import reachable
from foundation.errors import AgainError, InputError

_CONNECT_SECS = 1.0
_POLL_SECS = 0.3
_SAY_SECS = 30.0
_CHIEF = 0
_GO = b"go\n"


class Peers:
    """The workers of a run by their numbers, the chief first.

    Attributes:
      addresses: HOST:PORT of each.
      own: number of this worker.
    """

    def __init__(self, addresses: Sequence[str], own: int):
        self.addresses, self.own = tuple(addresses), own
        self._others = [*self.addresses[:own], *self.addresses[own + 1 :]]

    def gather(self, say: Callable[[str], None], wait_secs: float) -> None:
        """Waits until all workers are there; then all return within a moment.

        Raises:
          AgainError: somebody did not come within `wait_secs`.
          InputError: the own port is taken.
        """
        began = say_next = time.monotonic()
        place = _AtChief if self.own == _CHIEF else _AtWorker
        with place(self.addresses, self.own) as meeting:
            while missing := meeting.missing():
                now, names = time.monotonic(), self.named(missing)
                if now - began > wait_secs:
                    raise AgainError(
                        f"{names} did not come within {wait_secs:g} s.",
                        option="worker_wait_secs",
                        value=f"{wait_secs:g}",
                        remedy="Start all workers with the same addresses, each with its own "
                        "number; the ports must be open between their machines.",
                    )
                if now >= say_next:
                    say(f"Waiting for {names} …")
                    say_next = now + _SAY_SECS
                time.sleep(_POLL_SECS)

    def gone(self) -> list[int]:
        """Numbers of the others that can't be connected to."""
        return self._numbers(reachable.missing(self._others))

    def watched(
        self, lost: Callable[[list[int]], None], **pace: float
    ) -> contextlib.AbstractContextManager[None]:
        """Checks the others from a thread while a block runs, as `reachable.watched` does.

        `lost` gets the numbers of the first that are gone for good.
        """
        return reachable.watched(self._others, lambda gone: lost(self._numbers(gone)), **pace)

    def named(self, numbers: Sequence[int]) -> str:
        """Workers in words: "worker 1 (b:2222) and worker 2 (c:2222)"."""
        return " and ".join(f"worker {number} ({self.addresses[number]})" for number in numbers)

    def _numbers(self, addresses: Sequence[str]) -> list[int]:
        return [self.addresses.index(address) for address in addresses]


class _Meeting(contextlib.ExitStack, abc.ABC):
    """A place to meet at; it holds the worker's port until TensorFlow takes it."""

    def __init__(self, addresses: Sequence[str], own: int):
        super().__init__()
        self._addresses, self._own = addresses, own
        self._listener = self.enter_context(_listening(addresses[own]))

    @abc.abstractmethod
    def missing(self) -> list[int]:
        """Numbers of those that are waited for; empty when all are to go. It takes a moment."""

    def _came(self) -> list[socket.socket]:
        """The connections that came since the last call; most only ask whether somebody is here."""
        came = []
        with contextlib.suppress(BlockingIOError):
            while True:
                came.append(self._listener.accept()[0])
        return came

    def _unreachable(self, number: int) -> bool:
        return bool(reachable.problem(self._addresses[number], _CONNECT_SECS))


class _AtChief(_Meeting):
    """The chief's: who has told it that he is there."""

    def __init__(self, addresses: Sequence[str], own: int):
        super().__init__(addresses, own)
        self._there: dict[int, socket.socket] = {}

    def missing(self) -> list[int]:
        for connection in self._came():
            if (number := _number_said(connection)) is None:
                connection.close()
            else:
                self._there[number] = self.enter_context(connection)
        self._there = {n: one for n, one in self._there.items() if _is_open(one)}
        others = range(1, len(self._addresses))
        missing = [n for n in others if n not in self._there or self._unreachable(n)]
        if not missing:
            for connection in self._there.values():
                connection.sendall(_GO)
        return missing


class _AtWorker(_Meeting):
    """Another worker's: whether the chief has told it to go."""

    def __init__(self, addresses: Sequence[str], own: int):
        super().__init__(addresses, own)
        self._chief: socket.socket | None = None

    def missing(self) -> list[int]:
        for connection in self._came():
            connection.close()
        try:
            if self._chief is None:
                host, _, port = self._addresses[_CHIEF].rpartition(":")
                place = host.strip("[]"), int(port)
                self._chief = self.enter_context(socket.create_connection(place, _CONNECT_SECS))
                self._chief.sendall(b"worker %d\n" % self._own)
            if self._chief.recv(len(_GO)) == _GO:
                return []
            self._chief = None  # TensorFlow answers there: an earlier training has not ended
        except TimeoutError:
            if self._chief is not None:  # the chief waits, too
                others = set(range(len(self._addresses))) - {self._own}
                return [n for n in sorted(others) if self._unreachable(n)] or [_CHIEF]
        except OSError:
            self._chief = None
        return [_CHIEF]


def _number_said(connection: socket.socket) -> int | None:
    """The number of the worker that has connected; None where somebody else did."""
    connection.settimeout(_CONNECT_SECS)
    try:
        said = re.fullmatch(rb"worker (\d{1,6})\n", connection.recv(32))
    except OSError:
        said = None
    connection.setblocking(False)
    return int(said[1]) if said else None


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _listening(address: str) -> socket.socket:
    """A socket at the port of an address, on all networks as TensorFlow's own."""
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        listener = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise InputError(
            f"{address}: this worker can't have its port ({error.strerror}). Does an earlier "
            "training still end here? Else name another port, on all workers."
        ) from error
    listener.setblocking(False)
    return listener
