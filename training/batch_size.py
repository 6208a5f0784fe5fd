"""How many images a step trains the most images a second."""

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import tensorflow as tf

from foundation.errors import InputError
from foundation.options import changed
from training import run
from training.distribution import Distribution
from training.options import TrainingOptions
from training.restoring import NetConfig

_FIRST, _LARGEST = 8, 1024
_FIRST_ON_GPU = 32  # less leaves it idle, and each size is compiled for a minute
_WORTH_IT = 1.05
_STEPS = 2


def find(
    options: TrainingOptions,
    net: NetConfig,
    distribution: Distribution,
    num_examples: int,
    say: Callable[[str], None],
) -> int:
    """Doubles the batch until a second sees no more images by it, or memory runs short.

    Args:
      options, net, distribution: of the run to come; a net of its own is measured on random images.
      num_examples: of an epoch; the batch is no larger.
      say: gets a line for each size that is tried.

    Returns:
      The smallest batch size within 5 % of the fastest.

    Raises:
      InputError: not even the smallest batch fits into memory.
    """
    speeds: dict[int, float] = {}
    on_gpu = bool(tf.config.get_visible_devices("GPU"))
    first = _FIRST_ON_GPU if on_gpu else _FIRST
    size, used = first, 0
    with _run_to_measure(options, net, distribution) as current:
        # A larger batch would see images of one epoch several times.
        largest = min(_LARGEST, max(first, num_examples))
        while size <= largest:
            try:
                speeds[size] = _speed(current, size)
            except tf.errors.ResourceExhaustedError:
                say(f"batch {size}: more than memory holds")
                break
            say(f"batch {size}: {speeds[size]:.1f} images/s")
            if len(speeds) > 1 and speeds[size] < _WORTH_IT * speeds[size // 2]:
                break
            before, used = used, psutil.Process().memory_info().rss
            # A GPU says so when its own memory is full; the processor's system kills.
            if not on_gpu and 2 * (used - before) > psutil.virtual_memory().available:
                say(f"batch {2 * size}: may not fit into memory")
                break
            size *= 2
    del current
    gc.collect()
    if not speeds:
        raise InputError(
            f"not even {first} images fit into memory.", option="batch_size", value="auto"
        )
    fastest = max(speeds.values())
    chosen = min(size for size, speed in speeds.items() if _WORTH_IT * speed >= fastest)
    say(f"--batch_size={chosen}. The learning rate stays as it is given.")
    return chosen


def images_per_second(
    options: TrainingOptions, net: NetConfig, distribution: Distribution, size: int
) -> float:
    """Images a second of training steps with batches of `size` random images.

    XLA is left out, which takes a minute to compile a net for a GPU, and would be faster.

    Raises:
      InputError: the net can't be built so.
    """
    options = changed(options, {"jit_compile": "off"})
    with _run_to_measure(options, net, distribution) as current:
        return _speed(current, size)


@contextlib.contextmanager
def _run_to_measure(
    options: TrainingOptions, net: NetConfig, distribution: Distribution
) -> Iterator[run.Run]:
    """A run like the one to come, whose folder is gone after the block."""
    # Each size is compiled anew, which TensorFlow would warn of.
    tf.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        changes = {"train_dir": folder, "batch_size": 1, "feature_cache": "off"}
        changes |= {"checkpoint_path": None, "progressive_resizing": (), "unfreeze": ()}
        alone = changed(options, changes)
        examples = run.Examples(_LARGEST)
        yield run.Run(alone, net, examples, distribution, say=lambda line: None)


def _speed(current: run.Run, size: int) -> float:
    """Images/s of a replica, on random images."""
    shape = (size, *current.trainee.model.input.shape[1:])
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    labels = np.arange(size, dtype=np.int32) % current.net.num_classes
    dataset = tf.data.Dataset.from_tensors({"image": images, "label": labels}).repeat()
    batches = current.distribution.iterate(lambda: dataset)
    current.step.run(batches, 1)
    began = time.monotonic()
    current.step.run(batches, _STEPS)
    return size * _STEPS / (time.monotonic() - began)
