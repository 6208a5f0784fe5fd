import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from datasets import schema

_RECORD = {
    "encoded": b"\x00\xffpixels",
    "image_format": "jpeg",
    "height": 30,
    "width": 40,
    "label": 2,
    "text": "Käfer",
    "filename": "a/b.jpg",
    "boxes": (schema.Box(0.1, 0.2, 0.5, 0.75), schema.Box(0, 0, 1, 1)),
    "sha256": "ab" * 32,
}


def test_a_record_is_a_tf_example_with_slims_features_and_more():
    example = tf.train.Example.FromString(schema.Example(**_RECORD).serialize())
    features = example.features.feature
    assert features["image/encoded"].bytes_list.value == [b"\x00\xffpixels"]
    assert features["image/format"].bytes_list.value == [b"jpeg"]
    assert features["image/class/label"].int64_list.value == [2]
    assert features["image/height"].int64_list.value == [30]
    assert features["image/width"].int64_list.value == [40]
    assert features["image/filename"].bytes_list.value == [b"a/b.jpg"]
    assert features["image/class/text"].bytes_list.value == ["Käfer".encode()]
    assert features["image/sha256"].bytes_list.value == [b"ab" * 32]
    for side, values in (
        ("ymin", [0.1, 0]),
        ("xmin", [0.2, 0]),
        ("ymax", [0.5, 1]),
        ("xmax", [0.75, 1]),
    ):
        np.testing.assert_allclose(
            features[f"image/object/bbox/{side}"].float_list.value, values, rtol=1e-6
        )
    assert len(features) == 12


def test_nothing_of_the_message_is_unknown_to_tensorflow():
    record = schema.Example(**_RECORD).serialize()
    example = tf.train.Example.FromString(record)
    example.DiscardUnknownFields()
    assert example.ByteSize() == len(record)


def test_a_file_name_that_is_not_utf8_keeps_its_bytes():
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    record = schema.Example(**{**_RECORD, "filename": name}).serialize()
    assert schema.parse_example(tf.constant(record))["filename"].numpy() == b"caf\xe9.jpg"


@pytest.mark.parametrize("boxes", [_RECORD["boxes"], ()])
def test_parsing_gives_back_what_was_encoded_also_inside_tf_data(boxes):
    record = schema.Example(**{**_RECORD, "boxes": boxes}).serialize()
    ds = tf.data.Dataset.from_tensors(record).map(schema.parse_example)
    (parsed,) = ds.as_numpy_iterator()
    assert parsed["encoded"] == b"\x00\xffpixels"
    assert parsed["label"] == 2 and parsed["label"].dtype == np.int64
    assert parsed["filename"] == b"a/b.jpg"
    assert parsed["text"].decode() == "Käfer"
    assert parsed["boxes"].dtype == np.float32
    np.testing.assert_allclose(parsed["boxes"], np.reshape(boxes, [-1, 4]), rtol=1e-6)


def _slim_record(**more):
    """A record as TF-Slim's dataset_utils.image_to_tfexample writes it."""
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"pixels"])),
        "image/format": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"jpg"])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[3])),
        "image/height": tf.train.Feature(int64_list=tf.train.Int64List(value=[5])),
        "image/width": tf.train.Feature(int64_list=tf.train.Int64List(value=[6])),
        **more,
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_slims_own_records_are_read():
    parsed = schema.parse_example(tf.constant(_slim_record()))
    assert parsed["encoded"].numpy() == b"pixels"
    assert parsed["label"].numpy() == 3
    assert parsed["boxes"].shape == (0, 4)
    assert parsed["filename"].numpy() == b"" and parsed["text"].numpy() == b""


def test_a_record_of_another_schema_names_what_it_lacks():
    other = tf.train.Example().SerializeToString()
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/"):
        schema.parse_example(tf.constant(other))


def test_framed_records_make_a_tfrecord_file(tmp_path):
    records = [b"", b"one", schema.Example(**_RECORD).serialize(), bytes(range(256)) * 100]
    ours = tmp_path / "ours"
    ours.write_bytes(b"".join(map(schema.frame, records)))
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert ours.read_bytes() == (tmp_path / "theirs").read_bytes()


def test_encoding_does_not_import_tensorflow():
    code = "import sys, datasets.schema; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def foreign(**features):
    kinds = {
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])),
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])),
        list: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v)),
    }
    feature = {name.replace("__", "/"): kinds[type(v)](v) for name, v in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize(
    ("record", "boxes"),
    [
        (foreign(image=b"jpeg", label=4, objects__bbox=[0.1, 0.2, 0.3, 0.4] * 2), 2),
        (foreign(image=b"jpeg", label=4, bbox=[0.1, 0.2, 0.3, 0.4]), 1),
        (foreign(image_raw=b"jpeg", label=4), 0),
    ],
    ids=["TFDS, objects", "TFDS, one box", "Keras"],
)
def test_records_of_tfds_and_of_kerass_examples(record, boxes):
    example = schema.parse_example(record)
    assert (example["encoded"], example["label"]) == (b"jpeg", 4)
    assert example["boxes"].shape == (boxes, 4)
    assert schema.parse_labels([record, record]).numpy().tolist() == [4, 4]


@pytest.mark.parametrize(
    ("record", "name"),
    [(foreign(label=4), "image/encoded"), (foreign(image=b"jpeg"), "image/class/label")],
    ids=["image", "label"],
)
def test_what_a_record_lacks_is_named(record, name):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Feature: {name} is required"):
        schema.parse_example(record)
