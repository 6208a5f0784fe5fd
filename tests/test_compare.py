"""Runs side by side: the table, comparison.csv and the page."""

import csv
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from datasets import schema
from evaluation import evaluator
from evaluation import folder as report
from foundation.errors import InputError
from runs.compare import compare
from runs.options import CompareRunsOptions
from serving import latency
from tests.conftest import patch_figures
from tests.fixtures.slim_parity import weights
from tests.test_page import browse, needs_chromium

NAMES = ("cat", "<b>dog</b>", "emu")
COUNT = 30


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch_figures(patch)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three evaluations of the same examples; the second is right of nine more than the first."""
    place = tmp_path_factory.mktemp("place")
    shard = place / "pets_test-00000-of-00001.tfrecord"
    with open(shard, "wb") as file:
        for i in range(COUNT):
            encoded = tf.io.encode_png(np.roll(weights.test_image(40, 50), 7 * i, axis=1)).numpy()
            example = schema.Example(
                encoded, "png", 40, 50, i % 3, NAMES[i % 3], f"{i}.png", (), f"{i:064x}"
            )
            file.write(schema.frame(example.serialize()))
    for name, num_right, seconds in (("poor", 15, 100.0), ("good", 24, 250.0), ("late", 20, 900.0)):
        about = {"dataset": "pets", "split": "test", "files": [str(shard)], "parameters": 61_706}
        about |= {"training_seconds": seconds, "training_images": 64_000}
        evaluated(place / name, num_right, about)
    return place


def evaluated(folder, num_right, about, count=COUNT):
    """Writes an evaluation in which the first `num_right` examples are right."""
    labels = np.arange(count) % 3
    said = np.where(np.arange(count) < num_right, labels, (labels + 1) % 3)
    batch = {
        "image": tf.zeros([count, 4, 4, 3]),
        "label": tf.constant(labels),
        "filename": tf.constant([f"{i}.png" for i in range(count)]),
    }
    logits = tf.one_hot(said, 3) * 2
    found = evaluator.evaluate(lambda images: logits, [batch], NAMES)
    report.write(str(folder), found, about, step=1)


def run(place, *names, **options):
    lines = []
    given = CompareRunsOptions.of(
        run=tuple(str(place / name) for name in names),
        output_dir=str(place / "comparison"),
        **options,
    )
    return compare(given, lines.append), lines


def test_table_and_csv(place):
    found, lines = run(place, "poor", "good")
    assert [one.name for one in found] == ["poor", "good"]
    # Nine flipped one way, none the other: p = 2 / 2⁹.
    assert "Of 30 examples, 9 are right with good only and 0 with poor only" in lines[3]
    assert "p = 0.0039). good is better, beyond chance." in lines[3]
    assert lines[0].split()[:2] == ["run", "accuracy"] and "0.8000" in lines[2]
    with open(place / "comparison/comparison.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["poor", "good"]
    assert float(rows[1]["mcnemar_p"]) == pytest.approx(2 / 512) and rows[0]["mcnemar_p"] == ""
    assert float(rows[1]["accuracy"]) == 0.8 and rows[1]["parameters"] == "61706"
    assert float(rows[0]["training_images_per_second"]) == 640.0
    low, high = (float(rows[0][name]) for name in ("accuracy_low", "accuracy_high"))
    assert low < 0.5 < high


def test_the_format_that_was_measured_is_named(place, monkeypatch):
    monkeypatch.setattr(latency, "format_of", lambda path: path)
    monkeypatch.setattr(latency, "size_in_bytes", lambda path: 2**20)
    monkeypatch.setattr(latency, "milliseconds", lambda path: {1: 2.5, 8: 10.0})
    _, lines = run(place, "poor", "good", exports=("tflite", "-"))
    row = next(line for line in lines if line.startswith("poor "))
    assert row.endswith("2.50 (tflite)") and "tflite" not in lines[-2]
    with open(place / "comparison/comparison.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["export_format"] for row in rows] == ["tflite", ""]
    assert "10.0 (tflite)" in (place / "comparison/comparison.html").read_text(encoding="utf-8")


def test_page(place):
    run(place, "poor", "good", "late")
    text = (place / "comparison/comparison.html").read_text(encoding="utf-8")
    assert "<b>dog</b>" not in text and "&lt;b&gt;dog&lt;/b&gt;" in text
    assert text.count('src="data:image/jpeg') == 9 + 5  # of the nine and of the five that flipped
    assert text.count('src="data:image/png') == 1  # no run has an export
    assert "each pair" in text and "9 of 9 are shown" in text
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert all(address.startswith("data:image/") for address in addresses)


@needs_chromium
@pytest.mark.parametrize("width", [1000, 400])
def test_page_in_a_browser(place, width):
    run(place, "poor", "good", "late", language="fr")
    script = """
    const table = document.querySelector(".sortable");
    table.querySelectorAll("button")[1].click();
    result.names = [...table.tBodies[0].rows].map(row => row.cells[0].textContent.trim());
    """
    result, console = browse(place / "comparison/comparison.html", script, width)
    assert console == [] and result["overflow"] == 0
    assert result["names"] == ["good", "late", "poor"]


def test_other_examples_are_refused(place):
    evaluated(place / "short", 5, {"dataset": "pets"}, count=12)
    with pytest.raises(InputError, match="poor and short can't be compared: 30 and 12 examples"):
        run(place, "poor", "short")


def test_records_that_are_gone_leave_the_names(place):
    evaluated(place / "gone", 20, {"files": ["/nowhere/a.tfrecord"]})
    run(place, "gone", "poor")
    text = (place / "comparison/comparison.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" not in text and "19.png" in text


def test_what_can_not_be_compared(place, tmp_path):
    with pytest.raises(InputError, match="two folders or more"):
        CompareRunsOptions.of(run=("one",)).comparison.check()
    with pytest.raises(InputError, match="1 exports for 2 runs"):
        CompareRunsOptions.of(run=("a", "b"), exports=("c",)).comparison.check()
    with pytest.raises(InputError, match="same folder is named twice"):
        run(place, "poor", "poor")
    evaluated(tmp_path / "torn", 3, {})
    (tmp_path / "torn/metrics.json").write_text(json.dumps({"num_examples": 31}))
    with pytest.raises(InputError, match="30 of 31 predictions"):
        run(tmp_path, "torn", str(place / "poor"))
