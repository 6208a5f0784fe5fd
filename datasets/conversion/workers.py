"""Photographs to records in several threads, in order, a few at a time.

Threads, not processes: reading, decoding and hashing, which take the time, run without Python's
lock, and a record need not be copied from one process to another.
"""

import collections
import concurrent.futures
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator

from datasets.conversion.records import Record
from datasets.schema import LabeledImage

_CHUNK = 8  # photographs handed to a thread at a time
_CHUNKS_AHEAD = 4  # for each thread, so that it never waits for the one that writes


def results(
    images: Iterable[LabeledImage], make: Callable[[LabeledImage], Record], num_workers: int
) -> Iterator[tuple[LabeledImage, Record | str]]:
    """Yields each photograph, in order, with its record or the reason why it has none.

    What is in memory does not grow with the number of photographs.

    Args:
      images: the photographs.
      make: makes a record; the text of its ValueError is the reason.
      num_workers: number of threads.
    """

    def result(image: LabeledImage) -> Record | str:
        try:
            return make(image)
        except ValueError as error:
            return str(error)

    def work(chunk: list[LabeledImage]) -> list[Record | str]:
        return [result(image) for image in chunk]

    with warnings.catch_warnings():
        # Pillow's warnings about single files say nothing that the findings don't.
        warnings.simplefilter("ignore")
        if num_workers < 2:
            for image in images:
                yield image, result(image)
            return
        pool = concurrent.futures.ThreadPoolExecutor(num_workers)
        try:
            waiting = collections.deque()
            for chunk in _chunks(images):
                waiting.append((chunk, pool.submit(work, chunk)))
                if len(waiting) >= num_workers * _CHUNKS_AHEAD:
                    chunk, future = waiting.popleft()
                    yield from zip(chunk, future.result(), strict=True)
            for chunk, future in waiting:
                yield from zip(chunk, future.result(), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(images: Iterable[LabeledImage]) -> Iterator[list[LabeledImage]]:
    images = iter(images)
    while chunk := list(itertools.islice(images, _CHUNK)):
        yield chunk
