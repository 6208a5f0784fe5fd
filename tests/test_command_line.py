"""How the scripts start and fail."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT, run_script

_SCRIPT = """
import command_line
from foundation import options
from foundation.errors import InputError, UsageError

@options.options
class Job(options.Options):
    \"\"\"Job.\"\"\"

def main(job):
    {statement}

command_line.run(main, Job)
"""
_SCRIPTS = [path for path in sorted(ROOT.glob("*.py")) if path.name != "command_line.py"]


def failed(error, *flags):
    return ran(f"raise {error}", *flags)


def ran(statement, *flags):
    command = [sys.executable, "-c", _SCRIPT.format(statement=statement), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("InputError('is empty.', option='csv_file', value='a.csv')", 1, "--csv_file=a.csv: is"),
        ("UsageError('write a number.', option='seed')", 2, "--seed: write a number."),
        ("OSError(28, 'No space left on device', 'out.csv')", 1, "out.csv: No space left"),
        ("OSError(2, 'No such file', 'a\\nb.csv')", 1, "a b.csv: No such file."),
        # Names neither turn nor clear a terminal.
        ("InputError('\\u202egnp.exe\\x1b[2J is empty.')", 1, "�gnp.exe�[2J is empty."),
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


def test_an_environment_that_is_not_active_is_told():
    command = [sys.executable, "-S", ROOT / "convert_data.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "has no package 'absl'. Activate" in done.stderr


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_the_work_goes_on_when_nobody_reads_its_lines_any_more(unread, tmp_path):
    many = f"[print('line', i, file=sys.{unread}, flush=True) for i in range(20_000)]"
    statement = f"import sys; {many}; open('{tmp_path}/done', 'w').close()"
    command = [sys.executable, "-c", _SCRIPT.format(statement=statement)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert getattr(process, unread).readline() == "line 0\n"
        getattr(process, unread).close()
        other = process.stderr if unread == "stdout" else process.stdout
        assert other.read() == ""
    assert process.returncode == 0 and (tmp_path / "done").exists()


def test_the_work_is_done_where_there_is_no_output(tmp_path):
    kept = os.path.join(tmp_path, "kept")
    statement = f"import os; print('line'); open({kept!r}, 'w').write(os.readlink('/dev/fd/1'))"
    command = [sys.executable, "-c", _SCRIPT.format(statement=statement)]
    done = subprocess.run(["bash", "-c", '"$@" >&-', "bash", *command], cwd=ROOT)
    assert done.returncode == 0
    # What writes to standard output past Python does not write into a file of ours.
    assert pathlib.Path(kept).read_text() == os.devnull


def test_an_output_without_room_is_named():
    command = [sys.executable, "-c", _SCRIPT.format(statement="print('line', flush=True)")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "error: <stdout>: No space left on device." in done.stderr


def test_another_broken_pipe_is_told():
    assert "error: Broken pipe" in failed("BrokenPipeError(32, 'Broken pipe')").stderr


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_no_script_catches_errors(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    main = next(node for node in tree.body if getattr(node, "name", "") == "main")
    assert not any(isinstance(node, ast.Try | ast.With) for node in ast.walk(main))


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_tensorflow_through_the_command_line(path):
    """Which keeps the notices of the import back: test_end_to_end.py."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    main = next(node for node in tree.body if getattr(node, "name", "") == "main")
    imports = [node.lineno for node in ast.walk(main) if isinstance(node, ast.ImportFrom)]
    calls = [node for node in ast.walk(main) if isinstance(node, ast.Call)]
    loads = [node.lineno for node in calls if "load_tensorflow" in ast.unparse(node.func)]
    assert loads or path.name == "convert_data.py"  # which does without
    assert all(min(loads) < line for line in imports if loads)


def test_machines_get_each_line_and_the_end_as_json():
    done = ran("command_line.say('Warning: slow')", "--log_json")
    line, end = map(json.loads, done.stdout.splitlines())
    assert (line["level"], line["message"]) == ("warning", "slow")
    assert (end["level"], end["event"], end["exit_code"]) == ("info", "end", 0)
    assert ran("command_line.say('step 1')", "--verbosity=warning").stdout == ""


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_flag_of_absls_own_logging_stands_beside_ours(when):
    statement = "from absl import logging; logging.set_verbosity(logging.get_verbosity())"
    first = "import absl.logging\n" if when == "before" else ""
    program = first + _SCRIPT.format(statement=statement)
    command = [sys.executable, "-c", program, "--verbosity=warning"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_verbosity_that_is_none_is_one_line_with_those_there_are():
    done = ran("pass", "--verbosity=bogus")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--verbosity=bogus: unknown. Choose of error, warning, info, debug." in done.stderr


@pytest.mark.parametrize("flag", ["--nosuchflag", "--verbosity=bogus", "--debug=perhaps"])
@pytest.mark.parametrize("json_flag", ["--log_json", "--log_json=true"])
def test_machines_get_an_error_of_usage_too(flag, json_flag):
    done = ran("pass", flag, "word", json_flag)
    (end,) = map(json.loads, done.stdout.splitlines())
    assert (end["event"], end["exit_code"], done.returncode) == ("end", 2, 2)
    assert ran("pass", flag, json_flag, "--log_json", "False").stdout == ""


@pytest.mark.parametrize("when", ["before", "after"])
def test_flags_of_absls_logging_in_old_command_lines_do_nothing(when):
    """Be it imported before ours are defined, or by the script, as TensorFlow does."""
    first = "import absl.logging\n" if when == "before" else ""
    program = first + _SCRIPT.format(statement="import absl.logging; command_line.say('done')")
    old = ["--alsologtostderr", "--logtostderr", "True", "--stderrthreshold=info", "-v", "1"]
    command = [
        sys.executable,
        "-c",
        program,
        *old,
        "--verbosity=0",
        "--noshowprefixforinfo",
        "--log_dir",
        "logs",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_every_script_takes_absls_flags_and_does_not_show_them(path):
    done = run_script(path.name, "--alsologtostderr", "-v", "0", "--help")
    assert done.returncode == 0 and "log_json" in done.stdout
    assert "logtostderr" not in done.stdout


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("InputError('is empty.', option='csv_file')", 1, "--csv_file: is empty."),
        ("UsageError('write a number.', option='seed')", 2, "--seed: write a number."),
        ("KeyboardInterrupt", 130, "stopped by Ctrl-C"),
        ("ValueError('shapes differ')", 1, "ValueError: shapes differ"),
    ],
)
def test_machines_get_the_error_at_the_end(error, code, message):
    done = failed(error, "--log_json")
    (end,) = map(json.loads, done.stdout.splitlines())
    assert done.returncode == end["exit_code"] == code
    assert (end["level"], end["message"]) == ("error", message)
    assert message in done.stderr  # for people who look


def test_tensorflows_notices_are_shown_on_request():
    work = "command_line.load_tensorflow(); import tensorflow as tf; tf.constant(1)"
    # That they are hidden otherwise: test_end_to_end.py.
    assert "This TensorFlow binary is optimized" in ran(work, "--verbosity=debug").stderr


@pytest.mark.parametrize(
    ("script", "flag", "today"),
    [
        ("export_model.py", "--graph=g.pb", "classify_image.py --model=GRAPH"),
        ("train_image_classifier.py", "--image_file=a.jpg", "classify_image.py --image=FILE"),
        ("eval_image_classifier.py", "--num_top_predictions=3", "classify_image.py --top_k=NUMBER"),
        ("convert_data.py", "--input_graph=g.pb", "export_model.py --freeze_graph=GRAPH"),
        # absl guesses that --output_dir is meant, which is another script's.
        ("convert_data.py", "--output_graph=g.pb", "export_model.py --output_file=X.pb"),
    ],
)
def test_a_flag_of_an_old_script_is_answered_with_todays(script, flag, today):
    done = run_script(script, flag)
    assert done.returncode == 2
    name = flag.partition("=")[0].lstrip("-")
    assert f"Unknown command line flag '{name}'. Today: {today}" in done.stderr
