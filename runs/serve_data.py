"""A tf.data service that runs until a signal ends it."""

import os
import signal
import threading
from collections.abc import Callable

import tensorflow as tf

from datasets.options import ServiceOptions
from foundation import reachable
from foundation.errors import InputError, UsageError, one_line
from runs.options import DataServiceOptions

_SERVICE = tf.data.experimental.service
_ALL_NETWORKS = ("0.0.0.0", "::", "[::]")
# What TensorFlow raises where a server can't start, or finds something else at its address: the
# latter as Python's NotImplementedError, which is a RuntimeError.
_REFUSALS = (tf.errors.OpError, RuntimeError)


def serve(options: DataServiceOptions, say: Callable[[str], None] = print) -> None:
    """Prepares images for trainings until SIGINT or SIGTERM; call it from the main thread.

    Raises:
      UsageError: options that don't go together.
      InputError: a port can't be had, or the host is not this machine.
    """
    _check(options.service)
    # TensorFlow tries for ever, deaf to Python's own handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    dispatcher, worker, address = _started(options.service)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    say(f"Ready: train with --data_service={address}. Ctrl-C ends the service.")
    while not ended.wait(1.0):  # a wait without end would not notice signals on every system
        pass
    worker._stop()
    dispatcher._stop()
    say("The service has ended.")


def _started(
    given: ServiceOptions,
) -> tuple[_SERVICE.DispatchServer, _SERVICE.WorkerServer, str]:
    """The two servers, and the address of the first."""
    try:
        dispatcher = _SERVICE.DispatchServer(_SERVICE.DispatcherConfig(port=given.port))
        address = f"{given.host}:{dispatcher.target.rpartition(':')[2]}"
        if problem := reachable.problem(address):
            raise _not_here(given.host, problem)
        # The dispatcher says to the training where its worker is.
        worker = _SERVICE.WorkerServer(
            _SERVICE.WorkerConfig(
                dispatcher_address=address,
                worker_address=f"{given.host}:%port%",
                port=given.worker_port,
            )
        )
    except _REFUSALS as error:
        raise _not_here(given.host, one_line(error)) from error
    return dispatcher, worker, address


def _check(given: ServiceOptions) -> None:
    if given.host in _ALL_NETWORKS:
        raise UsageError(
            "that is nobody's address.",
            option="host",
            value=given.host,
            remedy="Give the name or address of this machine by which the others know it; the "
            "service answers on all of its networks.",
        )
    if given.port and given.port == given.worker_port:
        raise UsageError(
            "that is --port's, too.", option="worker_port", value=given.port, remedy="Take another."
        )
    for option in ("port", "worker_port"):
        port = getattr(given, option)
        try:  # TensorFlow would share a port with another service
            reachable.listening(port).close()
        except OSError as error:
            raise InputError(
                f"it can't be had ({os.strerror(error.errno)}).",
                option=option,
                value=port,
                remedy="Name another one, or 0 for any that is free.",
            ) from error


def _not_here(host: str, problem: str) -> InputError:
    return InputError(
        f"the service can't start, or does not reach itself there ({problem}).",
        option="host",
        value=host,
        remedy="Give a name or an address of this machine by which the others know it.",
    )
