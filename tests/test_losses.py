"""Losses against TF-Slim's numbers and against formulas written out."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from training import losses
from training.options import LossOptions

FIXTURE = json.loads(
    (pathlib.Path(__file__).parent / "fixtures/slim_parity/optimizers.json").read_text()
)["softmax_cross_entropy"]
LOGITS = tf.constant(FIXTURE["logits"])
AUX_LOGITS = tf.constant(FIXTURE["aux_logits"])
LABELS = tf.constant(FIXTURE["labels"])


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_follows_slim(smoothing):
    expected = FIXTURE[f"smoothing_{smoothing}"]
    options = LossOptions(label_smoothing=smoothing)
    outputs = {"logits": LOGITS, "aux_logits": AUX_LOGITS}
    parts = losses.classification(LABELS, outputs, options)
    np.testing.assert_allclose(parts["main"], expected["main_loss"], rtol=1e-6)
    np.testing.assert_allclose(parts["auxiliary"], expected["aux_loss_weight_0.4"], rtol=1e-6)
    np.testing.assert_allclose(sum(parts.values()), expected["total"], rtol=1e-6)
    each = losses.per_example(LABELS, LOGITS, options)
    np.testing.assert_allclose(each, expected["main_per_example"], rtol=1e-6)


def test_without_auxiliary_head():
    assert losses.classification(LABELS, {"logits": LOGITS}).keys() == {"main"}


def test_soft_labels():
    options = LossOptions(label_smoothing=0.1)
    hard = losses.per_example(LABELS, LOGITS, options)
    soft = losses.per_example(tf.one_hot(LABELS, 5), LOGITS, options)
    np.testing.assert_allclose(soft, hard, rtol=1e-6)
    mixed = 0.25 * tf.one_hot([0, 1, 2, 3], 5) + 0.75 * tf.one_hot(LABELS, 5)
    by_hand = -np.sum(mixed * tf.nn.log_softmax(LOGITS), axis=1)
    np.testing.assert_allclose(losses.per_example(mixed, LOGITS), by_hand, rtol=1e-6)


def test_class_weights():
    weights = (1.0, 2.0, 0.5, 1.0, 0.0)
    each = losses.per_example(LABELS, LOGITS, class_weights=weights)
    plain = losses.per_example(LABELS, LOGITS)
    np.testing.assert_allclose(each, plain * np.take(weights, LABELS), rtol=1e-6)


def test_balanced_class_weights():
    counts = (10, 30, 60)
    weights = np.array(losses.balanced_class_weights(counts))
    np.testing.assert_allclose(weights * counts, [100 / 3] * 3)
    with pytest.raises(ValueError, match=r"no training example of class \[1\]"):
        losses.balanced_class_weights((3, 0))


def test_focal_loss():
    gamma = 2.0
    true = np.take_along_axis(tf.nn.softmax(LOGITS).numpy(), LABELS.numpy()[:, None], 1)[:, 0]
    by_hand = -((1 - true) ** gamma) * np.log(true)
    each = losses.per_example(LABELS, LOGITS, LossOptions(focal_gamma=gamma))
    np.testing.assert_allclose(each, by_hand, rtol=1e-5)


def test_focal_gradient_is_finite_for_certain_examples():
    logits = tf.Variable([[200.0, -200.0]])
    with tf.GradientTape() as tape:
        loss = losses.per_example(tf.constant([0]), logits, LossOptions(focal_gamma=0.5))
    assert np.all(np.isfinite(tape.gradient(loss, logits)))


def test_bfloat16_logits_give_float32_losses():
    parts = losses.classification(LABELS, {"logits": tf.cast(LOGITS, tf.bfloat16)})
    assert parts["main"].dtype == tf.float32


def test_l2():
    weights = [tf.constant([1.0, 2.0]), tf.constant([[3.0]])]
    np.testing.assert_allclose(losses.l2(weights, 0.1), 0.1 * 14 / 2, rtol=1e-6)
    assert losses.l2([], 0.1).numpy() == 0


def test_accuracy_beside_the_losses_by_hand():
    logits = tf.constant([[2.0, 1, 0], [0, 3, 1], [1, 0, 5], [9, 0, 0]])
    labels = tf.constant([0, 1, 0, 2])  # two of four
    found = losses.with_accuracy(labels, {"logits": logits})
    assert float(found["accuracy"]) == 0.5
    plain = losses.classification(labels, {"logits": logits})
    assert float(found["main"]) == float(plain["main"]) and plain.keys() == {"main"}
    mixed = tf.constant([[0.7, 0.3, 0], [0.6, 0.4, 0], [0, 0, 1], [0.2, 0.2, 0.6]])
    assert float(losses.with_accuracy(mixed, {"logits": logits})["accuracy"]) == 0.5
