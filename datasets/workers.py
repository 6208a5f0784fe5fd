"""Photographs to records in several processes, in order, a few at a time."""

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from datasets import records
from datasets.image_folder import ImageFolder
from datasets.records import Options, Record
from datasets.schema import LabeledImage

_CHUNK = 8  # photographs sent to a process at a time
_CHUNKS_AHEAD = 4  # for each process, so that it never waits for this one
_WORTH_A_PROCESS = 64  # photographs; fewer are done before another process has started

_worker = None  # in a worker process: the function that it was started for


def results(
    images: Sequence[LabeledImage], image_dir: str, options: Options, num_workers: int
) -> Iterator[tuple[LabeledImage, Record | str]]:
    """Yields each photograph, in order, with its record or the reason why it has none.

    What is in memory does not grow with the number of photographs.

    Raises:
      OSError: a process was killed.
    """
    num_workers = min(num_workers, len(images) // _WORTH_A_PROCESS)
    if num_workers < 2:
        make = _maker(image_dir, options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for image in images:
                yield image, make(image)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A copy of this process would copy its threads' locks too, and TensorFlow if it is there.
        multiprocessing.get_context("spawn"),
        _start_worker,
        (image_dir, options),
    )
    try:
        waiting = collections.deque()
        for chunk in _chunks(images):
            with _interrupts_held():
                waiting.append((chunk, pool.submit(_work, chunk)))
            if len(waiting) >= num_workers * _CHUNKS_AHEAD:
                chunk, future = waiting.popleft()
                yield from zip(chunk, future.result(), strict=True)
        for chunk, future in waiting:
            yield from zip(chunk, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise OSError(
            "a process that read photographs was killed, most likely for want of memory. Try "
            "again with a smaller --num_workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block is over; a process started in it never hears of Ctrl-C.

    A terminal sends it to all processes, also to those that are still importing and would print a
    stack trace; this one tells its workers to stop.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _chunks(images: Iterable[LabeledImage]) -> Iterator[list[LabeledImage]]:
    images = iter(images)
    while chunk := list(itertools.islice(images, _CHUNK)):
        yield chunk


def _maker(image_dir: str, options: Options):
    folder = ImageFolder(image_dir)

    def make(image: LabeledImage) -> Record | str:
        try:
            return records.make(image, folder, options)
        except ValueError as error:
            return str(error)

    return make


def _start_worker(image_dir: str, options: Options) -> None:
    global _worker
    _worker = _maker(image_dir, options)
    # Ctrl-C is for the parent, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What Pillow thinks of a file is of no use between the lines of a progress bar.
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without it, the workers of a process that is killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(chunk: list[LabeledImage]) -> list[Record | str]:
    return [_worker(image) for image in chunk]
