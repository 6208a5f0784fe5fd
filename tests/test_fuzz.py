"""Readers of strangers' files, fed with thousands of unsound ones: a few here, more by `make fuzz`.

No input may do harm: see tests/fuzzing/workers.py. What once did is a test of its own below.
"""

import importlib

import pytest

from tests.fuzzing import workers

MODULES = ("tests.fuzzing.data_targets", "tests.fuzzing.net_targets")
TARGETS = [(module, name) for module in MODULES for name in importlib.import_module(module).TARGETS]
FEW = 200


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
