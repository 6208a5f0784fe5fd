"""What the README shows must work as it stands."""

import re
import types

import pytest
import tensorflow as tf

from preprocessing import custom, ops, preprocessing_factory
from preprocessing.options import AugmentationOptions, PixelsOptions
from runs import flags_table
from tests.conftest import ROOT


def test_the_recipe_of_the_readme_is_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- a recipe -->\n```python\n(.*?)```\n<!-- end -->", text, re.DOTALL)[1]
    module = type("plain", (), {})
    names = {}
    exec(compile(code, "plain.py", "exec"), names)
    for name in ("train", "evaluate_image"):
        setattr(module, name, staticmethod(names[name]))
    recipe = preprocessing_factory._recipe("plain", module, "inception")
    image = tf.io.encode_png(
        tf.cast(tf.random.stateless_uniform([9, 7, 3], [0, 1]) * 255, tf.uint8)
    )
    seed = tf.constant([3, 4])
    for made in (
        recipe.evaluate(image, 16),
        recipe.train(image, 16, tf.zeros([0, 4]), seed),
        custom.customized(recipe, PixelsOptions(equalize=True), AugmentationOptions()).evaluate(
            image, 16
        ),
    ):
        assert made.shape == (16, 16, 3)
        assert float(tf.reduce_max(tf.abs(made))) <= 1.0001
    decode, to_input = recipe.training_stages(16)
    assert to_input(decode(image, tf.zeros([0, 4]), seed)).shape == (16, 16, 3)


def test_a_recipe_that_whitens_can_leave_it_out():
    def evaluate_image(image, size, use_grayscale=False, standardize=True):
        image = ops.resize_bilinear(image, size, size)
        return ops.standardize(image) if standardize else image

    def train(encoded, size, boxes, seed, use_grayscale=False, standardize=True):
        return evaluate_image(ops.decode(encoded), size, use_grayscale, standardize)

    module = types.SimpleNamespace(train=train, evaluate_image=evaluate_image)
    recipe = preprocessing_factory._recipe("white", module, "whiten")
    flipped = custom.customized(recipe, PixelsOptions(), AugmentationOptions(horizontal_flip=True))
    pixels = tf.random.stateless_uniform([9, 7, 3], [0, 1], 0, 255, tf.int32)
    image = tf.io.encode_png(tf.cast(pixels, tf.uint8))
    for seed in ([3, 4], [3, 5], [3, 6]):
        made = flipped.train(image, 16, tf.zeros([0, 4]), tf.constant(seed))
        whole = recipe.evaluate(image, 16)
        apart = [tf.reduce_max(tf.abs(made - one)) for one in (whole, whole[:, ::-1])]
        assert float(min(apart)) < 1e-3
    module.train = lambda encoded, size, boxes, seed, use_grayscale=False: None
    with pytest.raises(TypeError, match="white: .* ends with whiten, so it needs .*standardize"):
        preprocessing_factory._recipe("white", module, "whiten")


def test_the_table_of_flags_is_made_from_the_options():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert flags_table.updated(text) == text, "python -m runs.flags_table writes it anew"
    assert "`--rmsprop_decay`" in text
