"""A dataset of TensorFlow Datasets, defined here, through the conversion."""

import csv
import sys

import numpy as np
import pytest
import tensorflow as tf

from datasets import schema, tfrecord_dataset
from datasets.sources import tfds
from foundation.errors import InputError
from tests.conftest import ROOT, run_script

# TFDS registers builders by importing them: so one process defines, prepares and converts.
SCRIPT = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class ColouredShapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=["round", "square"]),
            "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
        }))

    def _split_generators(self, manager):
        return {
            "train": self._generate_examples(8),
            "test": self._generate_examples(4),
            "unlabelled": self._generate_examples(20, -1),
        }

    def _generate_examples(self, count, label=None):
        for i in range(count):
            file = io.BytesIO()
            Image.effect_noise((40, 20), 50 + i).convert("RGB").save(file, "JPEG")
            file.seek(0)
            boxes = [(0.0, 0.0, 0.5, 0.25), (0.5, 0.5, 1.0, 1.0)]
            objects = [{"bbox": tfds.features.BBox(*box)} for box in boxes]
            yield i, {"image": file, "label": i % 2 if label is None else label, "objects": objects}

import command_line
import convert_data
command_line.run(convert_data.main, convert_data.ConvertOptions)
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    place = tmp_path_factory.mktemp("tfds")
    flags = ["--dataset_name=tfds:coloured_shapes", f"--tfds_data_dir={place}/data"]
    flags += [f"--output_dir={place}/out", "--num_workers=1"]
    for said in ("12 examples of 2 classes", "nothing to do"):
        done = run_script("-c", SCRIPT, *flags, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        assert said in done.stdout
        assert "Its split unlabelled is not one of" in done.stdout
    done = run_script("-c", SCRIPT, *flags, "--multiple_objects=first", cwd=ROOT)
    assert done.returncode == 2 and "--multiple_objects and --dataset_name=" in done.stderr
    return place / "out"


def test_photographs_labels_boxes_and_splits_come_along(converted):
    dataset = tfrecord_dataset.find(str(converted), split="train")
    assert dataset.labels == ("round", "square")
    assert dataset.num_examples == 8
    assert tfrecord_dataset.find(str(converted), split="test").num_examples == 4
    record = next(iter(tf.data.TFRecordDataset(dataset.files)))
    example = schema.parse_example(record)
    assert tf.io.is_jpeg(example["encoded"])
    assert tf.io.decode_jpeg(example["encoded"]).shape == (20, 40, 3)
    expected = [[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.25]]  # the larger first
    np.testing.assert_allclose(example["boxes"], expected)
    assert not list(converted.parent.glob(".tfds_*"))


def test_what_has_no_label_gets_none(converted):
    with open(converted / "rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {row["reason"] for row in rows} == {"label outside the classes: -1"}


def test_a_name_that_is_none_is_one_line(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match="tfds:no_such_thing_at_all: TensorFlow Datasets has no"):
        list(tfds.read("tfds:no_such_thing_at_all", str(tmp_path), str(tmp_path)))


def test_without_tfds_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    message = "TensorFlow Datasets needs the extra tfds. Install it: pip install"
    with pytest.raises(InputError, match=message):
        list(tfds.read("mnist", None, str(tmp_path)))
