"""Classes as nobody expects them, from the table to the page: their names, ten thousand, two."""

import csv
import json
import pathlib

import pytest
from PIL import Image

from foundation import labels
from runs import web_demo
from runs.classify import classify
from runs.convert import convert
from runs.evaluate import evaluate
from runs.export import export
from runs.options import (
    ClassifyImageOptions,
    ConvertOptions,
    EvaluateOptions,
    ExportModelOptions,
    TrainOptions,
    WebDemoOptions,
)
from runs.train import train
from serving.demo import server
from serving.demo.feedback import Feedback
from tests.test_page import browse, needs_chromium
from tests.test_train import SMALLEST

# As a table has them, and as they are called from then on: blanks and line breaks are one blank.
NAMES = {
    "a/b": "a/b",
    "../up": "../up",
    "..": "..",
    ".hidden": ".hidden",
    "/etc/passwd": "/etc/passwd",
    "C:\\dogs": "C:\\dogs",
    "line\nbreak": "line break",
    "tab\tand\u2028separator": "tab and separator",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "</title><b>bold": "</title><b>bold",
    "\u202egnp.right to left": "\u202egnp.right to left",
    "كلب صغير": "كلب صغير",
    'with "quotes" and, comma; {{ name }} %s': 'with "quotes" and, comma; {{ name }} %s',
    "$(touch x)": "$(touch x)",
    "=1+1": "=1+1",
    "0:numbered": "0:numbered",
    "e\u0301": "é",
}


def silent(line):
    pass


def write_table(folder, names, each):
    """Pictures of one colour a class, and a table of them; returns both paths."""
    (folder / "images").mkdir(parents=True)
    rows = [("filename", "label", "split")]
    for number, name in enumerate(names):
        for i in range(each):
            path = f"{number}_{i}.png"
            colour = (number * 37 % 256, number * 91 % 256, (number // 256 + 8 * i) % 256)
            Image.new("RGB", (8, 8), colour).save(folder / "images" / path)
            rows.append((path, name, "validation" if i else "train"))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "images", folder / "labels.csv"


class Journey:
    """A conversion, two steps of training, an evaluation and an export, by the jobs' functions."""

    def __init__(self, folder, names, each=2):
        self.folder, self.said = folder, []
        images, table = write_table(folder, names, each)
        self.picture = str(images / "0_0.png")
        self.made = convert(
            ConvertOptions.of(
                image_dir=str(images),
                csv_file=str(table),
                output_dir=str(folder / "data"),
                dataset_name="odd",
                report=len(names) < 100,
            ),
            self.said.append,
        )
        train(
            TrainOptions.of(
                dataset_dir=str(folder / "data"),
                train_dir=str(folder / "train"),
                max_number_of_steps=1,
                preprocessing_name="cifarnet",
                **SMALLEST,
            ),
            self.said.append,
        )
        self.evaluation = evaluate(
            EvaluateOptions.of(
                checkpoint_path=str(folder / "train"),
                eval_dir=str(folder / "eval"),
                dataset_split_name="validation",
            ),
            self.said.append,
        )
        export(
            ExportModelOptions.of(
                checkpoint_path=str(folder / "train"),
                output_dir=str(folder / "export"),
                formats=["frozen_graph"],
                dataset_split_name="validation",
            ),
            self.said.append,
        )

    def table(self, path):
        with open(self.folder / path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def answers(self, **more):
        options = ClassifyImageOptions.of(
            model=str(self.folder / "export"), image=[self.picture], top_k=3, **more
        )
        return classify(options, self.said.append, self.said.append)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return Journey(tmp_path_factory.mktemp("odd"), NAMES)


def test_a_conversion_keeps_the_names(odd):
    assert odd.made.classes == tuple(sorted(NAMES.values()))
    assert labels.read(odd.folder / "data" / "labels.txt") == odd.made.classes
    assert labels.read(odd.folder / "export" / "labels.txt") == odd.made.classes
    run = json.loads((odd.folder / "train" / "run.json").read_text("utf-8"))
    assert tuple(run["labels"]) == odd.made.classes
    # No name became a path: what was written lies where it was to be.
    assert {path.name for path in odd.folder.iterdir()} == (
        {"images", "labels.csv", "data", "train", "eval", "export"}
    )
    assert [line for line in odd.said if "line\nbreak" in line] == []


def test_an_evaluation_s_tables_name_them(odd):
    assert [row[0] for row in odd.table("eval/per_class.csv")[1:]] == list(odd.made.classes)
    matrix = odd.table("eval/confusion_matrix.csv")
    assert matrix[0][1:] == [row[0] for row in matrix[1:]] == list(odd.made.classes)
    predicted = {row["label"] for row in _dicts(odd.table("eval/predictions.csv"))}
    assert predicted == set(odd.made.classes)


def _dicts(rows):
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


PAGE = """
result.names = [...document.querySelectorAll("bdi")].map(one => one.textContent);
result.bold = document.querySelectorAll("bdi b, bdi script").length;
result.title = document.title;
"""


@needs_chromium
@pytest.mark.parametrize("page", ["eval/report.html", "data/dataset.html"])
def test_pages_show_them_as_text(odd, page):
    result, console = browse(odd.folder / page, PAGE)
    shown = {labels.printable(name) for name in odd.made.classes}
    written = {labels.printable(name) for name in result["names"]}
    assert console == [] and result["bold"] == 0 and shown <= written


def test_an_export_answers_with_them(odd, tmp_path):
    page = tmp_path / "page.html"
    found = odd.answers(html=str(page))
    (classes,) = found.classes.values()
    assert {name for name, _ in classes} <= set(odd.made.classes)
    text = page.read_text("utf-8")
    assert "<script>alert" not in text and "<b>bold" not in text


def test_the_demo_keeps_feedback_under_any_name(odd, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(server, "prepare", lambda demo, given: made.append(demo))
    options = WebDemoOptions.of(
        model=str(odd.folder / "export"), feedback_dir=str(tmp_path / "feedback")
    )
    web_demo.prepare(options, silent)
    (demo,) = made
    assert [label for _, label in demo.labels] == list(odd.made.classes)
    data = pathlib.Path(odd.picture).read_bytes()
    assert len(demo.answer(data).classes) == 5
    for name in NAMES:
        assert demo.keep(data, name) == 1
        ((_, kept),) = Feedback(str(tmp_path / "feedback"))._rows()
        assert kept == NAMES[name]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == (
        {"labels.csv", next((tmp_path / "feedback" / "images").iterdir()).name}
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return Journey(tmp_path_factory.mktemp("two"), ["no", "yes"])


def test_two_classes(two):
    assert two.made.classes == ("no", "yes") == labels.read(two.folder / "export" / "labels.txt")
    assert two.evaluation.num_examples == 2 and len(two.table("eval/per_class.csv")) == 3
    ((classes,),) = [two.answers().classes.values()]
    assert [name for name, _ in classes] in (["no", "yes"], ["yes", "no"])
    assert sum(share for _, share in classes) == pytest.approx(1, abs=1e-5)


# Twenty thousand pictures, a matrix of a hundred million cells: minutes, so `make fuzz` runs it.
@pytest.mark.fuzz
def test_ten_thousand_classes(tmp_path):
    names = [f"class {number:05}" for number in range(10_000)]
    many = Journey(tmp_path, names)
    assert many.made.classes == tuple(names)
    assert labels.read(tmp_path / "export" / "labels.txt") == tuple(names)
    assert len(many.table("eval/per_class.csv")) == 10_001
    ((classes,),) = [many.answers().classes.values()]
    assert len(classes) == 3 and {name for name, _ in classes} <= set(names)
    assert (tmp_path / "eval" / "report.html").stat().st_size < 64e6
