"""Whether tf.data services answer: TensorFlow itself would wait for them without end or word."""

import socket
import threading
from collections.abc import Callable, Sequence

_TIMEOUT_SECS = 5.0
_LOOK_SECS = 10.0
_PATIENCE = 6  # looks in a row


def check(addresses: Sequence[str]) -> None:
    """Raises ValueError where one of HOST:PORT does not answer."""
    for address in addresses:
        if problem := _problem(address):
            raise ValueError(
                f"--data_service={address}: no tf.data service answers ({problem}). Start one by "
                "python data_service.py, or leave the flag out."
            )


def watch(
    addresses: Sequence[str],
    lost: Callable[[str], None],
    look_secs: float = _LOOK_SECS,
    patience: int = _PATIENCE,
) -> None:
    """Looks at the services from a thread, and calls `lost` with one that is gone for a minute."""

    def look():
        misses = dict.fromkeys(addresses, 0)
        while not threading.Event().wait(look_secs):
            for address in addresses:
                misses[address] = misses[address] + 1 if _problem(address) else 0
                if misses[address] == patience:
                    return lost(address)

    threading.Thread(target=look, daemon=True, name="data services").start()


def _problem(address: str) -> str:
    """Why nothing answers; "" where something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_SECS).close()
    except (OSError, ValueError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""
