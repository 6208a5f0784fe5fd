"""Records that cannot be read: each is named with file, number and reason, or passed over."""

import gzip
import os

import numpy as np
import pytest
import tensorflow as tf

from datasets import bad_records, batches, schema, tfrecord_dataset
from foundation import files

_IMAGE = tf.io.encode_jpeg(
    np.random.default_rng(0).integers(0, 255, [40, 50, 3], dtype=np.uint8)
).numpy()


def _record(label: int = 0, image: bytes = _IMAGE, boxes: tuple[schema.Box, ...] = ()) -> bytes:
    name = f"{label}.jpg"
    return schema.frame(
        schema.Example(image, "jpeg", 40, 50, label, "", name, boxes, "").serialize()
    )


def _record_with(**features: list[float]) -> bytes:
    """A record with more features, of the names of boxes' sides."""
    example = tf.train.Example.FromString(_record()[12:-4])
    for name, values in features.items():
        name = name if name == "bbox" else f"image/object/bbox/{name}"
        example.features.feature[name].float_list.value[:] = values
    return schema.frame(example.SerializeToString())


def _changed(record: bytes, position: int) -> bytes:
    return record[:position] + bytes([record[position] ^ 1]) + record[position + 1 :]


_GOOD = [_record(i % 2) for i in range(5)]
_NO_LABEL = tf.train.Example(
    features=tf.train.Features(
        feature={"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[_IMAGE]))}
    )
).SerializeToString()


def _with_a_long_value() -> bytes:
    """A tf.Example after whose image stands one more feature, with bytes said to be 4 GiB long."""
    content = b"\x0a\xfe\xff\xff\xff\x0fdog"
    for tag in (b"\x0a", b"\x12"):  # bytes_list of a Feature, value of an entry of the map
        content = tag + bytes([len(content)]) + content
    for tag, key in ((b"\x0a", b"\x0a\x01x"), (b"\x0a", b"")):  # entry and Features
        content = tag + bytes([len(key + content)]) + key + content
    return _record()[12:-4] + content


# what is wrong: the bytes between the third and the fourth good record, and the words
_BAD = {
    "checksum": (_changed(_record(), 100), "its checksum is wrong"),
    "no example": (schema.frame(b"hello"), "no example with image, label and boxes .*parse"),
    # TensorFlow's parser of examples would write where it may not, and the process would end.
    "a length of 4 GiB": (
        schema.frame(_with_a_long_value()),
        r"no example with image, label and boxes \(Unable to parse binary protobuf\)",
    ),
    "no label": (
        schema.frame(_NO_LABEL),
        "no example with image, label and boxes .*image/class/label",
    ),
    "no image": (_record(image=b""), "its image cannot be decoded"),
    "html": (_record(image=b"<html></html>"), r"cannot be decoded \(Unknown image file format"),
    "truncated image": (_record(image=_IMAGE[:300]), "its image cannot be decoded"),
    "label": (_record(7), "its label 7 is outside the classes 0 to 1"),
    "negative label": (_record(-1), "its label -1 is outside the classes 0 to 1"),
}
# these leave nothing to be read behind them
_BREAKS = {
    "length": (_changed(_record(), 0), r"its length is corrupt; .* \(\d+ bytes\) is lost"),
    "cut off": (_record()[:200], r"the file is cut off; what stands from there on.* is lost"),
}


def _dataset(tmp_path, middle: bytes, last: list[bytes], compress: bool = False):
    data = b"".join(_GOOD[:3]) + middle + b"".join(last)
    path = tmp_path / "pets_train-00000-of-00001.tfrecord"
    path.write_bytes(gzip.compress(data) if compress else data)
    (tmp_path / "labels.txt").write_text("0:cat\n1:dog\n")
    return tfrecord_dataset.find(str(tmp_path)), str(path)


def _decode(encoded, *_):
    return tf.io.decode_and_crop_jpeg(encoded, [10, 10, 8, 8], channels=3)


def _evaluated(dataset) -> int:
    return sum(len(batch["label"]) for batch in batches.evaluation_batches(dataset, _decode, 2))


@pytest.mark.parametrize(
    "kind, compress",
    [(kind, False) for kind in [*_BAD, *_BREAKS]] + [("checksum", True), ("cut off", True)],
)
def test_a_bad_record_is_named_or_passed_over(tmp_path, kind, compress):
    middle, words = (_BAD | _BREAKS)[kind]
    dataset, path = _dataset(tmp_path, middle, [] if kind == "cut off" else _GOOD[3:], compress)
    for consume in (
        lambda: _evaluated(dataset),
        lambda: list(batches.training_batches(dataset, batches.Preparation(_decode), 2).take(10)),
    ):
        with pytest.raises(ValueError, match=f"record 3: .*{words}.*--max_bad_records") as caught:
            batches.explained(dataset, consume)
        assert str(caught.value).startswith(f"{path}: record 3: ")
        assert "\n" not in str(caught.value)

    without, bad = bad_records.drop(dataset, 1)
    assert [(record.file, record.record) for record in bad] == [(path, 3)]
    expected = 5 if kind in _BAD else 3
    assert without.num_examples == _evaluated(without) == expected
    taken = batches.training_batches(without, batches.Preparation(_decode), expected).take(2)
    assert len(list(taken)) == 2


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (_record_with(xmin=[0.1, 0.2], ymin=[0.1]), "no example with image, label and boxes"),
        (_record_with(bbox=[0.1] * 5), "no example with image, label and boxes"),
        (_record(boxes=(schema.Box(0.1, float("nan"), 0.5, 0.5),)), "a box in it is not a number"),
    ],
)
def test_boxes_that_make_no_sense_are_bad_too(tmp_path, record, words):
    dataset, path = _dataset(tmp_path, record, _GOOD[3:])

    def with_boxes(encoded, boxes, seed):
        with tf.control_dependencies([tf.debugging.assert_all_finite(boxes, "boxes")]):
            return _decode(encoded)

    def consume():
        return list(batches.training_batches(dataset, batches.Preparation(with_boxes), 2).take(10))

    with pytest.raises(ValueError, match=f"record 3: .*{words}.*--max_bad_records") as caught:
        batches.explained(dataset, consume)
    assert "\n" not in str(caught.value)
    without, _ = bad_records.drop(dataset, 1)
    assert without.num_examples == 5
    assert without.sources == (path,) != without.files


def test_labels_outside_the_classes_are_named_when_classes_are_balanced(tmp_path):
    dataset, path = _dataset(tmp_path, _record(7), _GOOD[3:])
    with pytest.raises(ValueError, match=f"^{path}: record 3: its label 7 is outside"):
        batches.labels(dataset)
    with pytest.raises(ValueError, match=f"^{path}: record 0: its label 0 less --labels_offset=1"):
        batches.labels(tfrecord_dataset.find(str(tmp_path), labels_offset=1))


def test_the_summary_lists_the_first_of_many():
    bad = [bad_records.BadRecord("a", i, "why") for i in range(25)]
    lines = bad_records.summary(bad)
    assert lines[0] == "Passed over 25 records that cannot be read:"
    assert lines[1] == "  a: record 0: why" and lines[-1] == "  … and 5 more"
    assert bad_records.summary([]) == []


def test_several_are_listed_in_order_and_counted(tmp_path):
    html, broken = _BAD["html"][0], _BAD["checksum"][0]
    dataset, path = _dataset(tmp_path, html + broken, [*_GOOD[3:], html])
    found = bad_records.find(dataset)
    assert [record.record for record in found] == [3, 4, 7]
    assert str(found[1]) == f"{path}: record 4: its checksum is wrong; the file was damaged"
    assert [record.record for record in bad_records.find(dataset, limit=2)] == [3, 4]
    with pytest.raises(ValueError, match="^3 records cannot be read, more than .*=2. The first: "):
        bad_records.drop(dataset, 2)
    without, bad = bad_records.drop(dataset, 3)
    assert (without.num_examples, len(bad)) == (5, 3)


def test_other_files_stay_where_they_are(tmp_path):
    for i, records in enumerate([_GOOD[:2], [*_GOOD[2:], _BAD["html"][0]]]):
        path = tmp_path / f"pets_train-{i:05d}-of-00002.tfrecord"
        path.write_bytes(b"".join(records))
    dataset = tfrecord_dataset.find(str(tmp_path))
    without, _ = bad_records.drop(dataset, 5)
    assert without.files[0] == dataset.files[0] and without.files[1] != dataset.files[1]
    assert without.file_counts == (2, 3)
    with pytest.raises(BlockingIOError), files.locked(os.path.dirname(without.files[1])):
        pass  # the copies are in use, and no other process removes them


def test_a_dataset_of_bad_records_only_is_refused(tmp_path):
    (tmp_path / "pets_train.tfrecord").write_bytes(_BAD["html"][0] * 2)
    dataset = tfrecord_dataset.find(str(tmp_path))
    with pytest.raises(ValueError, match="record 0: .*; nor can any other record of the train"):
        bad_records.drop(dataset, 5)


def test_nothing_is_read_without_need(tmp_path, monkeypatch):
    dataset, _ = _dataset(tmp_path, b"", [])
    monkeypatch.setattr(bad_records, "find", None)
    assert bad_records.drop(dataset, 0) == (dataset, [])
    assert batches.explained(dataset, lambda: 3) == 3

    def fail():
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        batches.explained(dataset, fail)


def test_errors_that_no_record_causes_are_passed_on(tmp_path):
    dataset, _ = _dataset(tmp_path, b"", [])

    def decode(encoded):
        return tf.ensure_shape(tf.io.decode_jpeg(encoded), [9, 9, 3])

    with pytest.raises(tf.errors.InvalidArgumentError):
        batches.explained(dataset, lambda: list(batches.evaluation_batches(dataset, decode, 2)))


def test_a_disk_that_fails_while_records_are_read_is_told(tmp_path):
    dataset, _ = _dataset(tmp_path, b"", [])

    def fail():
        said = "data/pets_train.tfrecord; Input/output error\n\t [[{{node IteratorGetNext}}]]"
        raise tf.errors.UnknownError(None, None, said)

    with pytest.raises(OSError, match="Input/output error") as caught:
        batches.explained(dataset, fail)
    assert caught.value.filename == "data/pets_train.tfrecord"
