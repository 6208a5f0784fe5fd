"""The ONNX file of an export."""

import collections
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError
from nets import mobilenet_v1, nets_factory
from serving import (
    classifier,
    frozen_graph,
    onnx,
)
from tests.exports.tiny import (
    export_folder,
    recipe_for,
)


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


def test_weights_are_kept_from_tf2onnx_and_laid_out_in_the_file(
    short_mobilenet, tmp_path, monkeypatch
):
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
    assert (
        kinds["Conv"] == 1 + 2 * len(mobilenet_v1.PAIRS) + 1
        and kinds["Transpose"] == 1
        and not kinds["BatchNormalization"]
    )
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    found = onnx.load(path)[0](images)
    np.testing.assert_allclose(found["logits"], forward(images)["logits"], rtol=1e-4, atol=1e-6)


def test_without_its_extra_onnx_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r'pip install .*"\.\[onnx\]"'):
        onnx.require()
