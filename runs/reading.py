"""Reads pictures ahead of the net, in threads, and prepares them as conversion does."""

import collections
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from datasets.conversion import cropping, image_bytes
from datasets.conversion.image_bytes import Changes, Photograph
from datasets.options import AnnotatedCropOptions
from datasets.sources import voc_xml
from foundation import machine


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as training would have seen it.

    Attributes:
      path: what it is called.
      encoded: bytes that TensorFlow decodes, turned as their EXIF says and cropped as asked; empty
        where it can't be used.
      problem: why it can't be used, "" where it can.
    """

    path: str
    encoded: bytes
    problem: str = ""


def batches(
    paths: Sequence[str],
    size: int,
    crop: AnnotatedCropOptions | None = None,
    contents: Mapping[str, bytes] | None = None,
    most_pixels: int = image_bytes.MAX_PIXELS,
) -> Iterator[list[Picture]]:
    """Yields the pictures in their order, `size` at a time; two batches are read ahead.

    Args:
      paths: of the files.
      size: of a batch.
      crop: whether pictures are cut to a box, and where its annotation lies.
      contents: bytes of pictures that are no files, by their names in `paths`.
      most_pixels: larger pictures are a problem.
    """
    read = functools.partial(
        _read,
        crop=crop or AnnotatedCropOptions(),
        contents=contents or {},
        most_pixels=most_pixels,
    )
    found = _in_threads(read, paths, ahead=2 * size)
    while batch := list(itertools.islice(found, size)):
        yield batch


def _in_threads(
    read: Callable[[str], Picture], paths: Sequence[str], ahead: int
) -> Iterator[Picture]:
    with ThreadPoolExecutor(machine.num_processors()) as pool:
        waiting: collections.deque = collections.deque()
        try:
            for path in paths:
                waiting.append(pool.submit(read, path))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(
    path: str, crop: AnnotatedCropOptions, contents: Mapping[str, bytes], most_pixels: int
) -> Picture:
    try:
        data = contents.get(path)
        if data is None:
            with open(path, "rb") as file:
                data = file.read()
        photograph = Photograph(data)
        width, height = photograph.size
        if width * height > most_pixels:
            raise ValueError(f"too many pixels: {width} x {height}")
        cut = _rectangle(path, photograph, crop) if crop.crop_to_box else None
        return Picture(path, photograph.encode(Changes(crop=cut)).data)
    except (ValueError, OSError) as error:
        return Picture(path, b"", getattr(error, "strerror", None) or str(error))


def _rectangle(
    path: str, photograph: Photograph, crop: AnnotatedCropOptions
) -> tuple[int, int, int, int]:
    """The pixels of the largest object of the picture's annotation; raises ValueError."""
    box, size = voc_xml.largest_box(_annotation(path, crop.annotations_dir))
    (fraction,), remarks = cropping.fractions([box], size, photograph)
    if fraction is None:
        raise ValueError("; ".join(("no box: nothing to crop to", *remarks)))
    return cropping.rectangle(fraction, crop.box_margin, photograph.size)


def _annotation(path: str, folder: str | None) -> str:
    """The path of a picture's annotation; raises ValueError where there is none."""
    stem = os.path.splitext(os.path.basename(path))[0]
    if not folder:
        places = [f"{os.path.splitext(path)[0]}.xml"]
    else:
        parent = os.path.basename(os.path.dirname(os.path.abspath(path)))
        names = [f"{stem}.xml", stem]
        places = [os.path.join(folder, *more, name) for more in ((), (parent,)) for name in names]
    found = next(filter(os.path.isfile, places), None)
    if found is None:
        raise ValueError(f"no annotation: {places[0]} does not exist")
    return found
