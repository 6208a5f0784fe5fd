"""Classifying pictures: a training folder, boxes, names, unsure and broken pictures, files."""

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.sources import csv_table
from evaluation.report import answers_page, words
from evaluation.report.answers_page import Shown
from foundation.errors import InputError, UsageError
from foundation.options import check
from runs import category_names, pictures, reading
from runs import config as run_config
from runs.classify import answered, classify
from runs.options import ClassifyImageOptions
from serving import export_config, frozen_graph
from serving.classifier import Classifier, likeliest
from serving.export_config import ExportConfig
from tests import tiny_net
from tests.conftest import ROOT
from tests.fixtures.slim_parity import weights
from tests.test_page import NASTY, browse, needs_chromium

LABELS = ("21", "3", "emu")
LABELS_OF_NOBODY = ("0", "1", "2")
NAMES = {"21": "fire lily", "3": "canterbury bells", "77": "of another model"}
BOX = (20, 10, 60, 50)  # left, upper, right, lower
XML = (
    "<annotation><object><name>emu</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object><object><name>emu</name><bndbox><xmin>20</xmin>"
    "<ymin>10</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object></annotation>"
)


picture = tiny_net.picture


@pytest.fixture(scope="module")
def train_dir(tmp_path_factory):
    return tiny_net.train(tmp_path_factory.mktemp("train"), LABELS)


@pytest.fixture(scope="module")
def model(train_dir):
    return tiny_net.restored(train_dir)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures, a broken one, and a file that is none."""
    place = tmp_path_factory.mktemp("photographs")
    for i in range(3):
        (place / f"{i}.png").write_bytes(picture(i))
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (place / "notes.txt").write_text("not a picture")
    return place


probabilities = tiny_net.probabilities


@pytest.fixture(scope="module")
def done(train_dir, model, folder, tmp_path_factory):
    """A folder classified by a training folder, with all that can be written."""
    tops = [float(probabilities(model, picture(i)).max()) for i in range(3)]
    place, lines, warnings = tmp_path_factory.mktemp("written"), [], []
    (place / "names.json").write_text(json.dumps(NAMES))
    options = ClassifyImageOptions.of(
        model=train_dir,
        image=[str(folder)],
        batch_size=2,
        top_k=2,
        unsure_below=(min(tops) + max(tops)) / 2,
        category_names=str(place / "names.json"),
        csv=str(place / "new/answers.csv"),
        json=str(place / "answers.json"),
        plot=str(place / "plots"),
        html=str(place / "page.html"),
        explain=True,
    )
    answers = classify(options, lines.append, warnings.append)
    return types.SimpleNamespace(answers=answers, lines=lines, warnings=warnings, place=place)


def test_a_training_folder_answers_as_its_net_and_broken_files_are_named(done, model, folder):
    shown = [NAMES.get(label, label) for label in LABELS]
    tops = set()
    for i in range(3):
        expected = probabilities(model, (folder / f"{i}.png").read_bytes())
        best = np.argsort(-expected)[:2]
        found = done.answers.classes[str(folder / f"{i}.png")]
        assert [name for name, _ in found] == [shown[j] for j in best]
        assert [share for _, share in found] == pytest.approx(expected[best].tolist(), abs=1e-5)
        tops.add(round(found[0][1], 3))
    assert len(tops) == 3  # else a picture could have had another's answer
    (path,) = done.answers.failures
    assert path == str(folder / "broken.jpg")
    assert any(line.startswith(f"{path}: damaged image") for line in done.warnings)
    assert any("has no name for 1 of 3 classes: emu" in line for line in done.warnings)
    assert len(done.lines) == 1 + 3 * 2


def test_a_folder_without_a_model_is_said_to_be_none(folder):
    options = ClassifyImageOptions.of(model=str(folder), image=[str(folder / "0.png")])
    with pytest.raises(InputError, match=r"--model=.*: is neither an export .* nor a training"):
        classify(options, lambda line: None)


def test_a_picture_is_said_to_be_no_model(folder):
    path = str(folder / "0.png")
    with pytest.raises(InputError, match=r"--model=.*0\.png: is a picture by its name, no model"):
        classify(ClassifyImageOptions.of(model=path, image=[path]), lambda line: None)


def test_unsure_pictures_are_named_and_each_has_a_row(done, folder):
    rows = list(csv.DictReader((done.place / "new/answers.csv").read_text("utf-8").splitlines()))
    assert list(rows[0]) == [
        *("filename", "label", "probability", "label_2", "probability_2", "unsure", "problem")
    ]
    assert [row["filename"] for row in rows] == [
        str(folder / name) for name in ("0.png", "1.png", "2.png", "broken.jpg")
    ]
    shares = [share for ((_, share), _) in done.answers.classes.values()]
    limit = (min(shares) + max(shares)) / 2
    marks = ["yes" if share < limit else "no" for share in shares]
    assert [row["unsure"] for row in rows] == [*marks, ""]
    assert rows[3]["label"] == "" and rows[3]["problem"].startswith("damaged image")
    assert sum(line.endswith("  unsure") for line in done.lines) == marks.count("yes")
    said = json.loads((done.place / "answers.json").read_text())
    assert [one.get("unsure") for one in said] == [*(share < limit for share in shares), None]
    # The table is one that convert_data.py reads.
    assert set(csv_table.labels(str(done.place / "new/answers.csv"))) <= {*NAMES.values(), "emu"}


def test_plots_and_the_page_show_each_picture_with_its_explanation(done):
    assert sorted(path.name for path in (done.place / "plots").iterdir()) == [
        *("0.png", "1.png", "2.png")
    ]
    plot = np.asarray(Image.open(done.place / "plots/0.png").convert("RGB"), int)
    assert plot.shape[1] > 2 * plot.shape[0]
    assert np.any(np.abs(plot - (0x2F, 0x7F, 0xD0)).sum(axis=2) < 6)  # the bar
    page = (done.place / "page.html").read_text("utf-8")
    assert page.count("<figure") == 3 and page.count("data:image/jpeg") == 6
    assert "broken.jpg" in page and "fire lily" in page


def test_one_plot_is_a_file_and_several_are_refused(train_dir, folder, tmp_path):
    given = {"model": train_dir, "plot": str(tmp_path / "one.png")}
    first = str(folder / "0.png")
    silent = (lambda line: None,) * 2
    classify(ClassifyImageOptions.of(image=[first], **given), *silent)
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > 1.5 * image.height
    with pytest.raises(UsageError, match="--plot=.*one.png: one file, and 2 pictures. Name a fol"):
        classify(ClassifyImageOptions.of(image=[first, str(folder / "1.png")], **given), *silent)


def test_a_picture_is_cut_to_its_box(train_dir, folder, model, tmp_path):
    (tmp_path / "0.xml").write_text(XML)
    paths = [str(folder / "0.png"), str(folder / "1.png")]
    options = ClassifyImageOptions.of(
        model=train_dir, image=paths, crop_to_box=True, annotations_dir=str(tmp_path)
    )
    answers = classify(options, lambda line: None)
    cut = io.BytesIO()
    with Image.open(paths[0]) as image:
        image.crop(BOX).save(cut, "PNG")
    assert answers.classes[paths[0]][0][1] == pytest.approx(
        probabilities(model, cut.getvalue()).max(), abs=1e-5
    )
    assert answers.failures == {paths[1]: f"no annotation: {tmp_path / '1.xml'} does not exist"}
    wider = ClassifyImageOptions.of(crop_to_box=True, annotations_dir=str(tmp_path), box_margin=0.1)
    ((one,),) = reading.batches(paths[:1], 4, wider.crop)
    assert all(48 <= side <= 49 for side in Image.open(io.BytesIO(one.encoded)).size)


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_can_be_piped_in(folder, monkeypatch, separator):
    names = separator.join(str(folder / f"{i}.png").encode() for i in range(2))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(names)))
    found = pictures.find(["-", str(folder / "2.png")])
    assert found.pictures == [str(folder / f"{i}.png") for i in range(3)]


def test_a_picture_can_be_piped_in(folder, monkeypatch):
    data = (folder / "0.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    found = pictures.find(["-"])
    ((one,),) = reading.batches(found.pictures, 4, contents=found.contents)
    assert (one.path, one.encoded, one.problem) == ("-", data, "")


def test_a_picture_that_tensorflow_refuses_does_not_fail_its_neighbours():
    def run(encoded):
        if b"bad" in encoded:
            raise InputError("picture 1: can't be read")
        return {"probabilities": np.array([[len(one), 0.0] for one in encoded], np.float32)}

    batch = [reading.Picture(str(i), data) for i, data in enumerate((b"a", b"bad", b"abc"))]
    batch.insert(1, reading.Picture("broken", b"", "damaged image"))
    found = list(answered(Classifier(run, ("x", "y")), batch))
    assert [one.path for one, _ in found] == ["0", "broken", "1", "2"]
    assert [one.problem for one, _ in found] == [
        *("", "damaged image", "picture 1: can't be read", "")
    ]
    assert [None if row is None else row[0] for _, row in found] == [1, None, None, 3]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"21": "x", "3": "y", "emu": "z", "0": "not of this model"}, ("x", "y", "z")),
        ({"0": "a", "1": "b", "2": "c"}, ("a", "b", "c")),
        ({"1": "a", "2": "b", "3": "c"}, ("21", "c", "emu")),  # 3 is a class
        (["a", "b", "c"], ("a", "b", "c")),
    ],
)
def test_category_names_are_by_class_or_by_number(tmp_path, content, expected):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(content))
    assert category_names.shown(LABELS, str(path))[0] == expected


def test_category_names_may_count_from_one(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"1": "a", "2": "b", "3": "c"}))
    assert category_names.shown(("cat", "dog", "emu"), str(path)) == (("a", "b", "c"), "")
    path.write_text(json.dumps({"gnu": "a"}))
    with pytest.raises(InputError, match="names none of the model's 3 classes, such as 'cat'"):
        category_names.shown(("cat", "dog", "emu"), str(path))
    path.write_text("{")
    with pytest.raises(InputError, match="--category_names=.*: it is no JSON"):
        category_names.read(str(path))


@pytest.fixture(scope="module")
def graph(model, tmp_path_factory):
    """The net as a graph without companions, whose last node gives probabilities."""
    path = tmp_path_factory.mktemp("graph") / "alone.pb"
    nodes = frozen_graph.Nodes("LeNet/logits", "LeNet/probabilities")
    frozen_graph.write(str(path), frozen_graph.forward(model, nodes), nodes)
    (path.parent / "names.txt").write_text("x\ny\nz\n")
    return path


@pytest.mark.parametrize(
    "given",
    [
        {"preprocessing_name": "lenet", "labels": "names.txt"},
        {"input_layer": "input:0", "output_layer": "import/LeNet/logits", "model_name": "lenet"},
    ],
)
def test_a_graph_alone_is_told_its_recipe(graph, folder, model, given):
    names = LABELS_OF_NOBODY
    if "labels" in given:
        given, names = {**given, "labels": str(graph.parent / given["labels"])}, ("x", "y", "z")
    lines = []
    answers = classify(
        ClassifyImageOptions.of(model=str(graph), image=[str(folder / "1.png")], **given),
        lambda line: None,
        lines.append,
    )
    expected = probabilities(model, picture(1))
    found = dict(answers.classes[str(folder / "1.png")])
    assert [found[name] for name in names] == pytest.approx(expected.tolist(), abs=1e-5)
    assert any("a graph alone: images of 28 x 28 x 3, recipe lenet" in line for line in lines)


def test_label_image_s_numbers_prepare_as_it_did(graph, folder, model):
    options = ClassifyImageOptions.of(
        model=str(graph), image=[str(folder / "1.png")], input_mean=127.5, input_std=127.5
    )
    lines = []
    answers = classify(options, lambda line: None, lines.append)
    with Image.open(folder / "1.png") as image:
        pixels = np.asarray(image.convert("RGB"))[None].astype(np.float32)
    # What label_image's own lines do.
    resized = tf.compat.v1.image.resize_bilinear(pixels, [28, 28])
    expected = tf.nn.softmax(model((resized - 127.5) / 127.5, training=False)["logits"])[0]
    found = dict(answers.classes[str(folder / "1.png")])
    assert [found[str(i)] for i in range(3)] == pytest.approx(expected.numpy().tolist(), abs=1e-5)
    assert any("stretched and (x - 127.5) / 127.5, as label_image does" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output_layer": "Nothing"}, "--output_layer=Nothing"),
        ({"image_size": 32}, "--image_size=32: the graph takes images of 28 pixels"),
        ({"explain": True, "plot": "plots"}, "this format keeps no gradients"),
    ],
)
def test_what_a_graph_alone_can_not_be_asked(graph, folder, given, message):
    options = ClassifyImageOptions.of(model=str(graph), image=[str(folder / "1.png")], **given)
    table = []
    with pytest.raises(InputError, match=message):
        classify(options, table.append, lambda line: None)
    assert not table


@pytest.mark.parametrize("option", ["csv", "json", "html", "plot"])
def test_where_answers_can_not_be_written_nothing_is_asked(train_dir, folder, option):
    given, read = {"model": train_dir, "image": [str(folder)]}, []
    options = ClassifyImageOptions.of(**given, **{option: f"/proc/new/{option}"})
    with pytest.raises(InputError, match=f"^--{option}=/proc/new/{option}: /proc/new.* written: "):
        classify(options, read.append, read.append)
    if option != "plot":
        options = ClassifyImageOptions.of(**given, **{option: str(folder)})
        with pytest.raises(InputError, match=f"^--{option}=.*: is a folder. Name a file in it."):
            classify(options, read.append, read.append)
    assert not read


def test_nodes_that_are_named_must_be_those_of_an_exported_graph(
    graph, train_dir, folder, tmp_path
):
    """An export knows its own, which are taken; a name of another graph is no slip to pass over."""
    run = dataclasses.asdict(run_config.load(train_dir))
    nodes = {"input": "input", "logits": "LeNet/logits", "probabilities": "LeNet/probabilities"}
    config = ExportConfig(run, "model.ckpt-7", 7, False, nodes=nodes)
    export_config.save(str(tmp_path / export_config.FILE_NAME), config)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    shutil.copy(graph, tmp_path / "graph.pb")

    def said(**given):
        place, lines = {"model": str(tmp_path / "graph.pb"), "image": [str(folder / "1.png")]}, []
        classify(ClassifyImageOptions.of(**place, **given), lambda line: None, lines.append)
        return lines

    assert not said(input_layer="import/input:0", output_layer="LeNet/probabilities")
    assert "--input_layer is left aside" in said(input_layer="LeNet/logits")[0]
    said_of_two = said(image_size=64, input_width=64)[0]
    assert "--image_size, --input_width are left aside" in said_of_two
    for option in ("input_layer", "output_layer"):
        with pytest.raises(InputError, match=f"^--{option}=LeNet/nope: .*.pb has no such node"):
            said(**{option: "LeNet/nope"})


def test_two_ways_to_prepare_are_one_too_many():
    options = ClassifyImageOptions.of(
        model="x.pb", image=["x.jpg"], input_mean=0.0, preprocessing_name="vgg"
    )
    with pytest.raises(UsageError, match="leave them out, or --preprocessing_name"):
        check(options)


def test_old_flags_are_understood():
    program = (
        "import command_line\nfrom runs.options import ClassifyImageOptions as job\n"
        "command_line.define(job)\n"
        "given = command_line.parse(job, ['x', '--input', 'a.jpg', '--image=b.jpg', '--checkpoint',"
        " 'dir', '--top_k', '3', '--num_top_predictions=2', '--labels=l.txt', '-'], 'image')\n"
        "print(given.classify.image, given.model.model, given.classify.top_k, "
        "given.alone.graph.labels)"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.stdout == "('a.jpg', 'b.jpg', '-') dir 2 l.txt\n", said.stderr


def test_of_equally_likely_classes_the_first_is_named_first():
    assert likeliest(np.float32([0.2, 0.4, 0.4]), "abc", 2) == [
        ("b", pytest.approx(0.4)),
        ("c", pytest.approx(0.4)),
    ]


def test_label_image_s_two_sides_must_be_one():
    def given(**sides):
        options = ClassifyImageOptions.of(model="x.pb", image=["x.jpg"], **sides)
        check(options)
        return options.alone.graph.side

    assert given(image_size=96, input_width=96) == given(input_width=96) == 96
    with pytest.raises(UsageError, match="--input_width=320: only squares are supported"):
        given(image_size=224, input_width=320)


# The page.


@pytest.fixture(scope="module")
def shown():
    buffer = io.BytesIO()
    Image.fromarray(weights.test_image(90, 160)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    shares = np.random.default_rng(0).uniform(0.3, 1, 30).tolist()
    return [
        Shown(
            f"{NASTY[i % len(NASTY)]}/{i}.jpg",
            [(NASTY[i % 4], share), (NASTY[5], (1 - share) / 2)],
            share < 0.6,
            jpeg,
            jpeg if i % 2 else None,
        )
        for i, share in enumerate(shares)
    ]


SCRIPT = """
const sections = [...document.querySelectorAll("section.answers")];
const visible = all => [...all].filter(one => one.offsetParent !== null).length;
result.names = sections.map(one => one.querySelector("h2 bdi").textContent);
result.shares = sections.map(one => [...one.querySelectorAll("figure")].map(figure =>
  Number(figure.querySelector(".guess").style.getPropertyValue("--share"))));
result.broken = [...document.images].filter(image => !image.naturalWidth && image.complete).length;
result.bold = document.querySelectorAll("bdi b").length;
const figures = document.querySelectorAll("figure");
result.before = visible(figures);
document.getElementById("only-unsure").click();
result.after = visible(figures);
"""


@needs_chromium
@pytest.mark.parametrize(("width", "language"), [(1000, "en"), (400, "fr")])
def test_the_page_is_sorted_and_shows_the_unsure_alone(shown, tmp_path, width, language):
    page = tmp_path / "page.html"
    problems = {"broken\n.jpg": "damaged <image>"}
    page.write_text(answers_page.html(shown, problems, 0.6, language), "utf-8")
    result, console = browse(page, SCRIPT, width)
    assert console == [] and result["overflow"] == 0 and result["broken"] == 0
    assert result["names"] == sorted(NASTY[:4], key=str.casefold) and result["bold"] == 0
    assert all(shares == sorted(shares, reverse=True) for shares in result["shares"])
    unsure = sum(one.unsure for one in shown)
    assert (result["before"], result["after"]) == (30, unsure)
    text = page.read_text("utf-8")
    assert ("Images classées" in text) == (language == "fr")
    assert "http" not in text.replace("http-equiv", "")


def test_the_page_speaks_french():
    template = (ROOT / "evaluation/report/answers.html").read_text("utf-8")
    code = (ROOT / "evaluation/report/answers_page.py").read_text("utf-8")
    said = set(re.findall(r'words\(\s*"([^"]+)"', template + code))
    assert len(said) > 8 and said <= words.known_sentences()
