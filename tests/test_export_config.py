"""export.json, of today and of earlier versions; and the run.json that it contains."""

import dataclasses
import json
import shutil

import pytest

from foundation.errors import InputError
from runs import config as run_config
from serving import export_config
from tests.conftest import ROOT

FILES = ROOT / "tests/fixtures/files"


def test_a_file_of_format_1_loads():
    config = export_config.load(str(FILES / "export_format_1.json"))
    run = run_config.parsed(config.run)
    assert (run.model_name, run.num_classes, run.image_size) == ("lenet", 3, 28)
    assert (run.use_grayscale, run.channels, run.labels_offset) == (True, 1, 1)
    assert run.preprocessing_options["fit"] == "letterbox"
    assert config.companions == ("zca_0a1b2c3d.npz",)
    assert config.files["frozen_graph"] == "frozen_graph.pb"
    assert (config.checkpoint, config.global_step, config.batch_size) == ("model.ckpt-7", 7, None)
    assert config.nodes["input"] == "input" and config.check["examples"] == 8


def test_a_file_contains_the_runs_configuration(tmp_path):
    shutil.copy(FILES / "run_format_1.json", tmp_path / "run.json")
    run = run_config.load(str(tmp_path))
    assert (
        run.labels == ("cat", "dog", "emu ñ") and run.net_options["head"] == "dense:8,dropout:0.5"
    )
    path = str(tmp_path / "export.json")
    config = export_config.ExportConfig(dataclasses.asdict(run), "model.ckpt-7", 7, True)
    export_config.save(path, config)
    assert json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["format"] == 2
    loaded = export_config.load(path)
    assert run_config.parsed(loaded.run) == run
    assert (loaded.num_classes, loaded.companions) == (3, ())


@pytest.mark.parametrize(
    "content", ["{}", '{"format": 3}', '{"format": 2, "x": 1}', "[", '{"format": 1}']
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(InputError, match=r"export\.json can't be read .* export_model.py"):
        export_config.load(str(tmp_path / "export.json"))
