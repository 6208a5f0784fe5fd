"""The frozen graph of an export, in its folder and alone."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from serving import (
    classifier,
    frozen_graph,
)
from tests.exports.tiny import (
    decode,
    export_file,
    export_folder,
    recipe_for,
    snapshot,
)


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


def test_bfloat16_halves_the_frozen_graph(
    export, subject, plain_reading, pictures, expected, tmp_path
):
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
