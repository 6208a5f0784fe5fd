"""tf.data for training and for evaluation.

Training reads the files in a new order each epoch, several at a time, and shuffles the records
while they are still encoded. The sequence of batches is a function of the dataset and the seed
alone, whatever the number of threads, and any position in it can be jumped to. Evaluation yields
each example once, in the order of the files.
"""

import dataclasses
import errno
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from datasets import bad_records, data_services, file_cache, lanes, schema, tfrecord_dataset
from datasets.frames import BrokenFrame, offset_of
from datasets.tfrecord_dataset import Dataset
from foundation import machine, seeds
from foundation.errors import InputError

_Result = TypeVar("_Result")

# Records that are shuffled together; two such windows are in memory. Part of the sequence's
# definition, as are the lanes: changing them changes the order.
SHUFFLE_WINDOW = 16_384
_SHUFFLE_BYTES = 256 * 2**20
_READ_AHEAD = 4
_READ_BUFFER_BYTES = 2**20
_BATCHES_AHEAD = 2
# In TensorFlow's words for a disk that fails.
_UNREAD = re.compile(r"(\S[^\n]*); Input/output error")
# And for files with another number of records than they had.
_OTHER_COUNT = "Input dataset was expected to contain"


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How examples become training images.

    Attributes:
      decode: (encoded scalar string, boxes float32 [n, 4], seed int32 [2]) → float32 image; all
        images of one shape. With `to_input`, anything that it takes.
      to_input: a batch of what `decode` returns → float32 [B, H, W, C]; for what is done faster on
        many images at once.
      mix: (images, labels, seed int32 [2]) → images and labels of a finished batch, such as those
        of MixUp.
      seed: decides the order of the examples, and through `decode` the augmentation.
      num_threads: threads that decode; None means as many as processors.
    """

    decode: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Any]
    to_input: Callable[[Any], tf.Tensor] | None = None
    mix: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None = None
    seed: int = 0
    num_threads: int | None = None

    def example(self, dataset: Dataset, shard: "Shard"):
        """(number of an example in the shard's sequence, its record) → image and label."""

        @tf.autograph.experimental.do_not_convert
        def prepare(index: tf.Tensor, record: tf.Tensor) -> dict[str, Any]:
            example = schema.parse_example(record)
            label = _label(example["label"], dataset)
            image_seed = _seeds(self.seed, shard.place(index))[0]
            image = self.decode(example["encoded"], example["boxes"], image_seed)
            return {"image": image, "label": label}

        return prepare

    def batch(self, ds: tf.data.Dataset, place: Callable[[tf.Tensor], tf.Tensor]):
        """Batches of decoded images, finished and mixed; `place` numbers a batch's first example.

        The number decides how a batch is mixed, so that a resumed run mixes alike.
        """

        @tf.autograph.experimental.do_not_convert
        def whole(number: tf.Tensor, batch: dict[str, Any]) -> dict[str, tf.Tensor]:
            images, labels = batch["image"], batch["label"]
            images = self.to_input(images) if self.to_input else images
            if self.mix:
                images, labels = self.mix(images, labels, _seeds(self.seed, place(number))[1])
            return {"image": images, "label": labels}

        if self.to_input or self.mix:
            parallel = {"num_parallel_calls": _BATCHES_AHEAD, "deterministic": True}
            ds = ds.enumerate().map(whole, **parallel)
        return ds.prefetch(_BATCHES_AHEAD).with_options(_options(self.num_threads))


@dataclasses.dataclass(frozen=True)
class Shard:
    """One worker's part of the data: every `count`-th file, from number `index` on.

    Where there are fewer files than workers, it is every `count`-th record.
    """

    index: int = 0
    count: int = 1

    def place(self, number: tf.Tensor) -> tf.Tensor:
        """A number of this worker's sequence as one that no other worker has."""
        return number * self.count + self.index


def training_batches(
    dataset: Dataset,
    preparation: Preparation,
    batch_size: int,
    *,
    consumed: int = 0,
    shard: Shard = Shard(),
    repeats: np.ndarray | None = None,
    cache: str = "none",
    services: Sequence[str] = (),
) -> tf.data.Dataset:
    """Batches without end; equal arguments give equal batches.

    Args:
      dataset: what `tfrecord_dataset.find` returns.
      preparation: how examples become images, and in which order.
      batch_size: of every batch; may exceed the number of examples.
      consumed: how many examples of this worker's sequence were consumed already: to resume after
        `steps` batches, `steps * batch_size`.
      shard: this worker's part of the data.
      repeats: int64, how often each example, in the order of the files, comes in an epoch, from
        `balanced_repeats`; None: once.
      cache: "memory" or "disk" copies this worker's files there first, see `file_cache`.
      services: HOST:PORT of tf.data services (data_service.py), which then read, shuffle and
        prepare the images: each of n services reads all records and prepares every n-th batch.
        This process gets finished batches, the same ones in the same order.

    Returns:
      Batches of {"image": float32 [B, H, W, C], "label": int32 [B]}, or what `mix` makes of them.

    Raises:
      InputError: the files are damaged, or the part of a worker is empty.
      tf.errors.OpError: while iterating, for a record that cannot be read; `explained` names it.
    """
    part = _Part.of(dataset, shard, repeats)
    examples = _shuffled(part, preparation.seed, cache, consumed).enumerate(consumed)
    prepare = preparation.example(dataset, shard)
    threads = _threads(preparation.num_threads)

    def prepared(index: int, count: int) -> tf.data.Dataset:
        """Every count-th batch, from number `index` on."""
        own = examples
        if count > 1:
            own = own.batch(batch_size, drop_remainder=True).shard(count, index).unbatch()
        own = own.map(prepare, num_parallel_calls=threads, deterministic=True)
        own = own.batch(batch_size, drop_remainder=True)

        def place(number: tf.Tensor) -> tf.Tensor:
            return shard.place(consumed + (number * count + index) * batch_size)

        return preparation.batch(own, place)

    if not services:
        return prepared(0, 1)
    count = len(services)
    parts = [
        data_services.served(prepared(i, count), address).prefetch(_BATCHES_AHEAD)
        for i, address in enumerate(services)
    ]
    return tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.range(count).repeat())


def remark_on_resuming(dataset: Dataset, consumed: int, cache: str) -> str:
    """A line for the screen where what was consumed of some files is read again; else ""."""
    if not consumed or not dataset.compression or cache != "none":
        return ""
    again = lanes.number_of(len(dataset.files))
    return (
        "The files are compressed, and can't be entered in the middle: of "
        f"{f'up to {again} of them' if again > 1 else 'the one'} what was consumed is read again."
    )


def single_pass_batches(
    dataset: Dataset,
    preparation: Preparation,
    batch_size: int,
    *,
    variant: int = 0,
    cache: str = "none",
) -> tf.data.Dataset:
    """Each example once, in the order of the files, prepared as for training but not mixed.

    Args:
      dataset, preparation, cache: as `training_batches` takes them.
      batch_size: of all batches but the last, which may be smaller.
      variant: which of the seed's augmented variants of each image, from 0.

    Returns:
      Batches of {"image": float32 [B, H, W, C], "label": int32 [B]}.

    Raises:
      InputError: the files are damaged.
      tf.errors.OpError: while iterating, for a record that cannot be read; `explained` names it.
    """
    _check(dataset)
    preparation = dataclasses.replace(preparation, mix=None)
    paths, compression = file_cache.copies(dataset.files, dataset.compression, cache)
    ds = _read(list(paths), compression).enumerate(variant * dataset.num_examples)
    threads = _threads(preparation.num_threads)
    ds = ds.map(
        preparation.example(dataset, Shard()), num_parallel_calls=threads, deterministic=True
    )
    return preparation.batch(ds.batch(batch_size), place=lambda number: number)


def evaluation_batches(
    dataset: Dataset,
    decode: Callable[[tf.Tensor], tf.Tensor],
    batch_size: int,
    *,
    num_threads: int | None = None,
    max_batches: int | None = None,
    cache: str = "none",
    shard: Shard = Shard(),
) -> tf.data.Dataset:
    """Yields each example once, in the order of the files; the last batch may be smaller.

    Args:
      dataset: what `tfrecord_dataset.find` returns; the batches hold its `num_examples` examples.
      decode: encoded scalar string → float32 image; all images of one shape.
      batch_size: of all batches but the last.
      num_threads: threads that decode; None means as many as processors.
      max_batches: how many at most; None means all.
      cache: "memory" or "disk" copies the files there first, see `file_cache`.
      shard: the part to yield: every `count`-th record.

    Returns:
      Batches of {"image": float32 [B, H, W, C], "label": int32 [B], "filename": string [B],
      "record": int64 [B]}: `record` counts the examples from 0; `filename` is the record's own,
      else "record" and its number.

    Raises:
      InputError: the files are damaged.
      tf.errors.OpError: while iterating, for a record that cannot be read; `explained` names it.
    """
    _check(dataset)

    @tf.autograph.experimental.do_not_convert
    def prepare(index: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
        example = schema.parse_example(record)
        unnamed = tf.strings.join(["record ", tf.strings.as_string(index)])
        named = tf.strings.length(example["filename"]) > 0
        return {
            "image": decode(example["encoded"]),
            "label": _label(example["label"], dataset),
            "filename": tf.where(named, example["filename"], unnamed),
            "record": index,
        }

    paths, compression = file_cache.copies(dataset.files, dataset.compression, cache)
    ds = _read(list(paths), compression).enumerate().shard(shard.count, shard.index)
    ds = ds.map(prepare, num_parallel_calls=_threads(num_threads), deterministic=True)
    ds = ds.batch(batch_size)
    if max_batches is not None:
        ds = ds.take(max_batches)
    return ds.prefetch(_BATCHES_AHEAD).with_options(_options(num_threads))


def first_examples(dataset: Dataset, count: int) -> list[dict[str, tf.Tensor]]:
    """The first examples of the files, as `schema.parse_example` gives them, with checked labels.

    Raises:
      InputError: the files are damaged.
      tf.errors.OpError: for a record that cannot be read; `explained` names it.
    """
    _check(dataset)
    examples = []
    for record in _read(list(dataset.files), dataset.compression).take(count):
        example = schema.parse_example(record)
        examples.append(example | {"label": _label(example["label"], dataset)})
    return examples


def labels(dataset: Dataset) -> np.ndarray:
    """int64 [N], the class of each example in the order of the files; reads them all once.

    Raises:
      InputError: the files are damaged, or a label is outside the classes.
      tf.errors.OpError: for a record that cannot be read; `explained` names it.
    """
    _check(dataset)
    records = _read(list(dataset.files), dataset.compression).batch(1024)
    ds = records.map(schema.parse_labels).with_options(_options(None))
    found = np.concatenate([part.numpy() for part in ds]) - dataset.labels_offset
    if ((found < 0) | (found >= dataset.num_classes)).any():
        raise _named(bad_records.find(dataset, limit=1)[0])
    return found


def balanced_repeats(labels: np.ndarray) -> np.ndarray:
    """How often each example must come for all classes to be equally frequent; int64 [N].

    Every class fills as many places as the largest has examples, each of its examples as many as
    any other of them, or one more.
    """
    counts = np.bincount(labels)
    repeats = np.empty_like(labels)
    for label in np.flatnonzero(counts):
        own = np.flatnonzero(labels == label)
        times, rest = divmod(counts.max(), len(own))
        repeats[own] = times + (np.arange(len(own)) < rest)
    return repeats


def explained(dataset: Dataset, function: Callable[[], _Result]) -> _Result:
    """Calls `function`, which consumes batches of `dataset`, and names the record it fails on.

    TensorFlow says what is wrong with a record, but not with which: so after a failure the dataset
    is searched for it.

    Raises:
      InputError: a record cannot be read, one line with file, number and reason; a file has more
        or fewer records than before; or a tf.data service was restarted.
      OSError: the disk fails while a file is read.
      tf.errors.OpError: as the function raised it, where no record is the cause.
    """
    try:
        return function()
    except bad_records.UNREADABLE as error:
        if problem := data_services.forgotten(error):
            raise InputError(problem) from error
        # Failures of the net itself are no reason to search a large dataset.
        is_of_net = "Iterator" not in str(error) and "Dataset" not in str(error)
        if isinstance(error, tf.errors.OpError) and is_of_net:
            raise
        message = getattr(error, "message", "")
        if unread := _UNREAD.search(message):
            raise OSError(errno.EIO, os.strerror(errno.EIO), unread[1]) from error
        is_other = isinstance(error, tf.errors.NotFoundError) or _OTHER_COUNT in message
        if is_other and (change := tfrecord_dataset.change(dataset)):
            raise InputError(
                f"{change}: something has changed it since the start.",
                remedy="Start again once it is whole.",
            ) from error
        found = bad_records.find(dataset, limit=1)
        if not found:
            raise
        raise _named(found[0]) from error


def _shuffled(part: "_Part", seed: int, cache: str, consumed: int) -> tf.data.Dataset:
    """A worker's records epoch after epoch, each in its own order, from `consumed` on.

    An epoch's records come in windows, and each window is shuffled by itself. To begin anywhere,
    only what is left of the epoch from the beginning of one window on has to be read.
    """
    dataset = part.dataset
    mean_bytes = max(1, dataset.num_bytes // dataset.num_examples)
    size = max(1, min(SHUFFLE_WINDOW, _SHUFFLE_BYTES // mean_bytes, part.num_examples))
    num_windows = -(-part.num_examples // size)  # in an epoch
    paths, compression = file_cache.copies(part.files, dataset.compression, cache)
    epoch, position = divmod(consumed, part.num_examples)
    window, place = divmod(position, size)

    def order(number: tf.Tensor) -> tf.Tensor:
        files = tf.range(len(paths))
        return tf.random.experimental.stateless_shuffle(files, seed=_seeds(seed, number)[0])

    begun = part.starts(order(epoch).numpy(), window * size, paths, compression)
    fresh = _fresh_starts(len(paths))

    @tf.autograph.experimental.do_not_convert
    def windows(number: tf.Tensor) -> tf.data.Dataset:
        """An epoch's, numbered throughout; of the first epoch those from `window` on."""
        is_first = number == epoch
        starts = tf.cond(is_first, lambda: tf.constant(begun), lambda: tf.constant(fresh))
        read = _interleaved(part, paths, compression, order(number), starts)
        passed = number * num_windows + tf.where(is_first, tf.constant(window, tf.int64), 0)
        return tf.data.Dataset.zip(_from(passed), part.own_records(read).window(size))

    @tf.autograph.experimental.do_not_convert
    def shuffled(number: tf.Tensor, records: tf.data.Dataset) -> tf.data.Dataset:
        return _shuffle(records, size, _seeds(seed, number)[1])

    # The next window is read while the present one is consumed.
    return _from(epoch).flat_map(windows).prefetch(1).flat_map(shuffled).skip(place)


def _from(number: int | tf.Tensor) -> tf.data.Dataset:
    """The numbers from one on, int64."""
    return tf.data.Dataset.range(number, tf.int64.max)


# Columns of the starts of lanes, int64 [lanes, 5]: the lane, how many of its files are passed over,
# and of the next file the byte and the record to begin with, and how many of the record's repeats
# are over.
_LANE, _PASSED, _BYTE, _RECORD, _REPEATED = range(5)


def _fresh_starts(num_files: int) -> np.ndarray:
    starts = np.zeros([lanes.number_of(num_files), 5], np.int64)
    starts[:, _LANE] = np.arange(len(starts))
    return starts


def _interleaved(
    part: "_Part", paths: Sequence[str], compression: str, order: tf.Tensor, starts: np.ndarray
) -> tf.data.Dataset:
    """The records of the files in this order, in the turns of `lanes`."""
    num_lanes = lanes.number_of(len(paths))

    @tf.autograph.experimental.do_not_convert
    def lane_records(start: tf.Tensor) -> tf.data.Dataset:
        files = order[start[_LANE] :: num_lanes][start[_PASSED] :]
        offsets = tf.concat([start[_BYTE][None], tf.zeros([tf.size(files) - 1], tf.int64)], 0)
        ds = _read_from(tf.gather(paths, files), compression, offsets)
        # Where the byte is not known, the records before it are read.
        ds = ds.skip(tf.where(start[_BYTE] > 0, tf.constant(0, tf.int64), start[_RECORD]))
        # More or fewer were a change of the file, after which no position would hold.
        left = tf.reduce_sum(tf.gather(part.num_records, files)) - start[_RECORD]
        ds = ds.apply(tf.data.experimental.assert_cardinality(left))
        return part.repeated(ds, files, start[_RECORD], start[_REPEATED])

    return tf.data.Dataset.from_tensor_slices(starts).interleave(
        lane_records,
        cycle_length=lanes.MOST_LANES,
        num_parallel_calls=_READ_AHEAD,
        deterministic=True,
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """What one worker reads: files, how often each of their examples, every which of the records.

    Of the records of all `files`, in turn, it takes every `every`-th from number `offset` on.

    Attributes:
      marks: as the dataset has them.
      counts: int64 [files], the examples of each file, repeated ones as often as they come.
      repeats: of each file, how often each of its records comes; None: all of them once.
    """

    dataset: Dataset
    files: tuple[str, ...]
    marks: tuple[Sequence[int], ...]
    counts: np.ndarray
    repeats: list[np.ndarray] | None
    every: int = 1
    offset: int = 0

    @classmethod
    def of(cls, dataset: Dataset, shard: Shard, repeats: np.ndarray | None) -> "_Part":
        _check(dataset)
        index, count = shard.index, shard.count
        if not 0 <= index < count:
            raise ValueError(f"There is no part {index} of {count}.")
        own, every, offset = slice(index, None, count), 1, 0
        if len(dataset.files) < count:
            own, every, offset = slice(None), count, index
        counts, by_file = np.array(dataset.file_counts, np.int64)[own], None
        if repeats is not None:
            by_file = np.split(repeats, np.cumsum(dataset.file_counts)[:-1])[own]
            counts = np.array([times.sum() for times in by_file], np.int64)
        files, marks = dataset.files[own], dataset.marks[own]
        part = cls(dataset, files, marks, counts, by_file, every, offset)
        if not part.num_examples:
            raise InputError(
                f"{dataset.files[0]}: with {dataset.num_examples} examples in "
                f"{len(dataset.files)} files nothing is left for worker {index} of {count}."
            )
        return part

    @property
    def num_records(self) -> np.ndarray:
        """Of each file; int64 [files]."""
        return self.counts if self.repeats is None else np.array([len(n) for n in self.repeats])

    @property
    def num_examples(self) -> int:
        """In an epoch."""
        return len(range(self.offset, int(self.counts.sum()), self.every))

    def starts(
        self, order: np.ndarray, position: int, paths: Sequence[str], compression: str
    ) -> np.ndarray:
        """Where the lanes stand after `position` examples of an epoch with the files in `order`."""
        rows = []
        for start in lanes.starts(self.counts[order], position * self.every):
            file, record, repeated = order[start.file], start.record, 0
            if self.repeats is not None:
                ends = np.cumsum(self.repeats[file])
                record = int(np.searchsorted(ends, start.record, side="right"))
                repeated = start.record - (ends[record - 1] if record else 0)
            byte = 0 if compression else _offset(paths[file], record, self.marks[file])
            rows.append([start.lane, start.passed, byte, record, repeated])
        return np.array(rows, np.int64)

    def repeated(
        self, ds: tf.data.Dataset, files: tf.Tensor, record: tf.Tensor, repeated: tf.Tensor
    ) -> tf.data.Dataset:
        """The records of some files, from `record` of the first on, as often as `repeats` says.

        Of the first record `repeated` repeats are over.
        """
        if self.repeats is None:
            return ds
        splits = np.cumsum([0, *map(len, self.repeats)])
        values = np.concatenate(self.repeats)
        by_file = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
        times = tf.gather(by_file, files).flat_values[record:]
        times = tf.concat([times[:1] - repeated, times[1:]], 0)
        pairs = tf.data.Dataset.zip(ds, tf.data.Dataset.from_tensor_slices(times))
        return pairs.flat_map(lambda record, n: tf.data.Dataset.from_tensors(record).repeat(n))

    def own_records(self, ds: tf.data.Dataset) -> tf.data.Dataset:
        return ds.shard(self.every, self.offset) if self.every > 1 else ds


def _offset(path: str, record: int, marks: Sequence[int]) -> int:
    """The byte at which a record begins."""
    try:
        return int(offset_of(path, record, marks))
    except BrokenFrame as error:
        raise _named(f"{path}: {error}") from error


def _check(dataset: Dataset) -> None:
    if dataset.damage:
        raise _named(dataset.damage[0])


def _named(record: bad_records.BadRecord | str) -> InputError:
    return InputError(
        f"{record}.", remedy="Convert it anew, or pass over such records with --max_bad_records."
    )


def _read(paths, compression: str) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(paths, compression, buffer_size=_READ_BUFFER_BYTES)


def _read_from(paths: tf.Tensor, compression: str, offsets: tf.Tensor) -> tf.data.Dataset:
    """The records of the files, of each from a byte on at which one begins.

    Only for functions that tf.data calls: TensorFlow 2.21 can't put this dataset into a graph.
    """
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=paths,
        compression_type=compression,
        buffer_size=tf.constant(_READ_BUFFER_BYTES, tf.int64),
        byte_offsets=offsets,
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def _label(label: tf.Tensor, dataset: Dataset) -> tf.Tensor:
    label -= dataset.labels_offset
    inside = tf.logical_and(label >= 0, label < dataset.num_classes)
    check = tf.debugging.Assert(inside, ["label outside the classes", label])
    with tf.control_dependencies([check]):
        return tf.cast(label, tf.int32)


def _seeds(seed: int, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two seeds, int32 [2] each, for an int64 number such as an epoch's or an example's."""
    first = tf.cast(tf.stack(seeds.pair(seed, tf.cast(number, tf.int64))), tf.int32)
    return first, tf.bitwise.invert(first)


def _shuffle(ds: tf.data.Dataset, buffer: int, seed: tf.Tensor) -> tf.data.Dataset:
    """As Dataset.shuffle, but independent of TensorFlow's global seed."""
    pair = tf.cast(seed, tf.int64)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(ds),
        buffer_size=tf.constant(buffer, tf.int64),
        seed=pair[0],
        # Two zeros would mean a random seed.
        seed2=pair[1] * 2 + 1,
        output_types=[tf.string],
        output_shapes=[[]],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def _threads(num_threads: int | None) -> int:
    return num_threads or machine.num_processors()


def _options(num_threads: int | None) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # The numbers are given here. And the thread that would tune them can hold up the end of a
    # program, after an error above all, by a minute.
    options.autotune.enabled = False
    # Workers get their shards above.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # Several images are prepared at a time; to split one image's work among threads costs more.
    options.threading.max_intra_op_parallelism = 1
    if num_threads is not None:
        options.threading.private_threadpool_size = num_threads
    return options
