"""report.html in a browser: loads, sorts, shows the pictures of a cell, at two widths."""

import ast
import html
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf

from evaluation import evaluator
from evaluation import folder as report
from evaluation.report import words
from evaluation.report.gallery import Gallery
from evaluation.report.page import Extras, remark_on_guessing
from tests.conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed: apt-get install chromium"
)
# Names that HTML, a script or the direction of writing would trip over.
NASTY = (
    "<script>alert(1)</script>",
    "a \"quoted\" 'name'",
    "line\nbreak",
    "كلب صغير",
    "</script><b>bold",
    "cat",
    "dog",
    "{{ names }}",
    "a-rather-long-name-of-one-word-without-any-blank",
    "Großer Schweizer Sennenhund",
)
ABOUT = {
    "model_name": "small_cnn",
    "dataset": "pets",
    "split": "test",
    "date": "2026-01-31 12:00",
    "files": ["pets_test-00000-of-00001.tfrecord"],
    "moving_averages": False,
    "parameters": 2452930,
    "training_seconds": 207.74457224400066,
    "fitted_temperature": {"value": 1.2345678, "split": "validation", "ece": [0.1, 0.05]},
}
TRAINING = {"changed": {"learning_rate": 0.1}, "all": {"learning_rate": 0.1, "seed": 0}}


def make_page(folder, names, count, language="en", right=0.7):
    random = np.random.default_rng(0)
    num_classes, gallery = len(names), Gallery(len(names), (-1.0, 1.0))
    labels = random.permutation(np.arange(count) % num_classes)
    logits = random.normal(0, 1, (count, num_classes)).astype(np.float32)
    sure = random.random(count) < right
    logits[np.arange(count), np.where(sure, labels, (labels * 7 + 1) % num_classes)] += 4.0
    images = random.uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)
    images += np.linspace(-0.5, 0.5, num_classes)[labels][:, None, None, None]
    batches, sent = [], iter(np.array_split(np.arange(count), max(1, count // 100)))
    for part in sent:
        batches.append(
            {
                "image": tf.constant(images[part]),
                "label": tf.constant(labels[part]),
                "filename": [f"{names[labels[i]]}/{i:05}.jpg" for i in part],
            }
        )
        batches[-1]["filename"] = tf.constant(batches[-1]["filename"])
    parts = iter(np.array_split(logits, len(batches)))
    found = evaluator.evaluate(
        lambda images: tf.constant(next(parts)), batches, names, show=gallery.add
    )
    # The left half of each picture is warm.
    gallery.explain(lambda inputs, classes: np.tile([[1.0, 0.0]], (len(inputs), 2, 1)))
    counts = {name: 10 + i for i, name in enumerate(names)}
    extras = Extras(gallery, language, training=TRAINING, training_counts=counts)
    report.write(str(folder), found, ABOUT, step=1, extras=extras)
    return found, folder / "report.html"


def browse(page, script="", width=1000, picture=None, dark=False):
    """Opens a page, runs a script that fills `result`; returns it and what the console got."""
    text = page.read_text(encoding="utf-8")
    # The page's own rule of what it may load stays in force; only the script is added.
    copy, outside = page.with_name("tested.html"), page.with_name("outside.html")
    copy.write_text(
        text
        + "<script>const result = {}, root = document.documentElement;\n"
        + "root.scrollLeft = 1000; result.overflow = root.scrollLeft; root.scrollLeft = 0;\n"
        + f"{{ {script} }}\nconst place = parent.document.getElementById('result');"
        + "place.textContent = JSON.stringify(result);</script>",
        encoding="utf-8",
    )
    # In a frame, since the browser's own window is never narrower than 500 pixels.
    height = 8000 if picture else 800
    outside.write_text(
        "<!doctype html><body style='margin:0'><pre id=result hidden></pre>"
        f"<iframe src=tested.html width={width} height={height} style='border:0'></iframe>"
    )
    what = [f"--screenshot={picture}"] if picture else ["--dump-dom"]
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        "--allow-file-access-from-files",
        *(f"--window-size={max(width, 500)},{height}", "--enable-logging=stderr"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *(*what, outside.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    console = re.findall(r"CONSOLE.*", done.stderr)
    found = re.search(r'<pre id="result" hidden="">(.*?)</pre>', done.stdout, re.DOTALL)
    text = html.unescape(found[1]) if found else ""
    return (json.loads(text) if text else {}), console


SORT = """
const table = document.querySelector(".sortable"), buttons = table.querySelectorAll("button");
const column = i => [...table.tBodies[0].rows].map(row => row.cells[i].dataset.value ?? "");
buttons[2].click();
result.recall = column(2);
result.sorted = table.tHead.rows[0].cells[2].getAttribute("aria-sort");
buttons[2].click();
result.reversed = column(2);
buttons[0].click();
result.names = [...table.tBodies[0].rows].map(row => row.cells[0].textContent.trim());
"""
CELL = """
result.cells = document.querySelectorAll(".matrix [data-cell]").length;
document.querySelector('.matrix [data-cell="5,6"]').click();
result.heading = document.getElementById("cell-heading").textContent;
result.focus = document.activeElement.id;
result.remark = document.getElementById("cell-remark").textContent;
result.pictures = [...document.querySelectorAll("#cell-pictures img")].map(image => image.alt);
result.width = innerWidth;
result.bold = document.querySelectorAll("bdi b, th b").length;
"""


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("ten"), NASTY, 600)


@needs_chromium
@pytest.mark.parametrize("width", [1000, 400])
def test_page_sorts_and_shows_the_pictures_of_a_cell(ten, width):
    found, page = ten
    result, console = browse(page, SORT + CELL, width)
    assert console == [] and result["width"] == width
    assert result["overflow"] == 0  # nothing is wider than the window
    recalls = [float(value) for value in result["recall"]]
    assert recalls == sorted(recalls, reverse=True) and result["sorted"] == "descending"
    assert [float(value) for value in result["reversed"]] == recalls[::-1]
    assert len(result["names"]) == 10 and set(NASTY[5:7]) < set(result["names"])
    assert result["cells"] == np.count_nonzero(found.confusion)
    times = found.confusion[5, 6]
    assert result["heading"] == "cat taken for dog" and result["focus"] == "cell-heading"
    assert result["remark"] == f"{len(result['pictures'])} of {times} are shown"
    inside = np.flatnonzero((found.labels == 5) & (found.predictions == 6))
    assert set(result["pictures"]) <= {found.filenames[i] for i in inside} and result["pictures"]
    assert result["bold"] == 0


@needs_chromium
def test_heat_is_laid_over_the_pictures_on_demand(ten):
    script = """
    const button = document.querySelector("button.heat");
    result.before = document.querySelectorAll(".thumbnail canvas").length;
    button.focus(); button.click();
    const canvases = [...document.querySelectorAll(".thumbnail canvas")];
    result.pictures = document.querySelectorAll(".thumbnail img").length;
    result.shown = canvases.length;
    result.pressed = [...document.querySelectorAll("button.heat")].map(b => b.ariaPressed);
    const levels = [...canvases[0].getContext("2d").getImageData(0, 0, 2, 1).data];
    result.warm = levels.slice(0, 4); result.cold = levels.slice(4);
    const box = canvases[0].getBoundingClientRect();
    const image = canvases[0].parentNode.querySelector("img").getBoundingClientRect();
    result.apart = Math.abs(box.width - image.width) + Math.abs(box.top - image.top);
    button.click();
    result.after = document.querySelectorAll(".thumbnail canvas").length;
    """
    result, console = browse(ten[1], script, width=400)
    assert console == [] and result["before"] == result["after"] == 0
    assert result["shown"] == result["pictures"] == 48 and result["pressed"] == ["true"] * 2
    assert result["warm"][0] > 250 and 150 < result["warm"][3] < 180 and result["cold"][3] == 0
    assert result["apart"] < 1


@needs_chromium
def test_page_of_many_examples_and_classes_opens_at_once(tmp_path):
    names = [f"breed number {i}" for i in range(120)]
    found, page = make_page(tmp_path, names, 10_000)
    assert page.stat().st_size < 20e6  # of noise, which JPEG can't make small
    script = """
    result.opened = performance.now();
    const canvas = document.getElementById("matrix");
    canvas.focus();
    const press = key => canvas.dispatchEvent(new KeyboardEvent("keydown", {key}));
    ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Enter"].forEach(press);
    result.heading = document.getElementById("cell-heading").textContent;
    result.words = document.getElementById("cell-words").textContent;
    result.pictures = document.querySelectorAll("#cell-pictures img").length;
    document.querySelector(".confused button").click();
    result.confused = document.getElementById("cell-heading").textContent;
    """
    began = time.monotonic()
    result, console = browse(page, script)
    print(f"opened in {result['opened']:.0f} ms, all in {time.monotonic() - began:.1f} s")
    assert console == [] and result["opened"] < 3000
    assert result["heading"] == "breed number 2 recognised" and result["pictures"]
    assert result["words"].startswith(
        f"breed number 2 recognised: {found.confusion[2, 2]} examples"
    )
    assert " taken for " in result["confused"]


@needs_chromium
def test_page_in_french(tmp_path):
    _, page = make_page(tmp_path, ["chat", "chien", "âne"], 40, language="fr")
    script = "document.querySelector('[data-cell]').click();"
    script += "result.heading = document.getElementById('cell-heading').textContent;"
    result, console = browse(page, script)
    assert console == [] and result["heading"] == "chat reconnue"
    text = page.read_text(encoding="utf-8")
    assert "Matrice de confusion" in text and '<html lang="fr">' in text
    assert "bonnes réponses sur 40" in text and "intervalle à 95\u00a0%" in text
    assert "pas mieux que le hasard" not in text


def test_a_net_that_may_be_guessing_is_told(tmp_path):
    guess = "The net may be no better than a guess: answering cat every time would be right for "
    found, page = make_page(tmp_path / "en", ["cat", "dog", "fox"], 40, right=0.2)
    assert f"{guess}35.0\u00a0%." in page.read_text(encoding="utf-8")
    assert remark_on_guessing(found) == f"{guess}35.0\u00a0%."
    better, page = make_page(tmp_path / "better", ["cat", "dog", "fox"], 40)
    assert guess not in page.read_text(encoding="utf-8") and not remark_on_guessing(better)
    sentence = "pas mieux que le hasard : répondre cat à chaque fois serait juste pour 35,0"
    assert sentence in remark_on_guessing(found, words.Words("fr"))


def test_every_sentence_of_pages_and_pictures_is_known_in_french():
    said = set()
    for template in (ROOT / "evaluation/report").glob("*.html"):
        said |= set(re.findall(r'words\("([^"]+)"', template.read_text(encoding="utf-8")))
    for path in (ROOT / "evaluation").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "words":
                said |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    assert len(said) > 60 and said <= words.known_sentences()


def test_page_says_what_was_evaluated_and_how_it_was_trained(ten):
    found, page = ten
    text = page.read_text(encoding="utf-8")
    assert "<title>Evaluation of small_cnn on pets, split test</title>" in text
    assert f"<b>{found.num_correct} of 600 right</b>" in text and "2026-01-31" in text
    num_mistakes = 600 - found.num_correct
    assert f"24 of {num_mistakes} mistakes" in text and "24 of 600 examples" in text
    assert "--learning_rate" in text and "http" not in text.replace("http-equiv", "")
    assert ">2,452,930<" in text and ">207.7<" in text
    assert ">value 1.235, split validation, calibration error 0.100, 0.050<" in text
    # Of the ten classes, with 10 to 19 examples each.
    assert "Trained on 145 examples, 10 to 19 of a class." in text
    assert ">trained on<" in text and 'data-value="19"' in text
