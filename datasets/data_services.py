"""Whether tf.data services answer: TensorFlow itself waits for them for ever and says nothing."""

import socket
import threading
import time
from collections.abc import Callable, Sequence

from foundation.errors import InputError

_TIMEOUT_SECS = 5.0
_FIRST_SECS = 30.0  # until a service sends a first element
_CHECK_SECS = 10.0
_PATIENCE = 6  # failed checks in a row


def check(addresses: Sequence[str], timeout_secs: float = _FIRST_SECS) -> None:
    """Raises InputError where a service, as HOST:PORT, does not answer or sends nothing."""
    for address in addresses:
        if problem := _problem(address) or _nothing_sent(address, timeout_secs):
            raise InputError(
                f"no tf.data service answers ({problem}).",
                option="data_service",
                value=address,
                remedy="Start one by python data_service.py, or leave the flag out.",
            )


def watch(
    addresses: Sequence[str],
    lost: Callable[[str], None],
    check_secs: float = _CHECK_SECS,
    patience: int = _PATIENCE,
) -> None:
    """Checks the services from a thread, and calls `lost` with one that is gone for a minute."""

    def check_all():
        misses = dict.fromkeys(addresses, 0)
        while True:
            time.sleep(check_secs)
            for address in addresses:
                misses[address] = misses[address] + 1 if _problem(address) else 0
                if misses[address] == patience:
                    return lost(address)

    threading.Thread(target=check_all, daemon=True, name="data services").start()


def forgotten(error: Exception) -> str:
    """What to say where a service lost its memory of a training; "" for other errors."""
    if "iteration client id" not in str(error):
        return ""
    return (
        "--data_service: a service was started anew, and knows nothing of this training any more. "
        "The same command carries on from the last checkpoint."
    )


def _nothing_sent(address: str, timeout_secs: float) -> str:
    """Why no element comes through the service; "" where one does.

    What listens may be something else, or its worker may have given an address at which it can't be
    reached: TensorFlow would try for ever. Hence the thread, which is left to itself.
    """
    found = []

    def ask():
        import tensorflow as tf

        try:
            ds = tf.data.Dataset.range(1).apply(
                tf.data.experimental.service.distribute(
                    tf.data.experimental.service.ShardingPolicy.OFF, f"grpc://{address}"
                )
            )
            found.append("" if list(ds.as_numpy_iterator()) == [0] else "it sends something else")
        except Exception as error:  # whatever answers there
            found.append(" ".join(str(error).split())[:100])

    thread = threading.Thread(target=ask, daemon=True, name="data service")
    thread.start()
    thread.join(timeout_secs)
    reach = "it is another service, or its --host is not the address of its machine"
    return found[0] if found else f"nothing came in {timeout_secs:.0f} s: {reach}"


def _problem(address: str) -> str:
    """Why nothing answers; "" where something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_SECS).close()
    except (OSError, ValueError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""
