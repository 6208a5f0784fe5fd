"""How the scripts start and fail."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

_SCRIPT = """
import command_line
from foundation import options
from foundation.errors import InputError, UsageError

@options.options
class Job(options.Options):
    \"\"\"Job.\"\"\"

def main(job):
    raise {error}

command_line.run(main, Job)
"""
_SCRIPTS = [path for path in sorted(ROOT.glob("*.py")) if path.name != "command_line.py"]


def failed(error):
    command = [sys.executable, "-c", _SCRIPT.format(error=error)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("InputError('is empty.', option='csv_file', value='a.csv')", 1, "--csv_file=a.csv: is"),
        ("UsageError('write a number.', option='seed')", 2, "--seed: write a number."),
        ("OSError(28, 'No space left on device', 'out.csv')", 1, "out.csv: No space left"),
        ("KeyboardInterrupt", 130, "stopped by Ctrl-C"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, code, line):
    done = failed(error)
    assert done.returncode == code
    assert f"error: {line}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("error", ["ValueError('shapes differ')", "KeyError('a')"])
def test_any_other_error_is_a_bug_and_keeps_its_trace(error):
    done = failed(error)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and error.partition("(")[0] in done.stderr


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_no_script_catches_errors(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    main = next(node for node in tree.body if getattr(node, "name", "") == "main")
    assert not any(isinstance(node, ast.Try | ast.With) for node in ast.walk(main))
