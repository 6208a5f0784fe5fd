"""The folder of an export: what it holds, and how it replaces another."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from foundation import files
from foundation.errors import InputError
from serving import (
    classifier,
    exporter,
)
from serving.options import NEXT_VERSION, ExportOptions
from tests.exports.tiny import decode, export_file, export_folder, recipe_for, snapshot, tiny_net


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


def test_an_export_replaces_another_as_a_whole(subject, plain_reading, tmp_path):
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


def test_a_version_is_added_and_nothing_else_is_touched(
    export, subject, plain_reading, pictures, tmp_path
):
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
