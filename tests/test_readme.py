"""What the README shows must work as it stands."""

import re

import tensorflow as tf

from preprocessing import custom, preprocessing_factory
from preprocessing.augmentation import Augmentation
from tests.conftest import ROOT


def test_the_recipe_of_the_readme_is_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- a recipe -->\n```python\n(.*?)```\n<!-- end -->", text, re.DOTALL)[1]
    module = type("plain", (), {})
    names = {}
    exec(compile(code, "plain.py", "exec"), names)
    for name in ("train", "evaluate", "evaluate_image"):
        setattr(module, name, staticmethod(names[name]))
    recipe = preprocessing_factory._recipe("plain", module, "inception")
    image = tf.io.encode_png(
        tf.cast(tf.random.stateless_uniform([9, 7, 3], [0, 1]) * 255, tf.uint8)
    )
    seed = tf.constant([3, 4])
    for made in (
        recipe.evaluate(image, 16),
        recipe.train(image, 16, tf.zeros([0, 4]), seed),
        custom.customized(recipe, custom.Look(equalize=True), Augmentation()).evaluate(image, 16),
    ):
        assert made.shape == (16, 16, 3)
        assert float(tf.reduce_max(tf.abs(made))) <= 1.0001
    decode, finish = recipe.training_stages(16)
    assert finish(decode(image, tf.zeros([0, 4]), seed)).shape == (16, 16, 3)
