"""Readers of strangers' files, fed with thousands of unsound ones: a few here, more by `make fuzz`.

No input may do harm: see tests/fuzzing/workers.py. What once did is a test of its own in
tests/test_found_by_fuzzing.py.
"""

import importlib
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.fuzzing import workers

MODULES = ("tests.fuzzing.data_targets", "tests.fuzzing.net_targets")
TARGETS = [(module, name) for module in MODULES for name in importlib.import_module(module).TARGETS]
FEW = 60


def check(module, name, count, seed, folder):
    report = workers.fuzz(module, name, count, folder, seed)
    assert not report.findings, "\n\n".join(map(str, report.findings))
    return report


@pytest.mark.parametrize(("module", "name"), TARGETS, ids=[name for _, name in TARGETS])
def test_a_few_inputs_do_no_harm(module, name, tmp_path):
    assert check(module, name, FEW, 1, tmp_path).count >= FEW


@pytest.mark.fuzz
@pytest.mark.parametrize(("module", "name"), TARGETS, ids=[name for _, name in TARGETS])
def test_many_inputs_do_no_harm(module, name, tmp_path, request, capsys):
    count, seed = (request.config.getoption(option) for option in ("fuzz_inputs", "fuzz_seed"))
    report = check(module, name, count, seed, tmp_path)
    with capsys.disabled():
        print(
            f"\n{name}: {report.count} inputs in {report.seconds:.0f} s, the slowest "
            f"{report.slowest:.2f} s, {report.memory >> 20} MiB more memory"
        )


# What is said of each of tests/fuzzing/harmful.py.
SAID = {
    "trace": "KeyError: 'missing'",
    "abort": "died with exit code -6",
    "compute": r"took 1\.\d s",
    "sleep": r"stood still for 1\.\d s",
    "memory": r"took 1\d{3} MiB more",
    "python_read": "read /etc/passwd",
    "python_environment": r"read /proc/\d+/environ",
    "python_listing": "os.listdir /etc",
    "python_scan": "os.scandir /etc",
    "python_move": "os.chdir",
    "python_write": "wrote .*/written",
    "program": "subprocess.Popen",
    "unpickle": "unpickled pathlib.Path",
    "native_read": "openat /etc/passwd",
    "native_environment": r"openat /proc/\d+/environ",
    "native_listing": "openat /etc",
    "native_write": "openat .*/written",
    "native_program": "execve",
}
CHEAP = ("trace", "abort", "python_read", "native_read", "native_write")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in CHEAP else pytest.mark.fuzz) for one in SAID]
)
def test_harm_is_found(name, tmp_path):
    report = workers.fuzz("tests.fuzzing.harmful", name, 1, tmp_path)
    if name.startswith("native") and not report.saw_all:
        pytest.skip("this system does not let compiled code be watched")
    (found,) = report.findings
    assert re.match(f".*{SAID[name]}", found.problem)


@pytest.mark.fuzz
def test_every_harmful_reader_is_tried():
    assert set(SAID) == set(importlib.import_module("tests.fuzzing.harmful").TARGETS)


@pytest.mark.fuzz
@pytest.mark.parametrize(("name", "finds"), [("labels_txt", False), ("native_read", True)])
def test_guided_fuzzing_ends_at_harm(name, finds, tmp_path):
    pytest.importorskip("atheris", reason="the extra fuzz is not there")
    command = [sys.executable, "-m", "tests.fuzzing.guided", name, "-runs=100"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"], cwd=ROOT, capture_output=True, text=True
    )
    assert bool(done.returncode) == finds, done.stderr
    assert ("openat /etc/passwd" in done.stderr + done.stdout) == finds
