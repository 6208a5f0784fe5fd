"""A tf.data service that runs until a signal ends it."""

import signal
import threading
from collections.abc import Callable

import tensorflow as tf

from foundation.errors import InputError
from runs.options import DataServiceOptions


def serve(options: DataServiceOptions, say: Callable[[str], None] = print) -> None:
    """Prepares images for trainings until SIGINT or SIGTERM; call it from the main thread.

    Raises:
      InputError: a port can't be had.
    """
    given, service = options.service, tf.data.experimental.service
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=given.port))
        address = f"{given.host}:{dispatcher.target.rpartition(':')[2]}"
        # The dispatcher says to the training where its worker is.
        worker = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=address,
                worker_address=f"{given.host}:%port%",
                port=given.worker_port,
            )
        )
    except tf.errors.OpError as error:
        raise InputError(
            f"--port={given.port}, --worker_port={given.worker_port}: the service can't start: "
            f"{error.message.splitlines()[0]}"
        ) from error
    say(f"Ready: train with --data_service={address}. Ctrl-C ends the service.")
    while not ended.wait(1.0):  # a wait without end would not notice signals on every system
        pass
    worker._stop()
    dispatcher._stop()
    say("The service has ended.")
