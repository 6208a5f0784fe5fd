"""Who may import whom, and who may read flags."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "foundation": set(),
    "nets": {"foundation"},
    "preprocessing": {"foundation"},
    "datasets": {"foundation"},
    "training": {"foundation", "nets"},
    "evaluation": {"foundation", "nets"},
    "serving": {"foundation", "nets"},
    "runs": {
        *("foundation", "nets", "preprocessing", "datasets", "training", "evaluation", "serving"),
    },
}
ROOMS = set(MAY_IMPORT)
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - {"command_line"}
BELOW = [path for room in sorted(ROOMS) for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path):
    """The first parts of all modules that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def imported_at_the_top(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", BELOW, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_what_lies_before_them(path):
    room = path.relative_to(ROOT).parts[0]
    foreign = set(imported(path)) & (ROOMS | SCRIPTS | {"command_line", "tests", "benchmarks"})
    assert foreign <= MAY_IMPORT[room] | {room}
    assert "absl" not in set(imported(path))


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_scripts_import_no_script_and_no_tensorflow_at_the_top(script):
    path = ROOT / f"{script}.py"
    assert not set(imported(path)) & SCRIPTS
    assert not {"tensorflow", "keras"} & set(imported_at_the_top(path))


def test_no_module_is_named_after_nothing():
    stems = {path.stem for path in [*BELOW, *ROOT.glob("*.py"), *ROOT.glob("tests/*.py")]}
    assert not stems & {"utils", "util", "common", "helpers", "misc"}
