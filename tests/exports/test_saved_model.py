"""The SavedModel of an export: signatures, answers to pictures, and files for servers."""

import base64
import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from foundation.errors import InputError
from nets import blocks
from serving import (
    classifier,
    explain,
    exporter,
    saved_model,
)
from serving.options import NEXT_VERSION, ExportOptions
from tests.exports.tiny import (
    LABELS,
    SIZE,
    decode,
    export_folder,
    recipe_for,
    shown,
    tiny_net,
)
from tests.test_serving_pictures import TURNED


def test_what_takes_longest_is_done_once(export, calls):
    assert calls == {"read": 1, "load": 1}


def test_the_signatures_of_the_saved_model(export, load, pictures, expected):
    loaded = load(str(export / "saved_model" / "1"))
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


def test_the_features_are_those_that_the_classifier_is_fed(export, load, subject, pictures):
    loaded = load(str(export / "saved_model" / "1"))
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
    subject, plain_reading, tmp_path, monkeypatch
):
    monkeypatch.setattr(saved_model, "_MOST_CONSTANT_BYTES", 0)
    next_one = {"saved_model_version": NEXT_VERSION}
    config = export_folder(str(tmp_path / "x"), subject, ["saved_model"], **next_one)
    assert config.files == {"saved_model": "saved_model/1"}
    variables = (tmp_path / "x" / "saved_model" / "1" / "variables").iterdir()
    assert sum(file.stat().st_size for file in variables) > 4 * 16 * 64 * 9


def test_a_graph_of_constants_is_run_as_it_was_exported(
    export, loaded_once, pictures, expected, monkeypatch
):
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


def test_the_warm_up_is_what_tensorflow_serving_reads(export, load, pictures, expected):
    serving = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = export / "saved_model" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    loaded = load(str(export / "saved_model" / "1"))
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


def test_the_saved_model_says_which_picture_it_cant_read(
    export, load, loaded_once, pictures, expected
):
    encoded = load(str(export / "saved_model" / "1")).signatures["serving_default"]
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


def test_the_graph_turns_photographs_as_training_saw_them(export):
    said = json.loads((export / "export.json").read_text())
    differences = said["check"]["largest_difference"]
    assert differences["saved_model (turned and transparent pictures)"] < 1e-4


def test_the_check_notices_a_graph_that_turns_no_photograph(subject, plain_reading, tmp_path):
    jpeg = tf.io.decode_image(TURNED, 3, expand_animations=False).numpy()
    turned = dataclasses.replace(subject, unusual=[(TURNED, np.rot90(jpeg, -1))])
    with pytest.raises(InputError, match=r"\(turned and transparent pictures\) does not give"):
        export_folder(str(tmp_path / "wrong"), turned, ["saved_model"])


def test_export_json_says_the_order_of_the_outputs(export, load):
    outputs = json.loads((export / "export.json").read_text())["outputs"]
    loaded = load(str(export / "saved_model" / "1"))
    assert set(outputs) == set(loaded.signatures["serving_default"].structured_outputs)
    for name in ("logits", "probabilities"):
        assert "in class order" in outputs[name]
    for name in ("classes", "labels", "scores"):
        assert "best first" in outputs[name]


def test_a_saved_model_of_other_weights_is_refused(subject, plain_reading, tmp_path, monkeypatch):
    real = saved_model.write

    def write(directory, model, *rest, **options):
        real(directory, tiny_net(seed=2), *rest, **options)

    monkeypatch.setattr(saved_model, "write", write)
    with pytest.raises(ValueError, match=r"exported saved_model does not give"):
        export_folder(str(tmp_path / "model"), subject, ["saved_model"])
    assert os.listdir(tmp_path) == []


def test_a_recipe_that_differs_for_decoded_pictures_is_refused(
    subject, plain_reading, tmp_path, monkeypatch
):
    real = saved_model.write

    def write(directory, model, prepare, picture, labels_file, **options):
        def other(image):  # differs for decoded pictures, which are floats
            return -prepare(image) if image.dtype == tf.float32 else prepare(image)

        real(directory, model, other, picture, labels_file, **options)

    monkeypatch.setattr(saved_model, "write", write)
    with pytest.raises(ValueError, match=r"signature on decoded images\) does not give"):
        export_folder(str(tmp_path / "model"), subject, ["saved_model"])


def test_a_full_disk_is_said_in_plain_words(subject, plain_reading, tmp_path, monkeypatch):
    def save(*_, **__):
        said = "{{function_node __wrapped__SaveV2_dtypes_9_device_/CPU:0}} No space left on device"
        raise tf.errors.ResourceExhaustedError(None, None, said)

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(OSError, match=r": could not be written: the disk is full, or a quota is u"):
        export_folder(str(tmp_path / "model"), subject, ["saved_model"])


def test_a_foreign_saved_model_is_named(tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([])])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)
    with pytest.raises(ValueError, match=r"m: a SavedModel without labels, so not one"):
        classifier.load(str(tmp_path / "m"), recipe_for)


def test_a_saved_model_explains_its_answers(export, loaded_once, subject, pictures, expected):
    answer = saved_model.load_explainer(str(export / "saved_model" / "1"))(
        [pictures[0], pictures[1], pictures[2]], [2, explain.LIKELIEST, 0]
    )
    pixels = tf.stack([decode(picture) for picture in pictures[:3]])
    heat = explain.Explainer(subject.model)(pixels, [2, expected[1].argmax(), 0])
    assert heat.any(axis=(1, 2)).sum() >= 2
    np.testing.assert_allclose(answer["heat"], heat, atol=1e-4)
    np.testing.assert_array_equal(answer["pictures"], shown(pixels))


def test_explaining_goes_on_after_a_picture_it_cant_read(export, load, pictures):
    signature = load(str(export / "saved_model" / "1")).signatures["explain"]
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


def test_a_net_without_maps_is_exported_all_the_same(subject, plain_reading, tmp_path):
    images = blocks.images(SIZE, 3)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(images))
    plain = dataclasses.replace(subject, model=blocks.model("plain", images, {}, logits))
    export_folder(str(tmp_path / "plain"), plain, ["saved_model"])
    with pytest.raises(InputError, match="without the signature 'explain'"):
        saved_model.load_explainer(str(tmp_path / "plain" / "saved_model" / "1"))


@pytest.mark.parametrize("name", ["br[0]", "back\\slash"])
def test_a_folder_in_which_tensorflow_finds_no_weights_is_named(export, tmp_path, name):
    place = tmp_path / name
    with pytest.raises(InputError, match=r"takes \[ and \\ for a pattern. Name a folder without"):
        exporter.check_destination(ExportOptions(output_dir=str(place)))
    exporter.check_destination(ExportOptions(output_dir=str(place), formats=("onnx",)))
    shutil.copytree(export / "saved_model" / "1", place)
    with pytest.raises(InputError, match=r"takes \[ and \\ for a pattern"):
        saved_model.load(str(place))
