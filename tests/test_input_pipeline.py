"""The benchmark of the input pipeline: it runs, and its table adds up."""

import time

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import input_pipeline, photographs
from datasets import schema, tfrecord_dataset
from preprocessing import preprocessing_factory


def test_all_pipelines_run(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tfrecord"
    with open(path, "wb") as file:
        for i in range(8):
            image = tf.io.encode_jpeg(rng.integers(0, 255, [40, 50, 3], np.uint8)).numpy()
            file.write(
                schema.frame(
                    schema.Example(image, "jpeg", 40, 50, i % 2, "", "", (), "").serialize()
                )
            )
    dataset = tfrecord_dataset.find(tfrecord_file=str(path))
    recipe = preprocessing_factory.get("inception")
    compared = input_pipeline.pipelines(dataset, recipe, 16, 4, 1, "none")
    measured = input_pipeline.measure(compared, num_batches=1, turns=1)
    assert list(measured) == list(compared)


def test_the_clock_and_the_processor_are_measured_apart():
    def waits(number):
        time.sleep(0.02)
        return number

    numbers = tf.data.Dataset.range(100)
    slow = numbers.map(lambda n: tf.numpy_function(waits, [n], tf.int64))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    compared = {"slow": slow.with_options(options), "fast": numbers}
    measured = input_pipeline.measure(compared, num_batches=4, turns=3)
    assert 0.019 < measured["slow"][1] < 0.2 and measured["fast"][1] < 0.01
    assert measured["slow"][0] < measured["slow"][1] / 2


def test_the_table_tells_what_each_stage_adds():
    costs = {"read": 10, "parse": 30, "decode": 430, "augment": 530, "batch": 500}
    others = {"evaluation's decoding": 800, "evaluation": 1000, "TF-Slim": 1000}
    measured = {name: (µs * 4e-6, 0.004) for name, µs in (costs | others).items()}
    lines = input_pipeline.table(measured, batch_size=4)
    rows = {line.split()[0]: line.split() for line in lines[1:7]}
    assert rows["decode"] == ["decode", "400", "2,500", "80%"]
    assert rows["batch"] == ["batch", "0", "–", "0%"]
    assert rows["together"] == ["together", "500", "2,000", "100%"]
    assert "Bound by decode. By the clock: 1,000 images/s." in lines
    assert any("Training: 2.00 times the speed of TF-Slim's" in line for line in lines)
    assert any(line.startswith("Evaluation: 80% of the speed of bare") for line in lines)


@pytest.mark.parametrize("name", ["vgg", "cifarnet"])
def test_recipes_without_a_peer_are_measured_too(tmp_path, name):
    path = tmp_path / "a.tfrecord"
    image = tf.io.encode_png(np.zeros([40, 50, 3], np.uint8)).numpy()
    path.write_bytes(
        schema.frame(schema.Example(image, "png", 40, 50, 0, "", "", (), "").serialize())
    )
    dataset = tfrecord_dataset.find(tfrecord_file=str(path))
    recipe = preprocessing_factory.get(name)
    compared = input_pipeline.pipelines(dataset, recipe, 32, 1, 1, "none")
    assert not any("TF-Slim" in pipeline for pipeline in compared)
    assert next(iter(compared["batch"]))["image"].shape == [1, 32, 32, 3]


def test_the_pipeline_is_measured_with_any_number_of_threads(tmp_path):
    photographs.write(tmp_path, count=8, num_shards=2)
    dataset = tfrecord_dataset.find(str(tmp_path), split="train")
    recipe = preprocessing_factory.get("vgg")
    found = {}
    for threads in (1, 2):
        compared = input_pipeline.scaling(dataset, recipe, 16, 4, threads, "none")
        assert next(iter(compared["as bytes"]))["image"].dtype == tf.uint8
        found[threads] = input_pipeline.measure(compared, num_batches=1, turns=1)
    rows = [line.split() for line in input_pipeline.scaling_table(found, batch_size=4)]
    assert [row[0] for row in rows[1:]] == ["1", "1", "2", "2"]
