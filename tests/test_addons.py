"""The recipe of tensorflow-addons, and ours beside it, where Python is old enough for it."""

import subprocess
import sys

import pytest

from foundation.errors import InputError
from preprocessing import addons, preprocessing_factory
from tests.conftest import ROOT

SCRIPT = """
import os
os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
import numpy as np, tensorflow as tf
from preprocessing import addons, ops, preprocessing_factory
tfa = addons.require()
rng = np.random.default_rng(0)
image = tf.image.resize(rng.uniform(0, 255, (6, 6, 3)), (48, 48)).numpy().astype("float32")
angle = 0.4
ours = ops.transform(image, [ops.rotation(tf.constant(angle))], "constant")
np.testing.assert_allclose(ours, tfa.rotate(image, angle, "bilinear"), atol=0.05)
whole = np.round(image).astype(np.uint8)
np.testing.assert_array_equal(ops.equalize(whole.astype("float32")), tfa.equalize(whole))
level = 0.3
sheared = tfa.shear_x(tf.constant(whole), level, 0).numpy().astype("float32")
about_corner = [ops.translation(-23.5, -23.5), ops.shear_x(level), ops.translation(23.5, 23.5)]
ours = ops.transform(whole.astype("float32"), about_corner, "constant").numpy()
assert np.mean(np.abs(np.round(ours) - sheared) > 12) < 0.02, np.abs(ours - sheared).max()
data = tf.io.encode_png(whole)
recipe = preprocessing_factory.get("addons")
seeds = tf.data.Dataset.range(32).map(lambda i: tf.stack([tf.cast(i, tf.int32), 1]))


def draws(num_threads):
    make = lambda seed: recipe.train(data, 40, tf.zeros([0, 4]), seed)
    return np.stack(list(seeds.map(make, num_parallel_calls=num_threads).as_numpy_iterator()))


drawn = draws(num_threads=2)
assert drawn.shape == (32, 40, 40, 3) and drawn.min() >= -1 and drawn.max() <= 1
np.testing.assert_array_equal(draws(num_threads=1), drawn)
import keras
assert keras.__version__.startswith("3.")
print("equal")
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="no tensorflow-addons for this Python")
def test_our_rotation_shear_and_equalization_are_those_of_addons():
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "equal"


def test_where_there_are_no_addons_the_recipe_names_an_alternative(monkeypatch):
    monkeypatch.setattr(addons.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="3.10 and 3.11 only.*Take --randaugment_layers=2"):
        addons.require()
    assert (
        preprocessing_factory.get("addons").evaluate_image
        is preprocessing_factory.get("inception").evaluate_image
    )
