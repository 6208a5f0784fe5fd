"""Photographs to records in several threads, in order, a few at a time.

Threads, not processes: what takes the time, reading, decoding and hashing, leaves Python to the
others meanwhile, and a record need not be copied from one process to another.
"""

import collections
import concurrent.futures
import itertools
import warnings
from collections.abc import Iterable, Iterator

from datasets.conversion import records
from datasets.conversion.records import Options, Record
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder

_CHUNK = 8  # photographs handed to a thread at a time
_CHUNKS_AHEAD = 4  # for each thread, so that it never waits for the one that writes


def results(
    images: Iterable[LabeledImage], image_dir: str, options: Options, num_workers: int
) -> Iterator[tuple[LabeledImage, Record | str]]:
    """Yields each photograph, in order, with its record or the reason why it has none.

    What is in memory does not grow with the number of photographs.
    """
    folder = ImageFolder(image_dir)

    def make(image: LabeledImage) -> Record | str:
        try:
            return records.make(image, folder, options)
        except ValueError as error:
            return str(error)

    def work(chunk: list[LabeledImage]) -> list[Record | str]:
        return [make(image) for image in chunk]

    with warnings.catch_warnings():
        # What Pillow thinks of a file is of no use between the lines of a progress bar.
        warnings.simplefilter("ignore")
        if num_workers < 2:
            for image in images:
                yield image, make(image)
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
