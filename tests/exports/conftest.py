"""What the tests of exports share: the net's subject, and one export of it."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from serving import export_config, frozen_graph, latency
from serving.pictures import reading
from serving.subject import Subject
from tests.exports.tiny import (
    LABELS,
    SIZE,
    classes,
    decode,
    export_folder,
    prepare,
    read_plainly,
    shown,
    tiny_net,
)
from tests.test_serving_pictures import TURNED, scene


@pytest.fixture(scope="session")
def pictures():
    noise = np.random.default_rng(0)
    raw = [noise.integers(0, 60 * i + 50, (40 + 8 * i, 50, 3), np.uint8) for i in range(4)]
    encode = (tf.io.encode_jpeg, tf.io.encode_png)
    return [encode[i % 2](image).numpy() for i, image in enumerate(raw)]


@pytest.fixture(scope="session")
def subject(pictures):
    model = tiny_net(seed=1)
    config = export_config.ExportConfig(
        run={
            "model_name": "tiny",
            "num_classes": len(LABELS),
            "labels": list(LABELS),
            "image_size": SIZE,
            "preprocessing_name": "stand-in",
            "preprocessing_options": {},
        },
        checkpoint="model.ckpt-7",
        global_step=7,
        moving_averages=False,
    )
    nodes = frozen_graph.Nodes("Tiny/Logits/SpatialSqueeze", "Tiny/Predictions/Reshape_1")
    source = "pictures of the test"
    own = classes(model, pictures)
    truth = (own[0], own[1], own[2], (own[3] + 1) % len(LABELS))  # the last one is wrong
    return Subject(
        *(model, nodes, LABELS, decode, prepare, shown, config, pictures, source, truth),
        calibration=pictures,
        input_words="the whole picture, stretched",
        moments=((127.5,), (127.5,)),
    )


@pytest.fixture(autouse=True)
def few_seconds(monkeypatch):
    monkeypatch.setattr(latency, "_SECONDS", 0.0)


@pytest.fixture(scope="session")
def expected(subject):
    pixels = tf.stack([decode(picture) for picture in subject.examples])
    return tf.nn.softmax(subject.model(pixels, training=False)["logits"]).numpy()


@pytest.fixture(scope="session")
def calls():
    """How often the fixture `export` traced the reading of pictures, and loaded a SavedModel."""
    return collections.Counter()


@pytest.fixture(scope="session")
def export(subject, calls, tmp_path_factory):
    """An export in all formats that need no extra, compared on a turned photograph too."""
    turned = tf.io.decode_image(TURNED, 3, expand_animations=False).numpy()
    assert turned.shape == np.asarray(scene()).shape
    subject = dataclasses.replace(subject, unusual=[(TURNED, np.rot90(turned, -1))])
    folder = tmp_path_factory.mktemp("export") / "model"

    def counted(name, real):
        def call(*args):
            calls[name] += 1
            return real(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read", counted("read", reading.read))
        patch.setattr(tf.saved_model, "load", counted("load", tf.saved_model.load))
        formats = ["saved_model", "frozen_graph", "tflite"]
        export_folder(str(folder), subject, formats, write_text_graphdef=True)
    return folder


@pytest.fixture(scope="session")
def load(export):
    """tf.saved_model.load of what stays as it is, such as `export`: each is loaded once."""
    return functools.cache(tf.saved_model.load)


@pytest.fixture
def loaded_once(load, monkeypatch):
    """The product loads `export` as `load` does, which spares it a second each time."""
    monkeypatch.setattr(tf.saved_model, "load", load)


@pytest.fixture
def plain_reading(monkeypatch):
    """`read_plainly` for one test."""
    monkeypatch.setattr(reading, "read", read_plainly)
