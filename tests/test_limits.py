"""How large a function, a script or a module's reach may be."""

import ast
import re

import pytest

from tests.conftest import ROOT

MOST_LINES, MOST_PARAMETERS = 60, 8
SCRIPT_LINES = 120
SOURCES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] not in ("tests", ".venv", "build", "demo_output")
]
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]
OURS = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
OURS |= {path.stem for path in ROOT.glob("*.py")}
SCRIPTS = sorted(path for path in ROOT.glob("*.py") if path.name != "command_line.py")


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path):
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))


def is_a_net_s_table(path, function):
    """The builders of nets are tables of layers; what they are built with is none."""
    return path.parent.name == "nets" and function.name in ("build", "net", "classifier")


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_functions_are_short(path):
    for function in functions(path):
        if is_a_net_s_table(path, function):
            continue
        given = function.args
        names = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
        count = len(names - {"self", "cls"})
        lines = function.end_lineno - function.lineno + 1
        assert lines <= MOST_LINES, f"{function.name} has {lines} lines"
        assert count <= MOST_PARAMETERS, f"{function.name} has {count} parameters"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_wire_only(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < SCRIPT_LINES


def test_command_line_is_the_only_one_that_knows_flags():
    assert len((ROOT / "command_line.py").read_text(encoding="utf-8").splitlines()) < 200
    for path, name in zip(SOURCES, NAMES, strict=True):
        words = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
        words |= {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        assert "FLAGS" not in words or name == "command_line.py", name


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_no_module_reaches_into_another_s_underscore_names(path):
    modules = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            names = {alias.asname or alias.name for alias in node.names}
            modules |= names
            assert not {name for name in names if name.startswith("_")}, names
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            reaches = node.attr.startswith("_") and not node.attr.startswith("__")
            assert not (reaches and node.value.id in modules), f"{node.value.id}.{node.attr}"


def test_commands_for_the_shell_are_quoted():
    """A path in one may have blanks: shlex.quote or shlex.join has to see it."""
    bare = re.compile(r"""f"[^"\n]*(\.py|tensorboard) [^"'{\n]*--\w+={""")
    found = {p.name: bare.findall(p.read_text(encoding="utf-8")) for p in SOURCES}
    assert not {name for name, commands in found.items() if commands}
