"""Exports of a tiny net in all formats; the recipe is a stand-in, as serving/ knows none."""

import base64
import collections
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as litert_schema
from tensorflow.core.protobuf import saved_model_pb2

from foundation import files
from foundation.errors import InputError
from nets import blocks, nets_factory
from serving import (
    classifier,
    comparison,
    explain,
    export_config,
    exporter,
    frozen_graph,
    latency,
    onnx,
    saved_model,
    tflite,
    tflite_metadata,
)
from serving.options import NEXT_VERSION, ExportOptions
from serving.pictures import reading
from serving.subject import Subject

SIZE = 32
LABELS = ("cat", "chien ñ", "emu")
ABOUT = tflite_metadata.About("tiny", "model.ckpt-7", "the whole picture")


def decode(encoded):
    return prepare(tf.io.decode_image(encoded, 3, expand_animations=False))


def prepare(image):
    image = tf.image.resize(tf.cast(image, tf.float32), [SIZE, SIZE])
    return tf.reshape(image / 127.5 - 1, [SIZE, SIZE, 3])


def shown(pixels):
    return tf.cast(tf.round(pixels * 127.5 + 127.5), tf.uint8)


def recipe_for(config, find):
    assert config.run["preprocessing_name"] == "stand-in"
    return decode


def tiny_net(seed):
    """Two convolutions with batch norm, so that an export takes a moment only."""
    keras.utils.set_random_seed(seed)
    block = blocks.Blocks(blocks.truncated_normal(0.5), norm=blocks.Norm(0.9, 0.001, scale=True))
    images = blocks.images(SIZE, 3)
    x = block.conv(images, 16, 5, "Tiny/Conv2d_0", stride=2)
    x = block.conv(x, 64, 3, "Tiny/Conv2d_1", stride=2)
    x = block.global_pool(x, "Tiny/Logits/AvgPool_1a")
    x = block.for_logits().conv(x, len(LABELS), 1, "Tiny/Logits/Conv2d_1c_1x1")
    logits = block.squeeze(x, "Tiny/Logits/SpatialSqueeze")
    model = blocks.model("tiny", images, {"Logits": logits}, logits)
    # Not the moments of a fresh batch norm: those hide whether they were exported.
    for variable in model.weights:
        if "moving" in variable.name:
            variable.assign(keras.random.uniform(variable.shape, 0.5, 2))
    return model


def export_folder(folder, subject, formats, **options):
    return exporter.export(
        subject, ExportOptions(output_dir=folder, formats=tuple(formats), **options)
    )


def export_file(file, subject, **options):
    return exporter.export(subject, ExportOptions(output_file=file, **options))


def classes(model, pictures):
    pixels = tf.stack([decode(picture) for picture in pictures])
    return model(pixels, training=False)["logits"].numpy().argmax(axis=1).tolist()


@pytest.fixture(scope="module")
def pictures():
    noise = np.random.default_rng(0)
    raw = [noise.integers(0, 60 * i + 50, (40 + 8 * i, 50, 3), np.uint8) for i in range(4)]
    encode = (tf.io.encode_jpeg, tf.io.encode_png)
    return [encode[i % 2](image).numpy() for i, image in enumerate(raw)]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def expected(subject):
    pixels = tf.stack([decode(picture) for picture in subject.examples])
    return tf.nn.softmax(subject.model(pixels, training=False)["logits"]).numpy()


@pytest.fixture(scope="module")
def calls():
    """How often the fixture `export` traced the reading of pictures, and loaded a SavedModel."""
    return collections.Counter()


@pytest.fixture(scope="module")
def export(subject, calls, tmp_path_factory):
    """An export in all formats that need no extra."""
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


def test_what_takes_longest_is_done_once(export, calls):
    assert calls == {"read": 1, "load": 1}


def test_the_test_itself_tells_pictures_apart(expected):
    assert np.ptp(expected, axis=0).max() > 0.05


def test_an_export_holds_what_is_documented(export, subject):
    assert sorted(os.listdir(export)) == [
        "export.json",
        "frozen_graph.pb",
        "frozen_graph.pbtxt",
        "labels.txt",
        "model.tflite",
        "saved_model",
    ]
    assert (export / "labels.txt").read_text() == "0:cat\n1:chien ñ\n2:emu\n"
    said = json.loads((export / "export.json").read_text())
    assert said["run"]["model_name"] == "tiny" and said["global_step"] == 7
    assert said["files"] == {
        "saved_model": "saved_model/1",
        "frozen_graph": "frozen_graph.pb",
        "tflite": "model.tflite",
    }
    assert said["nodes"] == {
        "input": "input",
        "logits": "Tiny/Logits/SpatialSqueeze",
        "probabilities": "Tiny/Predictions/Reshape_1",
    }
    assert said["check"]["examples"] == 4
    assert max(said["check"]["largest_difference"].values()) < 1e-4
    assert said["check"]["accuracy_of_checkpoint"] == 0.75
    assert said["check"]["beyond_tolerance"] == []
    for name, path in said["files"].items():
        proof = said["check"]["formats"][name]
        assert (proof["numbers"], proof["top_1_agreement"]) == ("float32", 1)
        assert proof["accuracy"] == 0.75
        # What lies in assets.extra was added after the SavedModel had been measured.
        files = [export / path] if name != "saved_model" else (export / path).rglob("*")
        sizes = [x.stat().st_size for x in files if x.is_file() and "assets.extra" not in x.parts]
        assert proof["size_in_bytes"] == sum(sizes)
        assert set(proof["milliseconds"]) == {"1", "8"} and min(proof["milliseconds"].values()) > 0
    assert os.listdir(export.parent) == ["model"]


@pytest.mark.parametrize(
    "path",
    ["", "saved_model", "saved_model/1", "saved_model/1/saved_model.pb", "frozen_graph.pb"]
    + ["model.tflite"],
)
def test_every_way_to_name_it_gives_the_nets_numbers(export, pictures, expected, path):
    model = classifier.load(str(export / path), recipe_for)
    assert model.labels == LABELS
    np.testing.assert_allclose(model.outputs(pictures)["probabilities"], expected, atol=1e-5)
    order = np.argsort(-expected[1])
    (answer,) = model.classify(pictures[1:2], top_k=2)
    assert [label for label, _ in answer] == [LABELS[i] for i in order[:2]]
    assert answer[0][1] == pytest.approx(expected[1].max(), abs=1e-5)
    assert model.classify([]) == []


def test_the_signatures_of_the_saved_model(export, pictures, expected):
    loaded = tf.saved_model.load(str(export / "saved_model" / "1"))
    encoded = loaded.signatures["serving_default"]
    answer = encoded(encoded_images=tf.constant(pictures))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(answer["classes"], np.argsort(-expected))
    assert answer["classes"].dtype == tf.int32
    names = [[LABELS[i].encode() for i in row] for row in np.argsort(-expected)]
    assert answer["labels"].numpy().tolist() == names

    raw = tf.io.decode_image(pictures[2])
    for name, dtype in (("images", tf.float32), ("images_uint8", tf.uint8)):
        classify = loaded.signatures[name]
        answer = classify(images=tf.cast(tf.stack([raw, raw]), dtype))
        np.testing.assert_allclose(answer["probabilities"], expected[[2, 2]], atol=1e-5)
        assert answer["scores"].shape == (2, 3) and "valid" not in answer
        for found in classify(images=tf.zeros([0, 20, 20, 3], dtype)).values():
            assert found.shape == (0, 3)
    for name, found in encoded(encoded_images=tf.zeros([0], tf.string)).items():
        assert found.shape == ((0,) if name in ("valid", "status") else (0, 3))


def test_the_features_are_those_that_the_classifier_is_fed(export, subject, pictures):
    loaded = tf.saved_model.load(str(export / "saved_model" / "1"))
    features = loaded.signatures["features"]
    answer = features(encoded_images=tf.constant([pictures[0], b"<html>", pictures[1]]))
    pool = subject.model.get_layer("Tiny.Logits.AvgPool_1a").output
    pixels = tf.stack([decode(picture) for picture in pictures[:2]])
    pooled = keras.Model(subject.model.input, pool)(pixels, training=False)
    wanted = tf.reshape(pooled, [2, 64]).numpy()
    np.testing.assert_allclose(answer["features"].numpy()[[0, 2]], wanted, rtol=1e-4, atol=1e-4)
    assert not answer["features"].numpy()[1].any()
    assert answer["valid"].numpy().tolist() == [True, False, True]
    nothing = features(encoded_images=tf.zeros([0], tf.string))
    assert nothing["features"].shape == (0, 64)


def test_the_net_is_stored_once(export):
    """All signatures call it; else each would hold it, and loading would take so much longer."""
    with open(export / "saved_model" / "1" / "saved_model.pb", "rb") as file:
        stored = saved_model_pb2.SavedModel.FromString(file.read())
    functions = stored.meta_graphs[0].graph_def.library.function
    count = sum(node.op == "Conv2D" for function in functions for node in function.node_def)
    assert count == 3 + 1  # Grad-CAM derives the classifier, behind the last maps, once more
    # Its weights are constants; only the classifier has variables, for Grad-CAM.
    variables = (export / "saved_model" / "1" / "variables").iterdir()
    assert sum(file.stat().st_size for file in variables) < 4 * 16 * 64 * 9 / 4


def test_the_weights_of_a_large_net_stay_variables_and_the_first_version_is_1(
    subject, tmp_path, monkeypatch
):
    monkeypatch.setattr(saved_model, "_MOST_CONSTANT_BYTES", 0)
    next_one = {"saved_model_version": NEXT_VERSION}
    config = export_folder(str(tmp_path / "x"), subject, ["saved_model"], **next_one)
    assert config.files == {"saved_model": "saved_model/1"}
    variables = (tmp_path / "x" / "saved_model" / "1" / "variables").iterdir()
    assert sum(file.stat().st_size for file in variables) > 4 * 16 * 64 * 9


def test_a_graph_of_constants_is_run_as_it_was_exported(export, pictures, expected, monkeypatch):
    """TensorFlow would rewrite it anew, which takes longer than the first answer."""
    model, asked = classifier.load(str(export), recipe_for), []
    before = tf.config.optimizer.get_experimental_options()
    real = tf.config.optimizer.set_experimental_options

    def note(options):
        asked.append(options["disable_meta_optimizer"])
        real(options)

    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", note)
    np.testing.assert_allclose(model.outputs(pictures)["probabilities"], expected, atol=1e-5)
    assert asked == [True, False]
    after = tf.config.optimizer.get_experimental_options()
    assert {"disable_meta_optimizer": False} | before == after


def test_the_warm_up_is_what_tensorflow_serving_reads(export, pictures, expected):
    serving = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = export / "saved_model" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    loaded = tf.saved_model.load(str(export / "saved_model" / "1"))
    counts = {}
    for record in tf.data.TFRecordDataset(str(path)):
        log = serving.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log" and not log.predict_log.response.outputs
        request = log.predict_log.request
        ((name, value),) = request.inputs.items()
        answer = loaded.signatures[request.model_spec.signature_name](
            **{name: tf.constant(tf.make_ndarray(value))}
        )
        assert "valid" not in answer or answer["valid"].numpy().all()
        counts.setdefault(request.model_spec.signature_name, []).append(len(tf.make_ndarray(value)))
    assert counts == {
        "serving_default": [1, 4],
        "features": [1],
        "images": [1],
        "images_uint8": [1],
    }


def test_the_servers_settings_and_example_requests(export, pictures, expected):
    apis = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    folder = export / "saved_model"
    assert sorted(os.listdir(folder)) == [
        *("1", "batching_parameters.txt", "grpc_request.pb", "models.config", "rest_request.json")
    ]
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((folder / "models.config").read_text(), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("classifier", "/models/classifier")
    request = apis.PredictRequest.FromString((folder / "grpc_request.pb").read_bytes())
    assert (request.model_spec.name, request.model_spec.signature_name) == (
        *("classifier", "serving_default"),
    )
    body = json.loads((folder / "rest_request.json").read_text())
    (instance,) = body["instances"]
    (sent,) = tf.make_ndarray(request.inputs["encoded_images"])
    assert sent == base64.b64decode(instance["b64"]) == pictures[0]


def test_the_saved_model_says_which_picture_it_cant_read(export, pictures, expected):
    encoded = tf.saved_model.load(str(export / "saved_model" / "1")).signatures["serving_default"]
    broken = pictures[1][: len(pictures[1]) // 2]
    answer = encoded(
        encoded_images=tf.constant([pictures[0], broken, b"RIFF....WEBP", pictures[2]])
    )
    assert answer["valid"].numpy().tolist() == [True, False, False, True]
    assert [text.decode() for text in answer["status"].numpy()] == [
        "",
        "PNG is damaged, or of a rare kind: send JPEG, PNG, GIF or BMP",
        "WebP can't be decoded here: send JPEG, PNG, GIF or BMP",
        "",
    ]
    found = answer["probabilities"].numpy()
    np.testing.assert_allclose(found[[0, 3]], expected[[0, 2]], atol=1e-5)
    assert not found[1:3].any() and not answer["scores"].numpy()[1:3].any()
    assert (answer["classes"].numpy()[1:3] == -1).all()
    assert (answer["labels"].numpy()[1:3] == b"").all()
    np.testing.assert_allclose(answer["scores"][0], np.sort(expected[0])[::-1], atol=1e-5)

    none = encoded(encoded_images=tf.constant([broken]))
    assert not none["valid"].numpy().any() and not none["probabilities"].numpy().any()
    with pytest.raises(InputError, match=r"picture 1: PNG is damaged"):
        classifier.load(str(export), recipe_for).outputs([pictures[0], broken])


def test_the_check_notices_a_graph_that_turns_no_photograph(subject, tmp_path, monkeypatch):
    from serving.pictures import orientation
    from tests.test_serving_pictures import TURNED, scene

    image = np.asarray(scene())
    jpeg = tf.io.decode_image(TURNED, 3, expand_animations=False).numpy()
    assert jpeg.shape == image.shape
    turned = dataclasses.replace(subject, unusual=[(TURNED, np.rot90(jpeg, -1))])
    config = export_folder(str(tmp_path / "fine"), turned, ["saved_model"])
    assert (
        config.check["largest_difference"]["saved_model (turned and transparent pictures)"] < 1e-4
    )
    monkeypatch.setattr(orientation, "turned", lambda image, orientation: image)
    with pytest.raises(InputError, match=r"\(turned and transparent pictures\) does not give"):
        export_folder(str(tmp_path / "wrong"), turned, ["saved_model"])


def test_export_json_says_the_order_of_the_outputs(export):
    outputs = json.loads((export / "export.json").read_text())["outputs"]
    loaded = tf.saved_model.load(str(export / "saved_model" / "1"))
    assert set(outputs) == set(loaded.signatures["serving_default"].structured_outputs)
    for name in ("logits", "probabilities"):
        assert "in class order" in outputs[name]
    for name in ("classes", "labels", "scores"):
        assert "best first" in outputs[name]


def test_the_frozen_graph_in_a_session_under_slims_names(export, subject, pictures, expected):
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString((export / "frozen_graph.pb").read_bytes())
    pixels = np.stack([decode(picture) for picture in pictures])
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            logits, probabilities = session.run(
                ["Tiny/Logits/SpatialSqueeze:0", "Tiny/Predictions/Reshape_1:0"],
                {"input:0": pixels},
            )
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(logits, subject.model(pixels)["logits"], rtol=1e-4, atol=1e-4)
    assert graph_def.node[-1].name == "Tiny/Predictions/Reshape_1"
    ops = {node.op for node in graph_def.node}
    assert not any("Variable" in op or "FakeQuant" in op or "BatchNorm" in op for op in ops)


def test_the_graphs_text_is_short_and_names_the_nodes(export):
    text = (export / "frozen_graph.pbtxt").read_text()
    assert 'name: "Tiny/Predictions/Reshape_1"' in text
    assert len(text) < 400_000


def test_a_single_frozen_graph_carries_its_companions(subject, pictures, expected, tmp_path):
    file = tmp_path / "net.pb"
    export_file(str(file), subject)
    assert sorted(os.listdir(tmp_path)) == ["net.export.json", "net.labels.txt", "net.pb"]
    found = classifier.load(str(file), recipe_for).outputs(pictures)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"net\.pb exists\. Replace it with --overwrite"):
        export_file(str(file), subject)
    export_file(str(file), subject, overwrite=True)


def test_a_replaced_frozen_graph_is_never_beside_the_others_names(subject, tmp_path, monkeypatch):
    graph, names, text = (tmp_path / f"net{end}" for end in (".pb", ".labels.txt", ".pbtxt"))
    export_file(str(graph), subject, write_text_graphdef=True)
    former, before = graph.stat().st_ino, snapshot(tmp_path)
    renamed = dataclasses.replace(subject, labels=("a", "b", "c"))
    real, moves = os.replace, []

    def replace(source, place):
        if str(source).endswith("export.json") and refused:
            raise OSError("disk full")
        real(source, place)
        moves.append(place)
        if graph.exists():  # a killed process would leave this behind
            assert names.read_text().startswith("0:cat" if graph.stat().st_ino == former else "0:a")

    monkeypatch.setattr(os, "replace", replace)
    refused = True
    with pytest.raises(OSError, match=r"disk full"):
        export_file(str(graph), renamed, overwrite=True)
    assert snapshot(tmp_path) == before
    refused = False
    export_file(str(graph), renamed, overwrite=True)
    assert moves[-1] == str(graph) and names.read_text().startswith("0:a")
    assert not text.exists()  # of the former graph


@pytest.mark.parametrize("file", ["", "frozen_graph.pb", "model.tflite"])
def test_size_and_latency(export, file):
    path = os.path.join(export, file)
    formats = {"": "saved_model", "frozen_graph.pb": "frozen_graph", "model.tflite": "tflite"}
    assert latency.format_of(path) == formats[file]
    found = latency.milliseconds(path, (1, 8))
    assert set(found) == {1, 8} and all(0 < value < 10_000 for value in found.values())
    net, shape = classifier.load_net(path)
    assert shape == (SIZE, SIZE, 3)
    assert net(np.zeros((8, *shape), np.float32))["logits"].shape == (8, len(LABELS))
    if file:
        assert latency.size_in_bytes(path) == os.path.getsize(path)
    assert 4 * 16 * 64 * 9 < latency.size_in_bytes(path) < 1e6  # the weights of a layer, and more


def test_a_fixed_batch_size_serves_any_number_of_pictures(subject, pictures, expected, tmp_path):
    formats = ["frozen_graph", "tflite"]
    config = export_folder(str(tmp_path / "x"), subject, formats, batch_size=3)
    assert config.batch_size == 3
    assert set(config.check["largest_difference"]) == {"frozen_graph", "tflite"}
    net, shape = frozen_graph.load(str(tmp_path / "x" / "frozen_graph.pb"), subject.nodes)
    assert shape[0] == 3
    assert tflite.load(str(tmp_path / "x" / "model.tflite"))[1] == shape
    model = classifier.load(str(tmp_path / "x"), recipe_for)
    np.testing.assert_allclose(model.outputs(pictures)["probabilities"], expected, atol=1e-5)


def test_quantized_weights_are_smaller(export, subject, tmp_path):
    full = (export / "model.tflite").stat().st_size
    forward = frozen_graph.forward(subject.model, subject.nodes)
    for quantization, share in (("float16", 0.6), ("dynamic", 0.45)):
        path = tmp_path / f"{quantization}.tflite"
        wanted = tflite.Quantization(quantization)
        tflite.write(str(path), forward, subject.model, LABELS, ABOUT, wanted)
        assert path.stat().st_size < share * full


@pytest.mark.parametrize("options", [{}, {"tflite_uint8": True}, {"batch_size": 3}])
def test_int8_is_calibrated_on_pictures(subject, pictures, expected, tmp_path, options):
    config = export_folder(
        str(tmp_path / "x"), subject, ["tflite"], tflite_quantization="int8", **options
    )
    proof = config.check["formats"]["tflite"]
    assert (proof["numbers"], proof["accuracy"]) == ("int8", 0.75)
    path = str(tmp_path / "x" / "model.tflite")
    interpreter = litert.Interpreter(path)
    (taken,) = interpreter.get_input_details()
    outside = np.uint8 if options.get("tflite_uint8") else np.float32
    assert taken["dtype"] == outside
    assert {output["dtype"] for output in interpreter.get_output_details()} == {outside}
    weights = [x for x in interpreter.get_tensor_details() if x["dtype"] == np.int8]
    assert max(len(x["quantization_parameters"]["scales"]) for x in weights) == 64  # per channel
    found = classifier.load(path, recipe_for).outputs(pictures)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=0.05)
    if outside == np.uint8:
        # Pictures as dark as those of the test: 0..255 of the input are not 0..255 of a pixel.
        content = pathlib.Path(path).read_bytes()
        image = metadata(content).tables(3)[0].tables(2)[0]
        assert image.table(3).byte(0) == FEATURES and "quantized" in image.text(1)
        scale, zero = taken["quantization"]
        about = dataclasses.replace(ABOUT, moments=((zero,), (1 / scale,)))
        image = metadata(tflite_metadata.added(content, about, 3)).tables(3)[0].tables(2)[0]
        assert image.table(3).byte(0) == IMAGE


FEATURES, IMAGE = 1, 2  # of the schema's ContentProperties


class Stored(flatbuffers.table.Table):
    """A table of a FlatBuffer by the numbers of its slots, which count the schema's fields."""

    def place(self, slot):
        offset = self.Offset(4 + 2 * slot)
        return offset and offset + self.Pos

    def text(self, slot):
        return self.String(self.place(slot)).decode()

    def byte(self, slot):
        return self.Bytes[self.place(slot)] if self.place(slot) else 0

    def table(self, slot):
        return Stored(self.Bytes, self.Indirect(self.place(slot)))

    def tables(self, slot):
        offset = self.place(slot) - self.Pos
        first, number = self.Vector(offset), self.VectorLen(offset)
        return [Stored(self.Bytes, self.Indirect(first + 4 * i)) for i in range(number)]

    def floats(self, slot):
        offset = self.place(slot) - self.Pos
        return np.frombuffer(self.Bytes, "<f4", self.VectorLen(offset), self.Vector(offset))


def metadata(content):
    """The last metadata of a .tflite file, a ModelMetadata."""
    model = litert_schema.Model.GetRootAs(content)
    names = [model.Metadata(i).Name() for i in range(model.MetadataLength())]
    (last,) = [i for i, name in enumerate(names) if name == b"TFLITE_METADATA"][-1:]
    stored = model.Buffers(model.Metadata(last).Buffer()).DataAsNumpy().tobytes()
    assert stored[4:8] == b"M001"
    return Stored(stored, int.from_bytes(stored[:4], "little"))


def test_a_tflite_file_brings_its_labels_and_says_how_it_is_fed(export):
    """The numbers are the slots of tflite-support's metadata_schema.fbs."""
    with zipfile.ZipFile(export / "model.tflite") as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry).decode() == "cat\nchien ñ\nemu\n"
    content = (export / "model.tflite").read_bytes()
    said = metadata(content)
    assert (said.text(0), said.text(2), said.text(7)) == ("tiny", "model.ckpt-7", "1.0.0")
    assert said.text(1) == "Names what a picture shows: one of 3 classes."
    (graph,) = said.tables(3)
    (image,), outputs = graph.tables(2), graph.tables(3)
    shown = "32 x 32 pixels of an upright picture: the whole picture, stretched."
    assert (image.text(0), image.text(1)) == ("image", shown)
    assert image.table(3).byte(0) == IMAGE and image.table(3).table(1).byte(0) == 1  # RGB
    (unit,) = image.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    np.testing.assert_array_equal(
        [unit.table(1).floats(0), unit.table(1).floats(1)], [[127.5], [127.5]]
    )
    assert [output.text(0) for output in outputs] == ["probabilities", "logits"]
    for output in outputs:
        (file,) = output.tables(6)
        assert (file.text(0), file.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    # The order is that of the file's own outputs.
    interpreter = litert.Interpreter(model_content=content)
    first, _ = interpreter.get_output_details()
    assert (
        interpreter.get_signature_runner().get_output_details()["probabilities"]["index"]
        == first["index"]
    )


def test_pixels_that_no_mean_and_deviation_prepare_are_not_called_an_image(export):
    content = (export / "model.tflite").read_bytes()
    image = metadata(tflite_metadata.added(content, ABOUT, 3)).tables(3)[0].tables(2)[0]
    assert image.table(3).byte(0) == FEATURES and not image.place(4)
    assert image.text(1).endswith("They are not fed as (x - mean) / deviation.")
    about = dataclasses.replace(ABOUT, moments=((1, 2, 3), (4, 5, 6)))
    unit = metadata(tflite_metadata.added(content, about, 3)).tables(3)[0].tables(2)[0].tables(4)[0]
    assert unit.table(1).floats(0).tolist() == [1, 2, 3]
    assert unit.table(1).floats(1).tolist() == [4, 5, 6]


def test_what_int8_is_calibrated_on_decides_its_numbers(subject, expected, tmp_path):
    """Pictures of one grey show no range: what is beyond it is cut off, and the check notices."""
    grey = tf.io.encode_png(np.full((40, 40, 3), 128, np.uint8)).numpy()
    narrow = dataclasses.replace(subject, calibration=[grey])
    options = {"formats": ["tflite"], "tflite_quantization": "int8"}
    with pytest.raises(InputError, match=r"exported tflite does not give .* Nothing was exported"):
        export_folder(str(tmp_path / "x"), narrow, **options)
    assert os.listdir(tmp_path) == []
    config = export_folder(str(tmp_path / "x"), narrow, allow_mismatch=True, **options)
    assert "tflite does not give" in config.check["beyond_tolerance"][0]


@pytest.mark.parametrize(
    ("num_examples", "lost", "refused"),
    [(18, 3, False), (18, 4, True), (1000, 10, False), (1000, 11, True)],
)
def test_a_point_of_accuracy_or_what_chance_moves_may_be_lost(num_examples, lost, refused):
    right = num_examples - 4
    proof = comparison.Proof("int8", 0.9, (right - lost) / num_examples, 1, {})
    proofs = comparison.Proofs(right / num_examples, num_examples, {"onnx": proof}, {"onnx": 0.1})
    assert [("right, where" in str(error)) for error in proofs.mismatches] == [True] * refused


@pytest.mark.parametrize(
    "least, message",
    [(0.75, None), (0.8, r"exported frozen_graph has 75\.0 % .* the checkpoint 75\.0 %")],
)
def test_an_accuracy_can_be_demanded(subject, tmp_path, least, message):
    def attempt(subject):
        options = {"assert_accuracy_at_least": least}
        export_folder(str(tmp_path / "x"), subject, ["frozen_graph"], **options)

    if message is None:
        attempt(subject)
        return
    with pytest.raises(InputError, match=message):
        attempt(subject)
    with pytest.raises(InputError, match=r"no labelled pictures"):
        attempt(dataclasses.replace(subject, truth=None))
    assert os.listdir(tmp_path) == []


def test_int8_is_judged_by_the_middle_picture():
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(64, 5))
    expected[7] *= 50  # calibration saw no such picture: its logits are cut off
    found = np.clip(expected, -4, 4) + rng.uniform(-0.1, 0.1, expected.shape)
    assert comparison.difference(found, expected, "int8") < 0.1
    assert comparison.difference(found, expected) > 0.9
    for wrong in (expected[:, ::-1], np.zeros_like(expected), expected * np.nan):
        assert not comparison.difference(wrong, expected, "int8") <= 0.9
    assert comparison.difference(expected[:, :4], expected, "int8") == np.inf


def test_int8_onnx(subject, pictures, expected, tmp_path):
    pytest.importorskip("tf2onnx", reason='needs pip install ".[onnx]"')
    config = export_folder(str(tmp_path / "x"), subject, ["onnx"], onnx_quantization="int8")
    assert config.check["formats"]["onnx"]["numbers"] == "int8"
    path = str(tmp_path / "x" / "model.onnx")
    assert b"QuantizeLinear" in pathlib.Path(path).read_bytes()
    net, shape = onnx.load(path)
    assert shape[0] is None
    found = classifier.load(path, recipe_for).outputs(pictures)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_a_damaged_onnx_file_is_refused_by_the_checker(subject, tmp_path, monkeypatch):
    tf2onnx = pytest.importorskip("tf2onnx", reason='needs pip install ".[onnx]"')
    checker = pytest.importorskip("onnx.checker")
    real = tf2onnx.convert.from_graph_def

    def convert(*args, **options):
        model, rest = real(*args, **options)
        model.graph.node[0].op_type = "Nonsense"
        return model, rest

    monkeypatch.setattr(tf2onnx.convert, "from_graph_def", convert)
    with pytest.raises(checker.ValidationError):
        onnx.write(str(tmp_path / "x.onnx"), frozen_graph.forward(subject.model, subject.nodes))


def test_onnx_gives_the_nets_numbers(subject, pictures, expected, tmp_path):
    pytest.importorskip("tf2onnx", reason='needs pip install ".[onnx]"')
    for name, batch_size in (("any", None), ("fixed", 3)):
        export_folder(str(tmp_path / name), subject, ["onnx"], batch_size=batch_size)
        model = classifier.load(str(tmp_path / name / "model.onnx"), recipe_for)
        np.testing.assert_allclose(model.outputs(pictures)["probabilities"], expected, atol=1e-5)
    (tmp_path / "any" / "model.onnx").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"model\.onnx: can't be loaded as an ONNX model"):
        classifier.load(str(tmp_path / "any"), recipe_for)


def test_tensors_that_a_net_keeps_are_no_inputs_of_onnx(tmp_path):
    pytest.importorskip("tf2onnx", reason='needs pip install ".[onnx]"')
    scale = tf.constant([1.0, 2.0, 3.0])  # as in EfficientNet's first layer

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="input")])
    def forward(images):
        logits = tf.reduce_mean(images, axis=[1, 2]) * scale
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    onnx.write(str(tmp_path / "x.onnx"), forward)
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    found = onnx.load(str(tmp_path / "x.onnx"))[0](images)
    np.testing.assert_allclose(found["logits"], forward(images)["logits"], rtol=1e-5)


def test_weights_are_kept_from_tf2onnx_and_laid_out_in_the_file(tmp_path, monkeypatch):
    tf2onnx = pytest.importorskip("tf2onnx", reason='needs pip install ".[onnx]"')
    net = nets_factory.build("mobilenet_v1_025", 3, 32)  # batch norm, and weights of two layouts
    forward = frozen_graph.forward(net, frozen_graph.Nodes("logits"))
    real, kept = tf2onnx.convert.from_graph_def, []

    def convert(graph_def, **given):
        kept.extend(node.ByteSize() for node in graph_def.node)
        return real(graph_def, **given)

    monkeypatch.setattr(tf2onnx.convert, "from_graph_def", convert)
    path = str(tmp_path / "x.onnx")
    onnx.write(path, forward)
    assert max(kept) < 5000  # its passes keep some twenty copies of every constant
    graph = pytest.importorskip("onnx").load(path).graph
    assert [given.name for given in graph.input] == ["input"]
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] == 28 and kinds["Transpose"] == 1 and not kinds["BatchNormalization"]
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    found = onnx.load(path)[0](images)
    np.testing.assert_allclose(found["logits"], forward(images)["logits"], rtol=1e-4, atol=1e-6)


def test_without_its_extra_onnx_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r'pip install .*"\.\[onnx\]"'):
        onnx.require()


# What is refused.


@pytest.mark.parametrize("name", ["frozen_graph.pb", "model.tflite"])
def test_an_export_json_of_another_image_size_is_refused(export, tmp_path, name):
    for file in (name, "labels.txt", "export.json"):
        shutil.copy(export / file, tmp_path)
    said = json.loads((tmp_path / "export.json").read_text())
    said["run"]["image_size"] += 1
    (tmp_path / "export.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=f"{name} takes images of .* pixels, its export.json says"):
        classifier.load(str(tmp_path / name), recipe_for)


def damaged_frozen_graph(real):
    """Writes the graph as it is, then turns bits of one weight, as a failing disk would."""

    def write(path, *rest):
        real(path, *rest)
        graph_def = frozen_graph._read(path)
        constants = [node for node in graph_def.node if node.op == "Const"]
        node = max(constants, key=lambda n: len(n.attr["value"].tensor.tensor_content))
        weights = np.frombuffer(node.attr["value"].tensor.tensor_content, np.float32).copy()
        weights[: len(weights) // 2] *= -1
        node.attr["value"].tensor.tensor_content = weights.tobytes()
        with open(path, "wb") as file:
            file.write(graph_def.SerializeToString())

    return write


def snapshot(folder):
    return {
        os.path.join(place, name): pathlib.Path(place, name).read_bytes()
        for place, _, names in os.walk(folder)
        for name in names
    }


def test_a_damaged_export_is_refused_and_the_former_one_stays(subject, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    export_folder(str(folder), subject, ["frozen_graph"])
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(frozen_graph, "write", damaged_frozen_graph(frozen_graph.write))
        with pytest.raises(ValueError, match=r"exported frozen_graph does not give the checkpoint"):
            export_folder(str(folder), subject, ["frozen_graph"], overwrite=True)
        with pytest.raises(ValueError, match=r"Nothing was exported"):
            export_file(str(tmp_path / "alone.pb"), subject)
    assert snapshot(tmp_path) == before


def test_a_saved_model_of_other_weights_is_refused(subject, tmp_path, monkeypatch):
    real = saved_model.write

    def write(directory, model, *rest, **options):
        real(directory, tiny_net(seed=2), *rest, **options)

    monkeypatch.setattr(saved_model, "write", write)
    with pytest.raises(ValueError, match=r"exported saved_model does not give"):
        export_folder(str(tmp_path / "model"), subject, ["saved_model"])
    assert os.listdir(tmp_path) == []


def test_a_recipe_that_differs_for_decoded_pictures_is_refused(subject, tmp_path, monkeypatch):
    real = saved_model.write

    def write(directory, model, prepare, picture, labels_file, **options):
        def other(image):  # differs for decoded pictures, which are floats
            return -prepare(image) if image.dtype == tf.float32 else prepare(image)

        real(directory, model, other, picture, labels_file, **options)

    monkeypatch.setattr(saved_model, "write", write)
    with pytest.raises(ValueError, match=r"signature on decoded images\) does not give"):
        export_folder(str(tmp_path / "model"), subject, ["saved_model"])


def test_a_net_of_nan_is_refused(subject, tmp_path):
    broken = dataclasses.replace(subject, decode=lambda encoded: decode(encoded) * np.nan)
    with pytest.raises(ValueError, match=r"model\.ckpt-7: the model gives no finite numbers"):
        export_folder(str(tmp_path / "model"), broken, ["frozen_graph"])
    assert os.listdir(tmp_path) == []


def test_what_stands_in_the_way_is_named(subject, tmp_path):
    folder = tmp_path / "model"
    export_folder(str(folder), subject, ["frozen_graph"])
    with pytest.raises(ValueError, match=r"holds something already\. Replace .* --overwrite"):
        export_folder(str(folder), subject, ["frozen_graph"])
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"no part of an export \(notes\.txt\)"):
        export_folder(str(folder), subject, ["frozen_graph"], overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match=r"notes\.txt: is a file"):
        export_folder(str(folder / "notes.txt"), subject, ["frozen_graph"])
    with pytest.raises(ValueError, match=r"is a folder\. Name a file"):
        export_file(str(folder), subject)


def test_an_export_replaces_another_as_a_whole(subject, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    export_folder(str(folder), subject, ["frozen_graph"], write_text_graphdef=True)
    (tmp_path / ".model.partial").mkdir()  # As a killed export leaves it.
    export_folder(str(folder), subject, ["saved_model"], saved_model_version=12, overwrite=True)
    assert sorted(os.listdir(folder)) == ["export.json", "labels.txt", "saved_model"]
    assert "12" in os.listdir(folder / "saved_model")
    assert "1" not in os.listdir(folder / "saved_model")
    assert os.listdir(tmp_path) == ["model"]


def test_a_second_export_to_the_place_is_kept_out(subject, tmp_path):
    folder, graph = tmp_path / "model", tmp_path / "graph.pb"
    with (
        files.own_folder(tmp_path / ".model.partial"),
        files.own_folder(tmp_path / ".graph.partial"),
    ):
        (tmp_path / ".model.partial/half.pb").touch()
        with pytest.raises(InputError, match="model: another export is writing there"):
            export_folder(str(folder), subject, ["frozen_graph"])
        assert (tmp_path / ".model.partial/half.pb").exists()
        with pytest.raises(InputError, match="graph: another export is writing there"):
            export_file(str(graph), subject)
    assert os.listdir(tmp_path) == []


def test_an_export_that_was_set_aside_when_the_power_went_comes_back(subject, tmp_path):
    folder = tmp_path / "model"
    export_folder(str(folder), subject, ["frozen_graph"])
    os.rename(folder, tmp_path / ".model.previous")
    with pytest.raises(ValueError, match=r"holds something already"):
        export_folder(str(folder), subject, ["frozen_graph"])
    assert os.listdir(tmp_path) == ["model"]


def test_an_export_with_a_whitening_is_replaced(subject, tmp_path):
    (tmp_path / "own.npz").write_bytes(b"whitening")
    options = {"zca_file": "zca_0a1b2c3d.npz"}
    config = dataclasses.replace(
        subject.config, run=subject.config.run | {"preprocessing_options": options}
    )
    companions = {"zca_0a1b2c3d.npz": str(tmp_path / "own.npz")}
    whitened = dataclasses.replace(subject, config=config, companions=companions)
    folder = tmp_path / "model"
    export_folder(str(folder), whitened, ["frozen_graph"])
    assert (folder / "zca_0a1b2c3d.npz").exists()
    export_folder(str(folder), whitened, ["frozen_graph"], overwrite=True)
    assert (folder / "zca_0a1b2c3d.npz").read_bytes() == b"whitening"
    (folder / "zca_of_mine.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"no part of an export \(zca_of_mine\.npz\)"):
        export_folder(str(folder), subject, ["frozen_graph"], overwrite=True)


def test_backups_of_the_users_own_stay(subject, tmp_path):
    mine = [tmp_path / name for name in ("model.previous", "model.partial", ".model.previous")]
    for folder in mine[:2]:
        export_folder(str(folder), subject, ["frozen_graph"])
    before = snapshot(mine[0]) | snapshot(mine[1])
    mine[2].mkdir()  # no export: not brought back
    export_folder(str(tmp_path / "model"), subject, ["frozen_graph"])
    export_folder(str(tmp_path / "model"), subject, ["frozen_graph"], overwrite=True)
    export_file(str(tmp_path / "model.pb"), subject)
    assert snapshot(mine[0]) | snapshot(mine[1]) == before


def test_files_that_are_no_models_are_named(export, tmp_path):
    def refuse(path, message):
        with pytest.raises(ValueError, match=message):
            classifier.load(str(path), recipe_for)

    refuse(tmp_path / "absent", r"absent does not exist")
    refuse(tmp_path, r"holds no model of export_model\.py")
    (tmp_path / "x.h5").write_bytes(b"")
    refuse(tmp_path / "x.h5", r"x\.h5 is neither a \.pb")
    (tmp_path / "x.pb").write_bytes(b"<html>")
    refuse(tmp_path / "x.pb", r"export\.json is missing; x\.pb can't be used")
    (tmp_path / "export.json").write_text("{}")
    refuse(tmp_path / "x.pb", r"export\.json can't be read \('format'\)")
    (tmp_path / "export.json").write_bytes((export / "export.json").read_bytes())
    refuse(tmp_path / "x.pb", r"labels\.txt is missing; x\.pb can't be used")
    (tmp_path / "labels.txt").write_text("0:cat\n1:emu\n")
    refuse(tmp_path / "x.pb", r"2 labels for a model of 3 classes")
    (tmp_path / "labels.txt").write_text("cat\nchien ñ\nemu\n")
    refuse(tmp_path / "x.pb", r"x\.pb is no frozen graph")
    (tmp_path / "x.tflite").write_bytes(b"")
    refuse(tmp_path / "x.tflite", r"x\.tflite is empty")
    (tmp_path / "x.tflite").write_bytes(b"<html>")
    refuse(tmp_path / "x.tflite", r"x\.tflite: can't be loaded as a TensorFlow Lite model")
    truncated = (export / "frozen_graph.pb").read_bytes()[:5000]
    (tmp_path / "x.pb").write_bytes(truncated)
    refuse(tmp_path / "x.pb", r"x\.pb is no frozen graph .*, or damaged")
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "saved_model.pb").write_bytes(b"junk")
    refuse(tmp_path / "sm", r"sm: TensorFlow can't load this SavedModel")


def test_a_foreign_saved_model_is_named(tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([])])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)
    with pytest.raises(ValueError, match=r"m: a SavedModel without labels, so not one"):
        classifier.load(str(tmp_path / "m"), recipe_for)


def test_a_version_is_added_and_nothing_else_is_touched(export, subject, pictures, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(export, folder)
    before = snapshot(folder)
    other = dataclasses.replace(subject, model=tiny_net(seed=5))
    adds = {"output_dir": str(folder), "saved_model_version": 3}
    config = exporter.export(other, ExportOptions().replace(**adds))
    assert config.files == {"saved_model": "saved_model/3"}
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    added = folder / "saved_model" / "3"
    assert set(after) - set(before) == set(snapshot(added))
    said = json.loads((added / "assets.extra" / "export.json").read_text())
    assert said["files"] == config.files
    assert os.listdir(tmp_path) == ["model"]
    wanted = other.model(tf.stack([decode(picture) for picture in pictures]), training=False)
    for path in (folder, folder / "saved_model", added):
        found = classifier.load(str(path), recipe_for).outputs(pictures)["logits"]
        np.testing.assert_allclose(found, wanted["logits"], rtol=1e-3, atol=1e-3)

    with pytest.raises(InputError, match=r"saved_model_version=3: .* has this version already"):
        exporter.check_destination(ExportOptions().replace(**adds))
    with pytest.raises(InputError, match=r"formats=onnx: a version is added .* SavedModel alone"):
        exporter.check_destination(
            ExportOptions().replace(**adds | {"saved_model_version": 4}, formats=("onnx",))
        )
    with pytest.raises(InputError, match=r"holds something already"):
        exporter.check_destination(ExportOptions(output_dir=str(folder)))
    next_one = ExportOptions().replace(**adds | {"saved_model_version": NEXT_VERSION})
    assert exporter.export(other, next_one).files == {"saved_model": "saved_model/4"}


def test_bfloat16_halves_the_frozen_graph(export, subject, pictures, expected, tmp_path):
    options = {"formats": ["saved_model", "frozen_graph"], "precision": "bfloat16"}
    config = export_folder(str(tmp_path / "x"), subject, **options)
    proof = config.check["formats"]["frozen_graph"]
    assert proof["numbers"] == "bfloat16"
    path = tmp_path / "x" / "frozen_graph.pb"
    assert path.stat().st_size < 0.6 * (export / "frozen_graph.pb").stat().st_size
    types = {node.op: node.attr["T"].type for node in frozen_graph._read(str(path)).node}
    assert config.check["formats"]["saved_model"]["numbers"] == "bfloat16"
    assert types["Conv2D"] == tf.bfloat16.as_datatype_enum
    assert types["Softmax"] == tf.float32.as_datatype_enum
    for place in (path, path.parent / "saved_model"):
        found = classifier.load(str(place), recipe_for).outputs(pictures)["probabilities"]
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert np.abs(found - expected).max() > 1e-6


def test_a_saved_model_explains_its_answers(export, subject, pictures, expected):
    answer = saved_model.load_explainer(str(export / "saved_model" / "1"))(
        [pictures[0], pictures[1], pictures[2]], [2, explain.LIKELIEST, 0]
    )
    pixels = tf.stack([decode(picture) for picture in pictures[:3]])
    heat = explain.Explainer(subject.model)(pixels, [2, expected[1].argmax(), 0])
    assert heat.any(axis=(1, 2)).sum() >= 2
    np.testing.assert_allclose(answer["heat"], heat, atol=1e-4)
    np.testing.assert_array_equal(answer["pictures"], shown(pixels))


def test_explaining_goes_on_after_a_picture_it_cant_read(export, pictures):
    signature = tf.saved_model.load(str(export / "saved_model" / "1")).signatures["explain"]
    found = signature(
        encoded_images=tf.constant([b"nothing", pictures[1], pictures[0]]),
        classes=tf.constant([0, 1, 2]),
    )
    assert found["valid"].numpy().tolist() == [False, True, True]
    assert not found["heat"].numpy()[0].any() and not found["pictures"].numpy()[0].any()
    alone = signature(encoded_images=tf.constant(pictures[:1]), classes=tf.constant([2]))
    np.testing.assert_allclose(found["heat"][2], alone["heat"][0], atol=1e-5)
    none = signature(encoded_images=tf.constant([b"nothing"]), classes=tf.constant([0]))
    assert none["heat"].shape[0] == 1 and not none["valid"].numpy().any()


def test_a_net_without_maps_is_exported_all_the_same(subject, tmp_path):
    images = blocks.images(SIZE, 3)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(images))
    plain = dataclasses.replace(subject, model=blocks.model("plain", images, {}, logits))
    export_folder(str(tmp_path / "plain"), plain, ["saved_model"])
    with pytest.raises(InputError, match="without the signature 'explain'"):
        saved_model.load_explainer(str(tmp_path / "plain" / "saved_model" / "1"))
