"""Batches: each example when it should come, the same for any parallelism, from any position."""

import collections
import gzip
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from datasets import batches, file_cache, frames, lanes, schema, tfrecord_dataset
from datasets.options import ReadingOptions
from foundation import files
from foundation.errors import InputError, UsageError


def _write_dataset(folder, counts, split="train", compress=False, boxes=()):
    """Records whose image is a grey pixel of their running number."""
    number = 0
    for i, count in enumerate(counts):
        records = b""
        for _ in range(count):
            image = tf.io.encode_png(np.full([1, 1, 3], number, np.uint8)).numpy()
            record = schema.Example(
                image, "png", 1, 1, number % 3, "abc"[number % 3], f"{number}.png", boxes, ""
            ).serialize()
            records += schema.frame(record)
            number += 1
        name = f"pets_{split}-{i:05d}-of-{len(counts):05d}.tfrecord"
        (folder / name).write_bytes(gzip.compress(records) if compress else records)
    return tfrecord_dataset.find(str(folder), split=split)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return _write_dataset(tmp_path_factory.mktemp("pets"), [7, 5, 8, 3])


def _pixel(encoded):
    return tf.cast(tf.io.decode_png(encoded, channels=3), tf.float32)


def _decode(encoded, boxes, seed):
    """The number of the example, its seed, and how many boxes it has."""
    number = _pixel(encoded)[0, 0, 0]
    return tf.stack(
        [number, *tf.unstack(tf.cast(seed, tf.float32)), tf.cast(tf.shape(boxes)[0], tf.float32)]
    )


def _training(dataset, batch_size=1, decode=_decode, index=0, num_shards=1, **arguments):
    preparation = {"decode": decode}
    for name in ("seed", "num_threads", "to_input", "mix"):
        if name in arguments:
            preparation[name] = arguments.pop(name)
    return batches.training_batches(
        dataset,
        batches.Preparation(**preparation),
        batch_size,
        shard=batches.Shard(index, num_shards),
        **arguments,
    )


def _draw(dataset, num_batches, batch_size=4, **arguments):
    """Batches as arrays of (number, seed, seed, boxes), with the labels beside them."""
    ds = _training(dataset, batch_size, **arguments)
    taken = list(ds.take(num_batches).as_numpy_iterator())
    return np.stack([np.column_stack([b["image"], b["label"]]) for b in taken])


def _numbers(drawn) -> list[int]:
    return drawn[..., 0].astype(int).ravel().tolist()


# Training


def test_every_epoch_holds_each_example_once_in_another_order(dataset):
    numbers = _numbers(_draw(dataset, 5, batch_size=23))
    epochs = [numbers[i : i + 23] for i in range(0, 115, 23)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(23))
    assert len({tuple(epoch) for epoch in epochs}) == 5


@pytest.mark.parametrize("repeats", [None, np.array([2, 1] * 10)])
@pytest.mark.parametrize("records", [0, 5, 9])
def test_a_file_that_holds_more_or_less_after_a_while_is_named(tmp_path, records, repeats):
    """Cut or prolonged between two records nothing is damaged, and yet photographs are missing."""
    dataset = _write_dataset(tmp_path, [7, 5, 8])
    (tmp_path / "other").mkdir()
    other = _write_dataset(tmp_path / "other", [records, 30])
    drawn = iter(_training(dataset, repeats=repeats))
    next(drawn)
    pathlib.Path(dataset.files[0]).write_bytes(pathlib.Path(other.files[0]).read_bytes())
    with pytest.raises(InputError, match=f"{dataset.files[0]} has {records} records, not 7: "):
        batches.explained(dataset, lambda: [next(drawn) for _ in range(90)])


def test_labels_belong_to_their_images(dataset):
    drawn = _draw(dataset, 6)
    assert (drawn[..., 0] % 3 == drawn[..., -1]).all()


def test_the_elements_are_as_promised(dataset):
    ds = _training(dataset, 4, lambda e, b, s: _pixel(e))
    spec = ds.element_spec
    assert spec["label"] == tf.TensorSpec([4], tf.int32)
    assert spec["image"].dtype == tf.float32 and spec["image"].shape[0] == 4


def test_equal_seeds_give_equal_batches_for_any_parallelism(dataset):
    expected = _draw(dataset, 12, seed=5)
    tf.random.set_seed(1)
    np.testing.assert_array_equal(_draw(dataset, 12, seed=5, num_threads=1), expected)
    tf.random.set_seed(2)
    np.testing.assert_array_equal(_draw(dataset, 12, seed=5, num_threads=7), expected)
    assert _numbers(_draw(dataset, 12, seed=6)) != _numbers(expected)


@pytest.mark.parametrize("seed, steps", [(0, 1), (3, 5), (-1, 6), (2**40, 23), (3, 40)])
def test_a_run_resumes_where_it_was(dataset, seed, steps):
    expected = _draw(dataset, 45, seed=seed)[steps:]
    resumed = _draw(dataset, 45 - steps, seed=seed, consumed=4 * steps)
    np.testing.assert_array_equal(resumed, expected)


def test_resuming_far_ahead_takes_no_longer(dataset):
    drawn = _draw(dataset, 3, consumed=23 * 10**9 + 5)
    assert set(_numbers(drawn)) <= set(range(23))


# Files of unequal sizes, empty ones among them, more than are read at once.
_SIZES = [3, 0, 1, 5, 2, 9, 1, 1, 4, 0, 2, 6, 3, 1, 8, 2, 1, 3, 7, 0, 1, 2, 5, 1, 1, 2, 14, 3, 1, 4]


@pytest.mark.parametrize(
    "compress, part, balanced",
    [
        (False, (0, 1), False),
        (True, (0, 1), True),
        (False, (1, 2), True),
        (True, (1, 2), False),
        (False, (33, 40), True),
    ],
)
def test_any_place_is_jumped_to(tmp_path, monkeypatch, compress, part, balanced):
    """The records after a jump are those read through, over several epochs."""
    monkeypatch.setattr(batches, "SHUFFLE_WINDOW", 11)
    monkeypatch.setattr(frames, "MARKED", 3)
    monkeypatch.setattr(tfrecord_dataset, "MARKED", 3)
    dataset = _write_dataset(tmp_path, _SIZES, compress=compress)
    assert max(map(len, dataset.marks)) == 4
    repeats = 1 + np.arange(dataset.num_examples) % 3 if balanced else None
    own = batches._Part.of(dataset, batches.Shard(*part), repeats)

    def stream(place: int, count: int) -> list[bytes]:
        return list(batches._shuffled(own, 4, "none", place).take(count).as_numpy_iterator())

    epoch = own.num_examples
    through = stream(0, 3 * epoch + 5)
    comings = collections.Counter(through[epoch : 2 * epoch])
    assert sum(comings.values()) == epoch and max(comings.values()) <= (3 if balanced else 1)
    for place in (epoch - 1, epoch + epoch // 3, 2 * epoch, 2 * epoch + (7 * epoch) // 8):
        assert stream(place, len(through) - place) == through[place:]


def test_what_was_consumed_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "SHUFFLE_WINDOW", 4)
    dataset = _write_dataset(tmp_path, [10] * 4)
    through = _numbers(_draw(dataset, 40, 1))
    for path in map(pathlib.Path, dataset.files):  # seven records of each are spoilt
        content = bytearray(path.read_bytes())
        for record in range(7):
            content[frames.offset_of(str(path), record) + 12] ^= 1
        path.write_bytes(content)
    assert _numbers(_draw(dataset, 12, 1, consumed=28)) == through[28:]
    with pytest.raises(tf.errors.DataLossError):
        _draw(dataset, 13, 1, consumed=27)


def test_what_must_be_read_again_is_said(tmp_path, dataset):
    assert not batches.remark_on_resuming(dataset, 8, "none")
    compressed = _write_dataset(tmp_path, [3, 4], compress=True)
    assert "of up to 2 of them what was consumed" in batches.remark_on_resuming(
        compressed, 8, "none"
    )
    assert not batches.remark_on_resuming(compressed, 0, "none")
    assert not batches.remark_on_resuming(compressed, 8, "disk")


def test_the_lanes_stand_where_reading_leads():
    rng = np.random.default_rng(3)
    for _ in range(200):
        counts = rng.integers(0, 6, rng.integers(1, 60))
        if not counts.sum():
            continue
        queues = [
            [
                (file, record)
                for file in range(lane, len(counts), 16)
                for record in range(counts[file])
            ]
            for lane in range(min(16, len(counts)))
        ]
        stream = []
        while any(queues):
            stream += [queue.pop(0) for queue in queues if queue]
        place = int(rng.integers(len(stream)))
        ahead = [(start.file, start.record) for start in lanes.starts(counts, place)]
        assert len({file % 16 for file, _ in ahead}) == len(ahead)
        firsts = {}
        for file, record in stream[place:]:
            firsts.setdefault(file % 16, (file, record))
        assert ahead == list(firsts.values())


def test_each_example_has_a_seed_of_its_own(dataset):
    seeds = _draw(dataset, 100)[..., 1:3].reshape(-1, 2)
    assert len(np.unique(seeds, axis=0)) == 400


def test_batches_may_be_larger_than_the_dataset(dataset):
    numbers = collections.Counter(_numbers(_draw(dataset, 1, batch_size=69)))
    assert numbers == {i: 3 for i in range(23)}


def test_a_wide_window_mixes_all_files(dataset):
    epochs = np.reshape(_numbers(_draw(dataset, 60, 23)), [60, 23])
    medians = np.median(epochs[:, :11], axis=1)
    assert 10 < medians.mean() < 12  # of a random half of 0 … 22 it is 11
    assert len(np.unique(epochs[:, 0])) > 15


def test_the_shuffled_window_can_be_turned_down(dataset, monkeypatch):
    monkeypatch.setattr(batches, "SHUFFLE_WINDOW", 1)
    one = _numbers(_draw(dataset, 1, 23))
    # Files in turn, then one record of each at a time, in their order.
    file_of = np.repeat(range(4), [7, 5, 8, 3])
    for file in range(4):
        own = [number for number in one if file_of[number] == file]
        assert own == sorted(own)
    assert len(set(file_of[one[:4]])) == 4


def test_the_window_is_bounded_by_memory(dataset, monkeypatch):
    monkeypatch.setattr(batches, "_SHUFFLE_BYTES", dataset.num_bytes // 4)
    # A window of 5 of 23 records holds those of each file's beginning, in their turns.
    windows = np.reshape(_numbers(_draw(dataset, 4, 5)), [4, 5])
    file_of = np.repeat(range(4), [7, 5, 8, 3])
    read = collections.defaultdict(list)
    for window in windows:
        own = collections.Counter(file_of[window])
        for file in own:
            read[file] += sorted(number for number in window if file_of[number] == file)
    assert all(sorted(own) == own for own in read.values())
    assert set(collections.Counter(file_of[windows[0]]).values()) == {1, 2}
    assert _numbers(_draw(dataset, 1, 20)) == windows.ravel().tolist()


@pytest.mark.parametrize("num_shards", [3, 4])
def test_workers_share_the_files(dataset, num_shards):
    seen, seeds = [], []
    for index in range(num_shards):
        size = sum(dataset.file_counts[index::num_shards])
        drawn = _draw(dataset, 2, size, index=index, num_shards=num_shards)
        first, second = drawn[..., 0].tolist()
        assert sorted(first) == sorted(second)
        seen += first
        seeds += drawn[..., 1:3].reshape(-1, 2).tolist()
    assert sorted(seen) == list(range(23))
    assert len(np.unique(seeds, axis=0)) == len(seeds)


def test_workers_without_a_file_of_their_own_share_the_records(dataset):
    parts = [
        _draw(dataset, 2, len(range(index, 23, 5)), index=index, num_shards=5) for index in range(5)
    ]
    for epoch in range(2):
        seen = np.concatenate([part[epoch, :, 0] for part in parts])
        assert sorted(seen) == list(range(23))


def test_a_worker_resumes_too(dataset):
    part = {"index": 1, "num_shards": 3}
    expected = _draw(dataset, 12, **part)[7:]
    np.testing.assert_array_equal(_draw(dataset, 5, consumed=28, **part), expected)


def test_a_worker_without_examples_is_an_error(tmp_path):
    dataset = _write_dataset(tmp_path, [2])
    with pytest.raises(ValueError, match="2 examples in 1 files nothing is left for worker 2 of 3"):
        _training(dataset, index=2, num_shards=3)
    with pytest.raises(ValueError, match="no part 3 of 3"):
        _training(dataset, index=3, num_shards=3)


def test_what_suits_a_batch_is_done_on_the_batch(dataset):
    def to_input(drawn):
        assert drawn["number"].shape == [4]
        return drawn["number"][:, None, None, None] * 2

    ds = _training(dataset, 4, lambda e, b, s: {"number": _pixel(e)[0, 0, 0]}, to_input=to_input)
    plain = _draw(dataset, 3)
    for batch, expected in zip(ds.take(3).as_numpy_iterator(), plain, strict=True):
        np.testing.assert_array_equal(batch["image"].ravel(), expected[:, 0] * 2)


def test_boxes_reach_the_decoder(tmp_path):
    boxes = (schema.Box(0.1, 0.2, 0.3, 0.4), schema.Box(0.5, 0.6, 0.7, 0.8))
    dataset = _write_dataset(tmp_path, [2], boxes=boxes)
    ds = _training(dataset, 1, lambda e, b, s: b)
    np.testing.assert_allclose(next(ds.as_numpy_iterator())["image"][0], boxes)


def test_labels_are_less_the_offset(tmp_path):
    _write_dataset(tmp_path, [9])
    dataset = tfrecord_dataset.find(str(tmp_path), labels_offset=1)
    ds = batches.evaluation_batches(dataset, _pixel, 3)
    with pytest.raises(ValueError, match="record 0: its label 0 less --labels_offset=1 is outside"):
        batches.explained(dataset, lambda: list(ds))


# Evaluation


@pytest.mark.parametrize("compress", [False, True])
def test_each_example_is_evaluated_once_in_order(tmp_path, compress):
    dataset = _write_dataset(tmp_path, [7, 5], "validation", compress)
    taken = list(batches.evaluation_batches(dataset, _pixel, 5).as_numpy_iterator())
    assert [len(batch["label"]) for batch in taken] == [5, 5, 2]
    joined = {key: np.concatenate([batch[key] for batch in taken]) for key in taken[0]}
    assert joined["record"].tolist() == list(range(12)) == joined["image"][:, 0, 0, 0].tolist()
    assert joined["label"].tolist() == [i % 3 for i in range(12)]
    assert joined["filename"].tolist() == [f"{i}.png".encode() for i in range(12)]
    assert joined["label"].dtype == np.int32 and joined["record"].dtype == np.int64


def test_evaluation_can_stop_early(dataset):
    taken = list(batches.evaluation_batches(dataset, _pixel, 5, max_batches=2))
    assert sum(len(batch["label"]) for batch in taken) == 10


def test_a_record_without_a_filename_has_its_number(tmp_path):
    image = tf.io.encode_png(np.zeros([1, 1, 3], np.uint8)).numpy()
    record = schema.frame(schema.Example(image, "png", 1, 1, 0, "a", "", (), "").serialize())
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record * 2)
    dataset = tfrecord_dataset.find(tfrecord_file=str(path))
    batch = next(batches.evaluation_batches(dataset, _pixel, 2).as_numpy_iterator())
    assert batch["filename"].tolist() == [b"record 0", b"record 1"]


# Caches


@pytest.mark.parametrize("compress", [False, True])
def test_a_cache_changes_nothing(tmp_path, compress):
    dataset = _write_dataset(tmp_path, [4, 3], compress=compress)
    expected = _draw(dataset, 6)
    for kind in ("memory", "disk"):
        np.testing.assert_array_equal(_draw(dataset, 6, cache=kind), expected)
        np.testing.assert_array_equal(_draw(dataset, 3, cache=kind, consumed=12), expected[3:])
        evaluated = batches.evaluation_batches(dataset, _pixel, 7, cache=kind)
        assert next(evaluated.as_numpy_iterator())["record"].tolist() == list(range(7))
        paths, compression = file_cache.copies(dataset.files, dataset.compression, kind)
        assert paths != dataset.files and compression == ""
    with pytest.raises(BlockingIOError), files.locked(os.path.dirname(paths[0])):
        pass  # a copy on the disk is in use, and no other process removes it
    kept = file_cache.copies(dataset.files, dataset.compression, "none")
    assert kept == (dataset.files, dataset.compression)


def test_an_unknown_cache_is_refused():
    with pytest.raises(UsageError, match="--cache=ram: unknown. Choose of none, memory, disk"):
        ReadingOptions(cache="ram")


# Balanced sampling


def test_the_labels_are_those_of_the_records(dataset):
    ds = batches.evaluation_batches(dataset, _pixel, 23)
    assert batches.labels(dataset).tolist() == next(iter(ds))["label"].numpy().tolist()


def test_rare_classes_come_as_often_as_the_largest():
    repeats = batches.balanced_repeats(np.array([0, 1, 0, 0, 2, 0, 0, 2]))
    assert repeats.tolist() == [1, 5, 1, 1, 3, 1, 1, 2]


@pytest.mark.parametrize("num_shards", [1, 2, 5])
def test_balanced_epochs_hold_each_example_as_often_as_asked(dataset, num_shards):
    repeats = np.where(np.arange(23) % 3 == 0, 4, 1)
    drawn, total = collections.Counter(), int(repeats.sum())
    for index in range(num_shards):
        shard = {"index": index, "num_shards": num_shards, "repeats": repeats}
        whole = _numbers(_draw(dataset, 60, batch_size=1, **shard))
        if index == num_shards - 1:
            resumed = _numbers(_draw(dataset, 20, batch_size=1, consumed=40, **shard))
            assert resumed == whole[40:60]
        part = batches._Part.of(dataset, batches.Shard(index, num_shards), repeats).num_examples
        drawn.update(whole[:part])
    assert sum(drawn.values()) == total
    assert [drawn[i] for i in range(23)] == repeats.tolist()
