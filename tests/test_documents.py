"""The pages in docs/ say what the tree holds, and their code runs."""

import ast
import re

import pytest

from tests.conftest import ROOT

ROOMS = ("foundation", "runs", "datasets", "nets", "preprocessing", "training", "evaluation")
ROOMS += ("serving",)
BLOCK = re.compile(r"(?<=<!-- rooms -->\n).*?(?=<!-- end of rooms -->)", re.DOTALL)


def first_line(path):
    """What a module says of itself, in a line."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


def rooms():
    """A table of modules for each room, as docs/architecture.md has it."""
    lines = []
    for room in ROOMS:
        lines += [f"### {room}/", "", "| module | holds |", "|---|---|"]
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.name != "__init__.py" or first_line(path):
                lines.append(f"| `{path.relative_to(ROOT / room)}` | {first_line(path)} |")
        lines.append("")
    return "\n".join(lines)


def test_the_rooms_are_those_of_the_tree():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    held = BLOCK.search(text)[0]
    assert held == rooms(), "python -m tests.test_documents writes the tables anew"


def test_each_module_says_what_it_holds():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name != "__init__.py":
                assert first_line(path).endswith((".", ":")), path


def _anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_what_a_page_links_to_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), link


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, no_figures, quick_exports):
    from datasets import sample

    images, annotations = tmp_path / "images", tmp_path / "annotations"
    sample.draw(str(tmp_path), images_per_class=8)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- run -->\n```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 32
    monkeypatch.chdir(tmp_path)
    picture = str(next(images.iterdir()))
    made = {"images": str(images), "annotations": str(annotations), "picture": picture, "steps": 2}
    exec(compile(code, "python.md", "exec"), made)
    assert set(made["accuracies"]) == {0.001, 0.003}
    assert sum(share for _, share in made["answers"].classes[picture]) == pytest.approx(1, abs=1e-5)


if __name__ == "__main__":
    page = ROOT / "docs" / "architecture.md"
    page.write_text(BLOCK.sub(lambda _: rooms(), page.read_text(encoding="utf-8")), "utf-8")
