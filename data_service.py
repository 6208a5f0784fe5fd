"""A tf.data service: prepares training images on machines other than the one that trains.

On the machine with the processors:   python data_service.py --port=5050
On the machine that trains:           python train_image_classifier.py --data_service=HOST:5050 …

Both must see the TFRecords under the same paths, and run the same version of this repository.
"""

import signal
import threading

from absl import flags

import shared_flags
from shared_flags import UsageError, say

flags.DEFINE_integer("port", 5050, "Where training asks; 0: any that is free.", 0, 65_535)
flags.DEFINE_string(
    "dispatcher",
    None,
    "HOST:PORT of a service on another machine that this one helps; several helpers make more "
    "images a second, in an order that is no longer the same each time.",
)
flags.DEFINE_string("host", "localhost", "Name or address of this machine, as the others know it.")
FLAGS = flags.FLAGS


def main() -> None:
    if FLAGS.dispatcher and ":" not in FLAGS.dispatcher:
        raise UsageError(f"--dispatcher={FLAGS.dispatcher}: write HOST:PORT.")
    shared_flags.load_tensorflow()
    import tensorflow as tf

    service = tf.data.experimental.service
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    address, dispatcher = FLAGS.dispatcher, None
    try:
        if not address:
            dispatcher = service.DispatchServer(service.DispatcherConfig(port=FLAGS.port))
            address = f"{FLAGS.host}:{dispatcher.target.rpartition(':')[2]}"
        # The dispatcher is told where its worker is; the port is free to choose.
        worker = service.WorkerServer(
            service.WorkerConfig(dispatcher_address=address, worker_address=f"{FLAGS.host}:%port%")
        )
    except tf.errors.OpError as error:
        raise ValueError(
            f"--port={FLAGS.port}, --dispatcher={FLAGS.dispatcher}: the service can't start: "
            f"{error.message.splitlines()[0]}"
        ) from error
    say(f"Ready: train with --data_service={address}. Ctrl-C ends the service.")
    while not ended.wait(1.0):  # a wait without end would not hear of signals everywhere
        pass
    worker._stop()
    if dispatcher:
        dispatcher._stop()
    say("The service has ended.")


if __name__ == "__main__":
    shared_flags.run(main)
