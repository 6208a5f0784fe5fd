"""The scripts have TF-Slim's flags, under its names and with its defaults."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from foundation.options import all_options
from runs.options import JOBS
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


def defaults(script):
    """The flags of a script and their defaults; an empty list stands for None."""
    return {one.name: one.default or None for one in all_options(JOBS[script])}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_tf_slim_is_there(script):
    ours = defaults(SUCCESSOR.get(script, script))
    for flag in FIXTURE[script]:
        name = flag["name"]
        assert name in ours, name
        expected, _ = OTHER_DEFAULTS.get((script, name), (flag["default"], ""))
        assert ours[name] == (expected or None), name


@pytest.mark.parametrize("script", JOBS)
def test_help_shows_every_flag_without_tensorflow(script):
    command = [sys.executable, "-X", "importtime", script, "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0
    assert not re.search(r"\| +(tensorflow|keras|PIL)\b", shown.stderr)
    for name in defaults(script):
        assert re.search(rf"--(\[no\])?{name}\b", shown.stdout), name


@pytest.mark.parametrize("script", JOBS)
def test_help_shows_on_a_terminal_of_any_encoding(script):
    shown = run_script(script, "--help", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert shown.returncode == 0 and "debug: " in shown.stdout
