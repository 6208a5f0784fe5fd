import collections
import os
import subprocess
import sys

import numpy as np
import pytest
from lxml import etree
from PIL import Image

from datasets import sample


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "sample"
    assert sample.draw(str(folder))
    return folder


def _objects(drawn, stem):
    root = etree.parse(str(drawn / "annotations" / f"{stem}.xml")).getroot()
    objects = []
    for element in root.iter("object"):
        box = [int(element.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")]
        objects.append((element.findtext("name"), box))
    return objects


def _bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_pictures_are_as_many_and_as_varied_as_promised(drawn):
    paths = sorted((drawn / "images").iterdir())
    assert len(paths) == 600
    formats, sizes, labels, two = collections.Counter(), [], collections.Counter(), 0
    for path in paths:
        with Image.open(path) as image:
            formats[image.format] += 1
            sizes += image.size
            width, height = image.size
        objects = _objects(drawn, path.stem)
        two += len(objects) == 2
        for _, (xmin, ymin, xmax, ymax) in objects:
            assert 0 <= xmin < xmax <= width and 0 <= ymin < ymax <= height
        areas = [(xmax - xmin) * (ymax - ymin) for _, (xmin, ymin, xmax, ymax) in objects]
        assert areas[0] == max(areas)  # the first object is the one that gives the label
        labels[objects[0][0]] += 1
    assert min(sizes) >= 96 and max(sizes) <= 160 and len(set(sizes)) > 50
    assert set(labels.values()) == {120} and len(labels) == 5
    assert formats["PNG"] > 120 and formats["JPEG"] > 300
    assert 30 < two < 120


def test_neither_one_class_nor_a_mean_colour_solves_it(drawn):
    colours, labels = [], []
    for path in sorted((drawn / "images").iterdir()):
        with Image.open(path) as image:
            colours.append(np.asarray(image.convert("RGB"), float).mean(axis=(0, 1)))
        labels.append(_objects(drawn, path.stem)[0][0])
    colours, labels = np.array(colours), np.array(labels)
    train = np.arange(len(labels)) < 480
    names = sorted(set(labels))
    means = np.array([colours[train & (labels == name)].mean(axis=0) for name in names])
    distances = np.linalg.norm(colours[~train][:, None] - means, axis=-1)
    guessed = np.array(names)[distances.argmin(axis=1)]
    assert (guessed == labels[~train]).mean() < 0.4


def test_equal_seeds_draw_equal_pictures_and_others_do_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert sample.draw(str(tmp_path / name), images_per_class=2, seed=seed)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b") != _bytes(tmp_path / "c")


def test_what_is_drawn_already_is_left_as_it_is(tmp_path):
    folder = tmp_path / "sample"
    assert sample.draw(str(folder), images_per_class=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert not sample.draw(str(folder), images_per_class=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(ValueError, match="sample: it holds something else than this sample"):
        sample.draw(str(folder), images_per_class=2)


def test_a_killed_drawing_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    folder = tmp_path / "sample"
    picture, count = sample._picture, iter(range(3))

    def killed(*arguments):
        next(count)
        return picture(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sample, "_picture", killed)
        with pytest.raises(StopIteration):
            sample.draw(str(folder), images_per_class=1)
    assert not folder.exists()
    assert sample.draw(str(folder), images_per_class=1)
    assert os.listdir(tmp_path) == ["sample"]


def test_folders_of_the_users_own_beside_it_stay(tmp_path):
    (tmp_path / "sample.writing").mkdir()
    (tmp_path / "sample.writing" / "notes.txt").write_text("mine")
    assert sample.draw(str(tmp_path / "sample"), images_per_class=1)
    assert (tmp_path / "sample.writing" / "notes.txt").read_text() == "mine"


def test_the_command_line(tmp_path):
    words = [sys.executable, "-m", "datasets.sample", "--images_per_class=1"]
    words.append(f"--output_dir={tmp_path}/sample")
    for said in ("Drew 5 pictures of 5 classes in ", "Already drawn: 5 pictures of 5 classes in "):
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.stdout == f"{said}{tmp_path}/sample\n"
    (tmp_path / "file").write_text("")
    words[-1] = f"--output_dir={tmp_path}/file"
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error" in done.stderr and "Traceback" not in done.stderr
