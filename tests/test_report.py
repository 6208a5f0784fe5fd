"""What an evaluation leaves in its folder."""

import csv
import glob
import io
import json
import re
import tempfile
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from evaluation import calibration, evaluator, metrics, tables
from evaluation import folder as report
from evaluation.log_probabilities import LogProbabilities
from evaluation.report import answer_pictures, pictures
from evaluation.report.gallery import Gallery
from evaluation.report.page import Extras

# Names that CSV, HTML and matplotlib would take for something else.
NAMES = ("cat, wild", "<b>dog</b>", 'a "quoted" $name$', "été", "fox", "gnu")
ABOUT = {"model_name": "lenet", "split": "test", "files": ["a.tfrecord", "b.tfrecord"]}


@pytest.fixture(scope="module")
def evaluation(gallery):
    random = np.random.default_rng(0)
    labels = np.arange(12) % 3  # the last three classes have no example
    logits = random.normal(0, 1, (12, 6)).astype(np.float32)
    logits[np.arange(12), labels] += 1.0
    logits[0, labels[0]] = -9.0  # at the last of six places
    batch = {
        "image": tf.constant(random.uniform(-1, 1, (12, 8, 8, 3)), tf.float32),
        "label": tf.constant(labels),
        "filename": tf.constant([f"folder/<img>{i}.jpg" for i in range(12)]),
    }
    return evaluator.evaluate(
        lambda images: tf.constant(logits),
        [batch],
        NAMES,
        show=gallery.add,
        log_probabilities=LogProbabilities(tempfile.gettempdir(), len(NAMES)),
    )


@pytest.fixture(scope="module")
def gallery():
    return Gallery(len(NAMES), (-1.0, 1.0))


@pytest.fixture(scope="module")
def folder(evaluation, gallery, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval") / "new"
    report.write(str(folder), evaluation, ABOUT, step=40, extras=Extras(gallery))
    return folder


def rows(path):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_metrics(folder, evaluation):
    numbers = json.loads((folder / "metrics.json").read_text())
    assert numbers["accuracy"] == evaluation.accuracy
    assert numbers["recall_5"] == evaluation.recall_at(5) < 1.0
    assert numbers["num_examples"] == 12
    assert numbers["files"] == ABOUT["files"]
    low, high = numbers["accuracy_interval_95"]
    assert low < evaluation.accuracy < high
    assert 0 < numbers["macro_f1"] < 1


def test_per_class(folder, evaluation):
    head, *body = rows(folder / "per_class.csv")
    assert head[:6] == ["class", "precision", "recall", "f1", "support", "predicted"]
    assert head[6:] == ["recall_low", "recall_high", "roc_auc", "average_precision"]
    assert body[3][6:] == ["", "", "", ""] and 0 < float(body[0][8]) <= 1
    assert [row[0] for row in body] == list(NAMES)
    assert body[3][2:5] == ["", "", "0"]
    correct = np.sum((evaluation.labels == 0) & (evaluation.predictions == 0))
    assert float(body[0][2]) == pytest.approx(correct / 4, abs=1e-4)


def test_predictions(folder, evaluation):
    head, *body = rows(folder / "predictions.csv")
    assert head[:6] == "filename label prediction correct class_1 probability_1".split()
    assert len(body) == 12
    assert sum(int(row[3]) for row in body) == evaluation.num_correct
    assert body[4][:2] == ["folder/<img>4.jpg", NAMES[1]]
    found = [float(cell) for cell in body[4][5::2]]
    assert found == pytest.approx(evaluation.top_probabilities[4].tolist(), abs=1e-6)


def test_confusion_matrix(folder, evaluation):
    head, *body = rows(folder / "confusion_matrix.csv")
    assert head[1:] == [row[0] for row in body] == list(NAMES)
    assert np.array_equal(np.array(body)[:, 1:].astype(int), evaluation.confusion)
    with Image.open(folder / "confusion_matrix.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 400


@pytest.mark.parametrize("count", [1, 2, 40, 300])
def test_picture_of_any_number_of_classes(count):
    confusion = np.diag(np.arange(count))
    png = pictures.confusion_matrix(confusion, [f"class number {i}" for i in range(count)])
    with Image.open(io.BytesIO(png)) as picture:
        assert max(picture.size) <= 2000


def test_names_of_many_lines_leave_the_picture_its_place(recwarn):
    names = [f"class\n{i}\twith\r\na long \x00 name" for i in range(120)]
    pictures.confusion_matrix(np.eye(120, dtype=int)[::-1] + 1, names, "a\ntitle")
    # matplotlib warns where it has no glyph, and where axes would have no size.
    assert not recwarn.list
    assert pictures.plain("line\nbreak\t \x00 $") == r"line break \$"


def test_of_thousands_of_classes_each_confusion_is_found_in_little_memory():
    confusion = np.diag(np.full(2500, 3))
    confusion[1700, 3] = 1
    tracemalloc.start()
    shown, step = pictures.shares(confusion)
    assert metrics.most_confused(confusion, 9) == [(1700, 3, 1)]
    assert tracemalloc.get_traced_memory()[1] < confusion.nbytes / 4
    tracemalloc.stop()
    assert step == 3 and shown.shape == (834, 834)
    assert (np.diagonal(shown)[[0, 1, -1]] == 1).all() and shown[566, 1] == 1 / 4
    assert np.count_nonzero(shown) == 834 + 1


def test_letters_that_no_font_has_are_boxes_without_a_word(recwarn):
    encoded = pictures.thumbnail(np.zeros((8, 8, 3), np.float32), None)
    answer_pictures.plot(encoded, "\U0001f98a.jpg", [("\u3042", 1.0)])
    assert not recwarn.list


def test_long_titles_are_whole():
    """No ink of a title reaches the sides of its picture."""
    title = "Confusion of inception_resnet_v2 stanford_dogs_120 validation: 7,123 of 12,345 right"
    bins = calibration.reliability(np.linspace(0, 1, 50), np.arange(50) % 2 == 0)
    matrix = pictures.confusion_matrix(np.eye(5, dtype=int), list("abcde"), title)
    for png in (matrix, calibration.diagram(bins, title)):
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert (pixels[:40, :4] == 255).all() and (pixels[:40, -4:] == 255).all()


@pytest.mark.parametrize("name", ["Icon\r", "a\rb.jpg", "a\nb.jpg", 'a, "b".jpg', "\u202eb"])
def test_any_name_is_read_back_from_a_table(name):
    file = io.StringIO(newline="")
    tables.write(file, [("filename", "share"), (name, 0.5), ("b", 1)])
    file.seek(0)
    assert list(csv.reader(file)) == [["filename", "share"], [name, "0.5"], ["b", "1"]]


def test_page_stands_alone_and_escapes(folder, evaluation, gallery):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{evaluation.accuracy:.2%}".replace("%", "\u00a0%") in page
    assert "<b>dog</b>" not in page and "&lt;b&gt;dog&lt;/b&gt;" in page
    assert "<img>" not in page
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    assert page.count("data:image/jpeg,") == 0
    assert page.count('src="data:image/jpeg') == len(gallery.surest) + len(gallery.unsure) > 12


def test_page_without_mistakes(tmp_path):
    batch = {
        "image": tf.zeros([2, 4, 4, 1]),
        "label": tf.constant([0, 1]),
        "filename": tf.constant(["a", "b"]),
    }
    gallery = Gallery(2)
    perfect = evaluator.evaluate(
        lambda images: 9 * tf.eye(2), [batch], ["a", "b"], show=gallery.add
    )
    report.write(str(tmp_path), perfect, {}, step=0, extras=Extras(gallery))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("There are none.") == 2


def test_thumbnails_show_the_pixels():
    image = np.full((10, 10, 1), -1.0, np.float32)
    image[:5] = 1.0
    with Image.open(io.BytesIO(pictures.thumbnail(image, (-1.0, 1.0)))) as picture:
        pixels = np.asarray(picture)
    assert picture.mode == "L" and pixels.shape == (120, 120)
    assert pixels[:50].min() > 245 and pixels[70:].max() < 10


def test_events_carry_slims_tags(folder, evaluation):
    values = {}
    for path in glob.glob(str(folder / "events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                values[value.tag] = event.step, tf.make_ndarray(value.tensor)
    step, accuracy = values["eval/Accuracy"]
    assert step == 40 and accuracy == pytest.approx(evaluation.accuracy)
    assert values["eval/Recall_5"][1] == pytest.approx(evaluation.recall_at(5))
    assert "eval/confusion_matrix" in values and "eval/reliability" in values
    pictures_shown = values["eval/surest_mistakes"][1]  # width, height, and a PNG each
    assert len(pictures_shown) == 2 + len(evaluation.labels) - evaluation.num_correct
    curves = [tag for tag in values if tag.startswith("eval/precision_recall/")]
    assert curves == [f"eval/precision_recall/{name}" for name in NAMES[:3]]
    assert "eval/accuracy" not in values and "eval/macro_f1" in values


def test_recall_5_of_five_classes_is_nowhere(tmp_path):
    batch = {
        "image": tf.zeros([2, 4, 4, 1]),
        "label": tf.constant([0, 1]),
        "filename": tf.constant(["a", "b"]),
    }
    found = evaluator.evaluate(lambda images: tf.eye(2, 5), [batch], "abcde")
    report.write(str(tmp_path), found, {}, step=0)
    assert "recall_5" not in json.loads((tmp_path / "metrics.json").read_text())
    assert "recall at 5" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    (events,) = glob.glob(str(tmp_path / "events.out.tfevents.*"))
    for event in tf.compat.v1.train.summary_iterator(events):
        assert not any("Recall_5" in value.tag for value in event.summary.value)


def test_all_probabilities(tmp_path, evaluation):
    report.write(str(tmp_path), evaluation, ABOUT, step=1, all_probabilities=True)
    head, *body = rows(tmp_path / "predictions.csv")
    assert head[-len(NAMES) :] == [f"probability of {name}" for name in NAMES]
    every = np.array([row[-len(NAMES) :] for row in body], float)
    np.testing.assert_allclose(every.sum(axis=1), 1, atol=1e-5)
    assert np.argmax(every, axis=1).tolist() == evaluation.predictions.tolist()


def test_an_interrupted_evaluation_leaves_the_former_one(tmp_path, evaluation, monkeypatch):
    report.write(str(tmp_path), evaluation, ABOUT, step=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(_):
        yield ("some", "rows")
        raise KeyboardInterrupt

    monkeypatch.setattr(report.tables, "confusion", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(str(tmp_path), evaluation, {"split": "another"}, step=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_leaves_no_temporary_files(folder):
    assert sorted(path.name for path in folder.iterdir() if "tfevents" not in path.name) == [
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
        "reliability.png",
        "report.html",
    ]


def test_folder_that_can_not_be_made(tmp_path, evaluation):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        report.write(str(tmp_path / "file" / "eval"), evaluation, ABOUT, step=1)
