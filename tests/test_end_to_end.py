"""From drawn photographs to a named picture, by the README's commands with small numbers."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from datasets import sample
from tests.conftest import ROOT, run_script, shorten_mobilenet

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def commands(text):
    """The scripts' command lines in a text, without `python`."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.search(r"(?:^\s*|/)python (\w+\.py .*)", line)
        if found:
            command = re.sub(r"\$\$\(.*\)|; fi", "", found[1])
            yield shlex.split(command, comments=True)


COMMANDS = [
    command
    for block in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
    for command in commands(block)
]
DEMO = list(commands(MAKEFILE))
PARSE = """
import runpy, sys
del sys.argv[0]
import command_line
run = command_line.run
command_line.run = lambda main, *job, **how: run(lambda _: print("understood"), *job, **how)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_readmes_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_shows_every_script():
    scripts = {path.name for path in ROOT.glob("*.py")} - {"command_line.py"}
    assert {command[0] for command in COMMANDS} == scripts
    # Two machines, two runs, many trainings, somebody at a browser.
    others = {"data_service.py", "compare_runs.py", "tune_image_classifier.py", "web_demo.py"}
    assert {command[0] for command in DEMO} == scripts - others


@pytest.mark.parametrize("command", COMMANDS + DEMO, ids=lambda command: " ".join(command)[:70])
def test_the_readmes_commands_are_understood(command):
    result = run_script("-c", PARSE, *command, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    # --help answers and ends there.
    assert result.stdout.strip() == "understood" or "--help" in command


def quick():
    from serving import latency

    shorten_mobilenet()
    latency._SECONDS = 0.0


@pytest.mark.slow
def test_from_photographs_to_a_named_picture(tmp_path):
    def silent(result):
        assert result.returncode == 0, result.stderr
        # Nothing but the conversion's bar.
        bars = [line for line in result.stderr.splitlines() if line]
        assert all(" images" in line for line in bars), result.stderr
        return result.stdout

    def as_a_user(script, *flags):
        # Python with nothing imported, and TensorFlow's notices not asked off.
        command = [sys.executable, str(ROOT / script), *flags]
        env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
        return silent(
            subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        )

    def run(script, *flags):
        return silent(run_script(script, *flags, cwd=tmp_path, first=quick))

    sample.draw(str(tmp_path / "photographs"), images_per_class=8)
    as_a_user(
        *("convert_data.py", "--dataset_name=animals", "--output_dir=animals"),
        *("--image_dir=photographs/images", "--annotations_dir=photographs/annotations"),
        "--validation_fraction=0.4",
    )
    trained = run(
        *("train_image_classifier.py", "--dataset_dir=animals", "--train_dir=output"),
        *("--model_name=mobilenet_v1_025", "--train_image_size=64", "--batch_size=4"),
        *("--max_number_of_steps=2", "--learning_rate=0.0001", "--moving_average_decay=0.9"),
        *("--end_learning_rate=0.000001", "--learning_rate_decay_type=polynomial", "--log_json"),
    )
    lines = [json.loads(line) for line in trained.splitlines()]
    assert any("Add --batch_norm_decay=" in line["message"] for line in lines)
    evaluated = run(
        *("eval_image_classifier.py", "--checkpoint_path=output", "--eval_dir=output_eval"),
        "--dataset_split_name=validation",
    )
    last_line = evaluated.strip().splitlines()[-1]
    assert re.fullmatch(r"eval/Accuracy\[\d\.\d{4}\]", last_line)
    numbers = json.loads((tmp_path / "output_eval/metrics.json").read_text())
    assert f"[{numbers['accuracy']:.4f}]" in last_line
    exported = run(
        "export_model.py", "--checkpoint_path=output", "--output_dir=exported", "--log_json"
    )
    assert all(json.loads(line) for line in exported.splitlines())
    picture = next((tmp_path / "photographs/images").iterdir())
    flags = ("classify_image.py", f"--image={picture}", "--top_k=5")
    of_graph = run(*flags, "--model=exported/frozen_graph.pb")
    for table in (as_a_user(*flags, "--model=exported"), of_graph):
        assert picture.name in table
        assert {"bee", "fish", "ladybird", "snail", "starfish"} <= set(table.split())
