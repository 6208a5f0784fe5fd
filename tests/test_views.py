import numpy as np
import pytest
import tensorflow as tf

from evaluation import views

IMAGES = tf.constant(np.random.default_rng(0).normal(size=(3, 16, 16, 2)), tf.float32)


def predict(images):
    """Depends on where things are, so that views differ."""
    weights = tf.reshape(tf.range(14.0), [14, 1, 1]) / 14
    columns = tf.reshape(tf.range(14.0), [1, 14, 1])
    return tf.reduce_mean(images * weights * columns, axis=[1, 2])


def test_crops_are_cut_from_larger_images():
    assert views.whole_size("five_crop", 14) == 16
    assert views.whole_size("flip", 14) == views.whole_size("none", 14) == 14
    assert len(views.of(IMAGES, 14, "ten_crop")) == 10
    five = views.of(IMAGES, 14, "five_crop")
    np.testing.assert_array_equal(five[4], IMAGES[:, 1:15, 1:15])
    np.testing.assert_array_equal(five[3], IMAGES[:, 2:, 2:])
    image, mirrored = views.of(IMAGES[:, :14, :14], 14, "flip")
    np.testing.assert_array_equal(mirrored, image[:, :, ::-1])


@pytest.mark.parametrize("kind", ["flip", "five_crop", "ten_crop"])
def test_the_opinion_is_the_mean_of_the_probabilities(kind):
    images = IMAGES if kind.endswith("crop") else IMAGES[:, :14, :14]
    found = tf.nn.softmax(views.mean_of(predict, 14, kind)(images))
    parts = [tf.nn.softmax(predict(part)) for part in views.of(images, 14, kind)]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), rtol=1e-5)
    assert views.mean_of(predict, 14, "none") is predict
