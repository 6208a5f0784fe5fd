"""Batch norm's statistics: told, measured and made to fit."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import layers, nets_factory
from training import batch_norm

SIZE = 32
ONE = tf.distribute.get_strategy()


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return nets_factory.build("mobilenet_v1_025", 3, SIZE, dropout_keep_prob=0.5)


def batch_of(seed, count=8):
    images = np.random.default_rng(seed).normal(3, 2, (count, SIZE, SIZE, 3))
    return {"image": tf.constant(images, tf.float32), "label": tf.zeros(count, tf.int32)}


def statistics(model):
    return {
        norm.name: (norm.moving_mean.numpy(), norm.moving_variance.numpy())
        for norm in batch_norm.moving(model)
    }


def test_a_decay_that_is_too_slow_for_a_run_is_told_with_one_that_fits(model):
    slow = batch_norm.too_slow(model, 100)
    decay, needed, fitting, steps = slow
    assert f"--batch_norm_decay={fitting}." in str(slow) and steps == 100
    assert decay == 0.9997 and 15_000 < needed < 16_000
    assert fitting == pytest.approx(0.95) and 0.002 < fitting**100 < 0.02
    assert batch_norm.too_slow(model, 20_000) is None
    for norm in batch_norm.moving(model):
        norm.frozen = True
    assert batch_norm.too_slow(model, 100) is None


def test_the_decay_that_is_advised_fits(model):
    for steps in range(8, 3000, 7):
        if slow := batch_norm.too_slow(model, steps):
            for norm in batch_norm.moving(model):
                norm.decay = slow.fitting
            assert batch_norm.too_slow(model, steps) is None, steps
            for norm in batch_norm.moving(model):
                norm.decay = 0.9997


def test_recalibration_gives_the_means_of_the_batches_statistics(model):
    first = batch_norm.moving(model)[0]
    kept = model.get_layer("MobilenetV1.Conv2d_5_pointwise.BatchNorm")
    kept.frozen = True
    before = kept.moving_mean.numpy()
    batches = [batch_of(0), batch_of(1), batch_of(2)]
    batch_norm.recalibrate(ONE, model, batches, 2)
    convolved = model.get_layer(first.name.removesuffix(".BatchNorm"))
    maps = [np.asarray(convolved(batch["image"])) for batch in batches[:2]]
    mean = np.mean([part.mean((0, 1, 2)) for part in maps], axis=0)
    variance = np.mean([part.var((0, 1, 2), ddof=1) for part in maps], axis=0)
    np.testing.assert_allclose(first.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.moving_variance.numpy(), variance, rtol=1e-4)
    np.testing.assert_array_equal(kept.moving_mean.numpy(), before)


def test_the_comparison_sees_statistics_that_do_not_fit_and_changes_nothing(model):
    batch = batch_of(3, count=60)
    with layers.batch_statistics(0.0):
        batch["label"] = tf.argmax(model(batch["image"])["logits"], axis=-1)
    for norm in batch_norm.moving(model):  # as a run that is too short leaves them
        norm.moving_mean.assign(norm.moving_mean + 5.0)
    before = statistics(model)
    found = batch_norm.compare(ONE, model, [batch])
    assert found.training == 1.0 and found.num_examples == 60
    assert found.parted
    for name, pair in statistics(model).items():
        np.testing.assert_array_equal(pair, before[name])
    batch_norm.recalibrate(ONE, model, itertools.repeat(batch), 1)
    again = batch_norm.compare(ONE, model, [batch | {"label": tf.one_hot(batch["label"], 3)}])
    assert again.training == 1.0 and again.evaluation > 0.8 > found.evaluation + 0.1


def test_the_comparison_takes_no_more_images_than_are_needed(model):
    batches = (batch_of(seed) for seed in range(9))
    assert batch_norm.compare(ONE, model, batches, num_examples=20).num_examples == 24
    assert len(list(batches)) == 6
    batches = (batch_of(seed) for seed in range(9))
    assert batch_norm.compare(ONE, model, batches, max_seconds=0.0).num_examples == 8


@pytest.mark.parametrize(
    ("training", "evaluation", "count", "parted"),
    [(0.9, 0.5, 256, True), (0.9, 0.88, 256, False), (0.6, 0.5, 20, False), (0.5, 0.9, 256, False)],
)
def test_what_counts_as_parted(training, evaluation, count, parted):
    assert batch_norm.Comparison(training, evaluation, count).parted is parted


def test_a_net_without_batch_norm_has_nothing_to_compare():
    model = nets_factory.build("small_cnn", 3, SIZE)
    assert batch_norm.compare(ONE, model, [batch_of(0)]) is None
