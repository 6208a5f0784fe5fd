"""tf.data services: elements that come through them, and whether they answer.

TensorFlow itself waits for them for ever and says nothing.
"""

import threading
from collections.abc import Sequence

import tensorflow as tf

from foundation import reachable
from foundation.errors import InputError

_FIRST_SECS = 30.0  # until a service sends a first element


def check(addresses: Sequence[str], timeout_secs: float = _FIRST_SECS) -> None:
    """Raises InputError where a service, as HOST:PORT, does not answer or sends nothing."""
    for address in addresses:
        if problem := reachable.problem(address) or _nothing_sent(address, timeout_secs):
            raise InputError(
                f"no tf.data service answers ({problem}).",
                option="data_service",
                value=address,
                remedy="Start one by python data_service.py, or leave the flag out.",
            )


def served(ds: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """The same elements from the service at HOST:PORT, one after the other, so in their order."""
    service = tf.data.experimental.service
    options = tf.data.Options()
    # The service makes an iterator of its own, whose tuning would hold up the service's end.
    options.autotune.enabled = False
    distribute = service.distribute(
        # Its worker yields the whole sequence: who asks for it has cut the parts.
        processing_mode=service.ShardingPolicy.OFF,
        service=f"grpc://{address}",
        max_outstanding_requests=1,
    )
    return ds.with_options(options).apply(distribute)


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
        try:
            ds = served(tf.data.Dataset.range(1), address)
            found.append("" if list(ds.as_numpy_iterator()) == [0] else "it sends something else")
        except Exception as error:  # whatever answers there
            found.append(" ".join(str(error).split())[:100])

    thread = threading.Thread(target=ask, daemon=True, name="data service")
    thread.start()
    thread.join(timeout_secs)
    reach = "it is another service, or its --host is not the address of its machine"
    return found[0] if found else f"nothing came in {timeout_secs:.0f} s: {reach}"
