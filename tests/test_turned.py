import io

import pytest
import tensorflow as tf
from PIL import Image

from datasets import tfrecord_dataset


def _record(orientation, key="image/encoded"):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (8, 6)).save(file, "JPEG", exif=exif)
    features = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.getvalue()])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.mark.parametrize("key", ["image/encoded", "image"])
def test_photographs_that_exif_turns_are_told(tmp_path, key):
    with tf.io.TFRecordWriter(str(tmp_path / "pets_train.tfrecord")) as writer:
        for i in range(5):
            writer.write(_record(6 if i in (2, 4) else 1, key))
        writer.write(b"no example")
    (remark,) = tfrecord_dataset.find(str(tmp_path)).remarks
    assert remark.startswith("Warning: 2 of 6 records looked into hold photographs that their EXIF")
    assert f"record 2 of {tmp_path}/pets_train.tfrecord" in remark and "convert_data.py" in remark


def test_upright_ones_are_not_and_conversions_of_ours_are_not_looked_into(tmp_path):
    for i, orientation in enumerate((1, 6)):
        folder = tmp_path / str(i)
        folder.mkdir()
        with tf.io.TFRecordWriter(str(folder / "pets_train.tfrecord")) as writer:
            writer.write(_record(orientation))
    (tmp_path / "1" / "dataset.json").write_text('{"classes": ["cat"]}')
    assert [tfrecord_dataset.find(str(tmp_path / i)).remarks for i in "01"] == [(), ()]
