"""Exports as they are opened again, by every name that they have."""

import json
import os
import shutil

import numpy as np
import pytest

from foundation.errors import InputError
from serving import (
    classifier,
    frozen_graph,
    latency,
    tflite,
)
from tests.exports.tiny import (
    LABELS,
    SIZE,
    export_folder,
    recipe_for,
)


def test_the_test_itself_tells_pictures_apart(expected):
    assert np.ptp(expected, axis=0).max() > 0.05


@pytest.mark.parametrize(
    "path",
    ["", "saved_model", "saved_model/1", "saved_model/1/saved_model.pb", "frozen_graph.pb"]
    + ["model.tflite"],
)
def test_every_way_to_name_it_gives_the_nets_numbers(export, loaded_once, pictures, expected, path):
    model = classifier.load(str(export / path), recipe_for)
    assert model.labels == LABELS
    np.testing.assert_allclose(model.outputs(pictures)["probabilities"], expected, atol=1e-5)
    order = np.argsort(-expected[1])
    (answer,) = model.classify(pictures[1:2], top_k=2)
    assert [label for label, _ in answer] == [LABELS[i] for i in order[:2]]
    assert answer[0][1] == pytest.approx(expected[1].max(), abs=1e-5)
    assert model.classify([]) == []


@pytest.mark.parametrize("file", ["", "frozen_graph.pb", "model.tflite"])
def test_size_and_latency(export, loaded_once, file, capfd):
    path = os.path.join(export, file)
    formats = {"": "saved_model", "frozen_graph.pb": "frozen_graph", "model.tflite": "tflite"}
    assert latency.format_of(path) == formats[file]
    found = latency.milliseconds(path, (1, 8))
    assert set(found) == {1, 8} and all(0 < value < 10_000 for value in found.values())
    net, shape = classifier.load_net(path)
    assert shape == (SIZE, SIZE, 3)
    assert net(np.zeros((8, *shape), np.float32))["logits"].shape == (8, len(LABELS))
    assert capfd.readouterr() == ("", "")  # no runtime says what it does
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


@pytest.mark.parametrize("name", ["frozen_graph.pb", "model.tflite"])
def test_an_export_json_of_another_image_size_is_refused(export, tmp_path, name):
    for file in (name, "labels.txt", "export.json"):
        shutil.copy(export / file, tmp_path)
    said = json.loads((tmp_path / "export.json").read_text())
    said["run"]["image_size"] += 1
    (tmp_path / "export.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=f"{name} takes images of .* pixels, its export.json says"):
        classifier.load(str(tmp_path / name), recipe_for)


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
