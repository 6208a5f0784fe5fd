import numpy as np
import pytest
import tensorflow as tf

from datasets import batches, tfrecord_dataset
from preprocessing import mixing

IMAGES = tf.constant(np.stack([np.full((8, 10, 3), i, np.float32) for i in range(4)]))
LABELS = tf.constant([0, 1, 2, 0])


def draw(seed, **alphas):
    return mixing.mix(IMAGES, LABELS, tf.constant([seed, 1]), 3, **alphas)


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
def test_labels_are_shares_of_the_pixels(alphas):
    shares = []
    for seed in range(30):
        images, labels = draw(seed, **alphas)
        np.testing.assert_allclose(tf.reduce_sum(labels, axis=1), 1.0, rtol=1e-5)
        # Image 1 is mixed with image 2: its mean says how much of each there is.
        of_other = float(tf.reduce_mean(images[1])) - 1
        np.testing.assert_allclose(labels[1], [0, 1 - of_other, of_other], atol=1e-5)
        shares.append(of_other)
    assert min(shares) < 0.2 and max(shares) > 0.5
    if "cutmix_alpha" in alphas:
        assert set(np.unique(images[1])) <= {1.0, 2.0}


def test_both_take_turns_by_chance():
    kinds = {
        len(np.unique(draw(seed, mixup_alpha=1.0, cutmix_alpha=1.0)[0][1])) for seed in range(20)
    }
    assert kinds == {1, 2}


def test_batches_are_mixed_alike_from_any_position(colours):
    dataset = tfrecord_dataset.find(str(colours))

    def decode(encoded, boxes, seed):
        return tf.image.resize(tf.io.decode_jpeg(encoded, channels=3), [8, 8])

    def mix(images, labels, seed):
        return mixing.mix(images, labels, seed, 3, 0.4, 1.0)

    def drawn(skip):
        ds = batches.training_batches(
            dataset, batches.Preparation(decode, mix=mix), 4, consumed=skip
        )
        return [(b["image"].numpy(), b["label"].numpy()) for b in ds.take(4 - skip // 4)]

    whole = drawn(0)
    assert whole[0][1].shape == (4, 3)
    for one, other in zip(whole[2:], drawn(8), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
