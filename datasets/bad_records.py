"""Finds records that can't be trained on, says where they are and why, and leaves them out."""

import collections
import concurrent.futures
import dataclasses
import gzip
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from datasets import schema
from datasets.frames import BrokenFrame, frames
from datasets.tfrecord_dataset import Dataset
from foundation import machine
from foundation.errors import InputError
from foundation.files import scratch_folder

# Records in memory at once, for each thread.
_AHEAD = 8
_MOST_LINES = 20
# What TensorFlow raises for a record; its message may hold bytes that Python makes no text of.
UNREADABLE = (tf.errors.OpError, UnicodeDecodeError)
# In TensorFlow's messages: names of graph nodes, and the bytes of the record.
_NOISE = re.compile(r"\{\{.*?\}\}|\[Op:.*?\](?: name:)?|, value: .*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that cannot be read; as text one line with file, number from 0, and reason."""

    file: str
    record: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: record {self.record}: {self.reason}"


def find(
    dataset: Dataset, limit: int | None = None, num_threads: int | None = None
) -> list[BadRecord]:
    """Reads every record as training would: checksum, features, label, image.

    Args:
      dataset: what `tfrecord_dataset.find` returns.
      limit: stop after this many; None finds all.
      num_threads: threads that decode; None means as many as processors.

    Returns:
      The bad records in the order of the files. All that follows the place where a file is cut
      off counts as one.
    """
    found = []
    num_threads = num_threads or machine.num_processors()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for path in dataset.files:
            records, done = _records(path, dataset), 0
            # A few at a time, so that a file larger than memory can be searched.
            while chunk := list(itertools.islice(records, num_threads * _AHEAD)):
                reasons = pool.map(lambda record: _reason(record, dataset), chunk)
                numbered = enumerate(reasons, start=done)
                found += [BadRecord(path, i, reason) for i, reason in numbered if reason]
                done += len(chunk)
                if limit is not None and len(found) >= limit:
                    return found[:limit]
    return found


def drop(
    dataset: Dataset, max_bad_records: int, num_threads: int | None = None
) -> tuple[Dataset, list[BadRecord]]:
    """Leaves out the records that cannot be read.

    Files that hold any are copied without them to a temporary folder, which is removed when the
    process ends. The whole dataset is decoded once, unless `max_bad_records` is 0.

    Args:
      dataset: what `tfrecord_dataset.find` returns.
      max_bad_records: how many may be left out; 0 leaves the dataset as it is, unread.
      num_threads: threads that decode; None means as many as processors.

    Returns:
      The dataset without them, and what was left out.

    Raises:
      InputError: there are more than `max_bad_records`, or none is left.
    """
    if not max_bad_records:
        return dataset, []
    bad = find(dataset, num_threads=num_threads)
    if len(bad) > max_bad_records:
        raise InputError(
            f"{len(bad)} records cannot be read, more than --max_bad_records={max_bad_records}. "
            f"The first: {bad[0]}."
        )
    if not bad:
        return dataset, []
    folder = scratch_folder("records")
    numbers = collections.defaultdict(set)
    for record in bad:
        numbers[record.file].add(record.record)
    files, counts, marks = map(list, (dataset.files, dataset.file_counts, dataset.marks))
    for i, path in enumerate(dataset.files):
        if path in numbers:
            files[i] = os.path.join(folder, f"{i:05d}.tfrecord")
            counts[i] = _copy_without(path, numbers[path], files[i], dataset.compression)
            marks[i] = ()
    if not sum(counts):
        raise InputError(
            f"{bad[0]}; nor can any other record of the {dataset.split} split be read."
        )
    without = dataclasses.replace(
        dataset,
        files=tuple(files),
        file_counts=tuple(counts),
        marks=tuple(marks),
        damage=(),
        sources=dataset.sources,
        fingerprint=hashlib.sha256(repr((dataset.fingerprint, bad)).encode()).hexdigest(),
    )
    return without, bad


def summary(bad: Sequence[BadRecord]) -> list[str]:
    """What was passed over, as lines for the screen; the first of many."""
    if not bad:
        return []
    more = len(bad) - _MOST_LINES
    lines = [f"Passed over {len(bad)} record{'s' * (len(bad) > 1)} that cannot be read:"]
    lines += [f"  {record}" for record in bad[:_MOST_LINES]]
    return lines + ([f"  … and {more} more"] if more > 0 else [])


_Record = bytes | BrokenFrame


def _records(path: str, dataset: Dataset) -> Iterable[tuple[_Record, bool]]:
    """Yields each record and whether its checksum is right; at the end, where the file is cut."""
    try:
        for _, record, footer in frames(path, dataset.compression):
            yield record, schema.masked_crc(record) == footer
    except BrokenFrame as error:
        yield error, False


def _reason(record: tuple[_Record, bool], dataset: Dataset) -> str:
    """Says why a record cannot be used; empty where it can."""
    content, intact = record
    if isinstance(content, BrokenFrame):
        return str(content)
    if not intact:
        return "its checksum is wrong; the file was damaged"
    try:
        encoded, label, boxes = _parse(content)
    except UNREADABLE:
        return f"it is no example with image, label and boxes ({_words(_parse, content)})"
    number = int(label) - dataset.labels_offset
    if not 0 <= number < dataset.num_classes:
        less = f" less --labels_offset={dataset.labels_offset}" if dataset.labels_offset else ""
        return f"its label {int(label)}{less} is outside the classes 0 to {dataset.num_classes - 1}"
    if not np.isfinite(boxes).all():
        return "a side of a box in it is not a number"
    try:
        _decode(encoded)
    except UNREADABLE:
        return f"its image cannot be decoded ({_words(_decode, encoded)})"
    return ""


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _parse(record):
    example = schema.parse_example(record)
    return example["encoded"], example["label"], example["boxes"]


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decode(encoded):
    return tf.shape(tf.io.decode_image(encoded, channels=3, expand_animations=False))


def _words(function, argument) -> str:
    """TensorFlow's message about the record, without names of graph nodes."""
    try:
        function.python_function(argument)  # op by op, its errors are about the record alone
    except UNREADABLE as error:
        message = getattr(error, "message", None) or error.object.decode(errors="replace")
        text = _NOISE.sub("", message.rpartition("Summarized data: b")[2]).strip("'")
        return " ".join(text.split()).rstrip(".")[:150]
    return "it fails now and then"


def _copy_without(path: str, numbers: set[int], copy: str, compression: str) -> int:
    """Writes a file's other records in their order; returns how many there are."""
    count = 0
    with gzip.open(copy, "wb") if compression else open(copy, "wb") as file:
        try:
            for i, frame in enumerate(frames(path, compression)):
                if i not in numbers:
                    file.write(b"".join(frame))
                    count += 1
        except BrokenFrame:
            pass  # all that follows is left out
    return count
