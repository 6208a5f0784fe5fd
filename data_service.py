"""A tf.data service: prepares training images on machines other than the one that trains.

On each machine with processors:   python data_service.py --port=5050 --host=HOST
On the machine that trains:        python train_image_classifier.py --data_service=HOST:5050 …

All must see the TFRecords under the same paths, and run the same version of this repository.
"""

import signal
import threading

from absl import flags

import shared_flags
from shared_flags import say

flags.DEFINE_integer("port", 5050, "Where training asks; 0: any that is free.", 0, 65_535)
flags.DEFINE_integer("worker_port", 0, "Where the images come from; 0: any free.", 0, 65_535)
flags.DEFINE_string("host", "localhost", "Name or address of this machine, as the others know it.")
FLAGS = flags.FLAGS


def main() -> None:
    shared_flags.load_tensorflow()
    import tensorflow as tf

    service = tf.data.experimental.service
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=FLAGS.port))
        address = f"{FLAGS.host}:{dispatcher.target.rpartition(':')[2]}"
        # The dispatcher tells training where its worker is.
        worker = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=address,
                worker_address=f"{FLAGS.host}:%port%",
                port=FLAGS.worker_port,
            )
        )
    except tf.errors.OpError as error:
        raise ValueError(
            f"--port={FLAGS.port}, --worker_port={FLAGS.worker_port}: the service can't start: "
            f"{error.message.splitlines()[0]}"
        ) from error
    say(f"Ready: train with --data_service={address}. Ctrl-C ends the service.")
    while not ended.wait(1.0):  # a wait without end would not hear of signals everywhere
        pass
    worker._stop()
    dispatcher._stop()
    say("The service has ended.")


if __name__ == "__main__":
    shared_flags.run(main)
