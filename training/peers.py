"""The other workers of a run: met at its start, and missed when they are gone.

TensorFlow waits for workers in silence, deaf to Ctrl-C, and for an hour where one of them still
runs an earlier training. So they meet before it begins: each tells the chief that it is there, and
the chief tells all of them to go. Whoever was started with other options than the chief is told so,
as are all. Later, a worker is there while its port can be connected to.
"""

import abc
import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from foundation import reachable
from foundation.errors import AgainError, InputError

_CONNECT_SECS = 1.0
_POLL_SECS = 0.3
_SAY_SECS = 30.0
_CHIEF = 0
_GO = "go"
_LONGEST_LINE = 1 << 16  # bytes


class Peers:
    """The workers of a run by their numbers, the chief first.

    Attributes:
      addresses: HOST:PORT of each.
      own: number of this worker.
    """

    def __init__(self, addresses: Sequence[str], own: int):
        self.addresses, self.own = tuple(addresses), own
        self._others = [*self.addresses[:own], *self.addresses[own + 1 :]]

    def gather(
        self,
        say: Callable[[str], None],
        wait_secs: float,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Waits until all workers are there; then all return within a moment.

        Args:
          say: gets lines for the screen.
          wait_secs: how long.
          options: name → value of those that all workers must have alike.

        Raises:
          AgainError: somebody did not come within `wait_secs`.
          InputError: the own port is taken, or somebody's options are others.
        """
        began = say_next = time.monotonic()
        place = _AtChief if self.own == _CHIEF else _AtWorker
        with place(self.addresses, self.own, options or {}) as meeting:
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
                    say(f"Waiting for {names}, {began + wait_secs - now:.0f} s at most …")
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

    def __init__(self, addresses: Sequence[str], own: int, options: Mapping[str, str]):
        super().__init__()
        self._addresses, self._own, self._options = addresses, own, dict(options)
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

    def __init__(self, addresses: Sequence[str], own: int, options: Mapping[str, str]):
        super().__init__(addresses, own, options)
        self._there: dict[int, socket.socket] = {}
        self._theirs: dict[int, Mapping[str, str]] = {}

    def missing(self) -> list[int]:
        for connection in self._came():
            number, options = _said(connection)
            if not 0 < number < len(self._addresses):
                connection.close()
                continue
            self._there[number] = self.enter_context(connection)
            self._theirs[number] = options
        self._there = {n: one for n, one in self._there.items() if _is_open(one)}
        others = range(1, len(self._addresses))
        missing = [n for n in others if n not in self._there or self._unreachable(n)]
        if not missing:
            unlike = next(self._unlike(), "")
            for connection in self._there.values():
                connection.sendall(f"{unlike or _GO}\n".encode())
            if unlike:
                raise _different(unlike)
        return missing

    def _unlike(self) -> Iterator[str]:
        """In words, each option that a worker has otherwise than the chief."""
        for number, theirs in sorted(self._theirs.items()):
            for name in sorted({*theirs, *self._options}):
                here, there = (given.get(name, "") for given in (self._options, theirs))
                if here != there:
                    yield (
                        f"worker {_CHIEF} ({self._addresses[_CHIEF]}) was started with "
                        f"--{name}={here}, worker {number} ({self._addresses[number]}) with "
                        f"--{name}={there}"
                    )


class _AtWorker(_Meeting):
    """Another worker's: whether the chief has told it to go."""

    def __init__(self, addresses: Sequence[str], own: int, options: Mapping[str, str]):
        super().__init__(addresses, own, options)
        self._chief: socket.socket | None = None

    def missing(self) -> list[int]:
        for connection in self._came():
            connection.close()
        try:
            if self._chief is None:
                host, _, port = self._addresses[_CHIEF].rpartition(":")
                place = host.strip("[]"), int(port)
                self._chief = self.enter_context(socket.create_connection(place, _CONNECT_SECS))
                hello = json.dumps({"worker": self._own, "options": self._options})
                self._chief.sendall(f"{hello}\n".encode())
            said = _line(self._chief)
            if said == _GO:
                return []
            if said.startswith("worker "):
                raise _different(said)
            self._chief = None  # TensorFlow answers there: an earlier training has not ended
        except TimeoutError:
            if self._chief is not None:  # the chief waits, too
                others = set(range(len(self._addresses))) - {self._own}
                return [n for n in sorted(others) if self._unreachable(n)] or [_CHIEF]
        except OSError:
            self._chief = None
        return [_CHIEF]


def _said(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """Number and options of the worker that has connected; 0 and none where somebody else did."""
    try:
        hello = json.loads(_line(connection))
        said = int(hello["worker"]), {**hello["options"]}
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        said = _CHIEF, {}
    connection.setblocking(False)
    return said


def _line(connection: socket.socket) -> str:
    """The next line; what there is of it where the connection ends; raises TimeoutError."""
    found, ends = b"", time.monotonic() + _CONNECT_SECS
    while not found.endswith(b"\n") and len(found) < _LONGEST_LINE:
        connection.settimeout(max(ends - time.monotonic(), 0.001))  # 0 would not wait at all
        if not (more := connection.recv(_LONGEST_LINE)):
            break
        found += more
    return found.decode(errors="replace").rstrip("\n")


def _different(what: str) -> InputError:
    return InputError(
        f"{what}.", remedy="Start all workers by the same command, but for the number of each."
    )


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _listening(address: str) -> socket.socket:
    """A socket at the port of an address."""
    try:
        listener = reachable.listening(int(address.rpartition(":")[2]))
    except OSError as error:
        raise InputError(
            f"{address}: this worker can't have its port ({error.strerror}). Does an earlier "
            "training still end here? Else name another port, on all workers."
        ) from error
    listener.setblocking(False)
    return listener
