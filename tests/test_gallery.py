"""Which pictures the page gets of an evaluation."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from evaluation.report import gallery as galleries
from evaluation.report.gallery import Gallery

COUNT, CLASSES = 400, 4


def filled(gallery, labels, taken, sureness, size=50):
    """Shows a gallery examples whose pictures have the brightness of their position."""
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        images = np.arange(start, start + len(labels[part]), dtype=np.float32) / len(labels)
        gallery.add(
            tf.constant(np.tile(images[:, None, None, None], (1, 4, 4, 1))),
            {
                "labels": labels[part],
                "top_classes": taken[part, None],
                "top_probabilities": sureness[part, None],
            },
            start,
        )
    return gallery


def drawn(seed=0):
    random = np.random.default_rng(seed)
    labels, taken = random.integers(0, CLASSES, (2, COUNT))
    return labels, taken, random.permutation(COUNT) / COUNT


def test_lists_the_surest_mistakes_and_the_least_sure_examples():
    labels, taken, sureness = drawn()
    gallery = filled(Gallery(CLASSES, (0.0, 1.0), num_listed=5), labels, taken, sureness)
    wrong = np.flatnonzero(labels != taken)
    assert gallery.surest == sorted(wrong, key=lambda i: -sureness[i])[:5]
    assert gallery.unsure == np.argsort(sureness)[:5].tolist()
    for position in gallery.surest + gallery.unsure:
        with Image.open(io.BytesIO(gallery.images[position])) as picture:
            assert abs(np.asarray(picture).mean() - 255 * position / COUNT) < 4


def test_cells_have_their_surest_mistakes_or_least_sure_right_answers():
    labels, taken, sureness = drawn()
    gallery = filled(Gallery(CLASSES), labels, taken, sureness)
    for label in range(CLASSES):
        for other in range(CLASSES):
            inside = np.flatnonzero((labels == label) & (taken == other))
            order = 1 if label == other else -1
            expected = sorted(inside, key=lambda i: order * sureness[i])[:40]
            assert gallery.cell(label, other) == expected
            assert set(expected) <= gallery.images.keys()
    assert gallery.cell(0, CLASSES) == []


def test_keeps_few_pictures_whatever_the_number_of_examples(monkeypatch):
    monkeypatch.setattr(galleries, "_MISTAKES", 30)
    monkeypatch.setattr(galleries, "_RIGHT", 8)
    labels, taken, sureness = drawn()
    gallery = filled(Gallery(CLASSES, num_listed=3), labels, taken, sureness)
    cells = [gallery.cell(i, j) for i in range(CLASSES) for j in range(CLASSES)]
    wrong = [gallery.cell(i, j) for i in range(CLASSES) for j in range(CLASSES) if i != j]
    assert sum(map(len, wrong)) == 30
    kept = {position for cell in cells for position in cell}
    assert gallery.images.keys() == kept | set(gallery.surest) | set(gallery.unsure)


def test_only_listed_pictures_are_explained_with_what_was_kept_of_them():
    labels, taken, sureness = drawn()
    gallery, asked = Gallery(CLASSES, num_listed=5), []
    for start in range(0, COUNT, 50):
        part = slice(start, start + 50)
        columns = {
            "labels": labels[part],
            "top_classes": taken[part, None],
            "top_probabilities": sureness[part, None],
        }
        gallery.add(tf.zeros([50, 4, 4, 1]), columns, start, lambda i, start=start: start + i)
    assert gallery.heat == {}

    def heat(inputs, classes):
        asked.extend(zip(inputs, classes, strict=True))
        return np.full((len(inputs), 2, 3), 0.5, np.float32)

    gallery.explain(heat)
    listed = sorted({*gallery.surest, *gallery.unsure})
    assert asked == [(position, taken[position]) for position in listed]
    assert sorted(gallery.heat) == listed
    assert gallery.heat[listed[0]].tolist() == [[128] * 3] * 2
