"""The evaluation pass on made-up logits."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from evaluation import evaluator

NAMES = tuple("abcdefg")
NUM_CLASSES = len(NAMES)
COUNT = 23


def make_batches(logits, labels, sizes):
    """Images that hold their logits, in batches of these sizes."""
    batches, start = [], 0
    for size in sizes:
        part = slice(start, start + size)
        batches.append(
            {
                "image": tf.constant(logits[part, None, :, None], tf.float32),
                "label": tf.constant(labels[part], tf.int32),
                "filename": tf.constant([f"{i}.jpg" for i in range(start, start + size)]),
            }
        )
        start += size
    return batches


def predict(images):
    return images[:, 0, :, 0]


@pytest.fixture
def drawn():
    random = np.random.default_rng(3)
    labels = random.integers(0, NUM_CLASSES, COUNT)
    logits = random.normal(0, 2, (COUNT, NUM_CLASSES)).astype(np.float32)
    logits[np.arange(COUNT), labels] += 2.0
    return logits, labels


def test_counts_each_example_once_whatever_the_batches(drawn):
    logits, labels = drawn
    expected = np.mean(np.argmax(logits, axis=1) == labels)
    expected_loss = np.mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits.astype(np.float64))
    )
    for sizes in [[COUNT], [10, 10, 3], [1] * COUNT]:
        evaluation = evaluator.evaluate(predict, make_batches(logits, labels, sizes), NAMES)
        assert evaluation.num_examples == COUNT
        assert evaluation.accuracy == expected
        assert evaluation.loss == pytest.approx(expected_loss, rel=1e-12)
        assert evaluation.confusion.sum() == COUNT
        assert evaluation.confusion.trace() == evaluation.num_correct
        assert evaluation.filenames == tuple(f"{i}.jpg" for i in range(COUNT))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_recall_is_tensorflows(drawn, k):
    logits, labels = drawn
    evaluation = evaluator.evaluate(predict, make_batches(logits, labels, [COUNT]), NAMES)
    expected = np.mean(tf.math.in_top_k(labels, logits, k))
    assert evaluation.recall_at(k) == expected


def test_classes_that_tie():
    logits = np.zeros((2, 6), np.float32)
    evaluation = evaluator.evaluate(predict, make_batches(logits, np.array([0, 5]), [2]), "abcdef")
    # As argmax, and as in_top_k.
    assert evaluation.predictions.tolist() == [0, 0]
    assert evaluation.recall_at(5) == np.mean(tf.math.in_top_k([0, 5], logits, 5)) == 1.0


def test_recall_5_counts_what_lies_below_the_fifth_place():
    logits = np.tile(np.float32([6, 5, 4, 3, 2, 1]), (4, 1))
    labels = np.array([0, 4, 5, 5])  # at places 1, 5, 6 and 6
    evaluation = evaluator.evaluate(predict, make_batches(logits, labels, [3, 1]), "abcdef")
    assert evaluation.recall_at(5) == 0.5
    assert evaluation.recall_at(4) == 0.25
    assert evaluation.ranks.tolist() == [0, 4, 5, 5]


def test_fewer_classes_than_places(drawn):
    logits, labels = drawn[0][:, :3], drawn[1] % 3
    evaluation = evaluator.evaluate(predict, make_batches(logits, labels, [COUNT]), "abc")
    assert evaluation.recall_at(5) == 1.0
    assert evaluation.top_classes.shape == (COUNT, 3)


def test_top_probabilities(drawn):
    logits, labels = drawn
    evaluation = evaluator.evaluate(predict, make_batches(logits, labels, [20, 3]), NAMES)
    expected = tf.math.top_k(tf.nn.softmax(logits), 5)
    assert np.array_equal(evaluation.top_classes, expected.indices)
    np.testing.assert_allclose(evaluation.top_probabilities, expected.values, rtol=1e-5)


def test_shows_each_batch(drawn):
    logits, labels = drawn
    shown = []
    evaluation = evaluator.evaluate(
        predict,
        make_batches(logits, labels, [9, 9, 5]),
        NAMES,
        show=lambda *batch: shown.append(batch),
    )
    assert [offset for _, _, offset in shown] == [0, 9, 18]
    images, part, offset = shown[1]
    assert np.array_equal(images[:, 0, :, 0], logits[9:18])
    assert np.array_equal(part["top_classes"], evaluation.top_classes[9:18])
    assert np.array_equal(part["labels"], labels[9:18])


def test_bfloat16_logits(drawn):
    logits, labels = drawn
    evaluation = evaluator.evaluate(
        lambda images: tf.cast(predict(images), tf.bfloat16),
        make_batches(logits, labels, [COUNT]),
        NAMES,
    )
    assert evaluation.num_examples == COUNT


def test_reports_progress(drawn):
    logits, labels = drawn
    seen = []
    evaluator.evaluate(predict, make_batches(logits, labels, [20, 3]), NAMES, on_batch=seen.append)
    assert seen == [20, 3]


def test_errors(drawn):
    logits, labels = drawn
    with pytest.raises(ValueError, match="no examples to evaluate on"):
        evaluator.evaluate(predict, [], NAMES)
    outside = labels.copy()
    outside[21] = NUM_CLASSES
    with pytest.raises(ValueError, match="21.jpg: label 7 is not one of the classes 0 to 6"):
        evaluator.evaluate(predict, make_batches(logits, outside, [20, 3]), NAMES)
    broken = logits.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="2.jpg: the net's output is not finite"):
        evaluator.evaluate(predict, make_batches(broken, labels, [COUNT]), NAMES)
    with pytest.raises(ValueError, match=r"\[23, 7\] logits for 23 images of 9 classes"):
        evaluator.evaluate(predict, make_batches(logits, labels, [COUNT]), "abcdefghi")


def test_what_is_kept_of_an_example_does_not_grow_with_the_classes():
    """A view of the likeliest classes would hold the places of all of them."""
    batch = {
        "image": tf.zeros([100, 1, 1, 1]),
        "label": tf.zeros([100], tf.int32),
        "filename": tf.constant(["a"] * 100),
    }
    logits = tf.random.stateless_normal([100, 1000], [1, 2])
    held = []
    tracemalloc.start()
    evaluator.evaluate(
        lambda images: logits,
        [batch] * 20,
        list(map(str, range(1000))),
        on_batch=lambda _: held.append(tracemalloc.get_traced_memory()[0]),
    )
    tracemalloc.stop()
    per_example = (held[-1] - held[9]) / 1000  # bytes
    assert per_example < 1000
