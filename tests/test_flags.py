"""The scripts have TF-Slim's flags, under its names and with its defaults."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT, run_script

FIXTURE = json.loads(
    (pathlib.Path(__file__).parent / "fixtures/slim_parity/flags.json").read_text()
)
TRAIN, EVALUATE, EXPORT = SCRIPTS = [
    "train_image_classifier.py",
    "eval_image_classifier.py",
    "export_inference_graph.py",
]
# Where a default differs: ours, and why.
OTHER_DEFAULTS = {
    **{(script, "dataset_name"): (None, "the one in the folder") for script in SCRIPTS},
    **{(script, "use_grayscale"): (None, "as the run has it, else false") for script in SCRIPTS},
    (TRAIN, "num_preprocessing_threads"): (None, "as many as processors"),
    (EVALUATE, "num_preprocessing_threads"): (None, "as many as processors"),
    (EXPORT, "dataset_dir"): (None, "the run's, in place of an empty string"),
    (EXPORT, "output_file"): (None, "in place of an empty string"),
}
SUCCESSOR = {"export_inference_graph.py": "export_model.py"}
DUMP = """
import json, runpy, sys
from absl import flags
if "import shared_flags" in open(sys.argv[1]).read():
    import shared_flags
    shared_flags.run = lambda main, **how: None
else:
    import command_line
    command_line.run = lambda main, job, **how: command_line.define(job)
runpy.run_path(sys.argv[1], run_name="__main__")
modules = flags.FLAGS.flags_by_module_dict().items()
print(json.dumps({flag.name: flag.default for module, defined in modules
                  if not module.startswith("absl") for flag in defined}, default=str))
print("tensorflow" in sys.modules)
"""


def flags_of(script):
    command = [sys.executable, "-c", DUMP, script]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    dumped, imported = output.splitlines()
    return json.loads(dumped), imported == "True"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_tf_slim_is_there(script):
    ours, _ = flags_of(SUCCESSOR.get(script, script))
    for flag in FIXTURE[script]:
        name = flag["name"]
        assert name in ours, name
        expected, _ = OTHER_DEFAULTS.get((script, name), (flag["default"], ""))
        assert ours[name] == expected, name


@pytest.mark.parametrize(
    "script",
    [*SCRIPTS[:2], "export_model.py", "classify_image.py", "convert_data.py"],
)
def test_help_shows_every_flag_without_tensorflow(script):
    known, imported = flags_of(script)
    assert not imported
    shown = run_script(script, "--help")
    assert shown.returncode == 0
    for name in known:
        assert re.search(rf"--(\[no\])?{name}\b", shown.stdout), name


@pytest.mark.parametrize(
    "script", [EVALUATE, "export_model.py", "classify_image.py", "convert_data.py"]
)
def test_help_shows_on_a_terminal_of_any_encoding(script):
    shown = run_script(script, "--help", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert shown.returncode == 0 and "debug: " in shown.stdout
