"""Evaluation preprocessing against the numbers of TF-Slim."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import preprocessing_factory
from tests.fixtures.slim_parity import weights

_FILE = pathlib.Path(__file__).parent / "fixtures/slim_parity/preprocessing.json"
_CASES = json.loads(_FILE.read_text())["cases"]
# case: recipe, size, options
_ARGUMENTS = {
    "inception_299": ("inception", 299, {}),
    "inception_250": ("inception", 250, {}),
    "inception_299_no_crop": ("inception", 299, {"crop_image": False}),
    "inception_299_grayscale": ("inception", 299, {"use_grayscale": True}),
    "inception_none_size": ("inception", None, {}),
    "vgg_224": ("vgg", 224, {}),
    "cifarnet_32": ("cifarnet", 32, {}),
    "cifarnet_32_pad": ("cifarnet", 32, {}),
    "lenet_28": ("lenet", 28, {}),
    "lenet_28_grayscale": ("lenet", 28, {"use_grayscale": True}),
}
# The distance between the least and the greatest value a recipe can give; for whitened images the
# one that the case has.
_RANGE = {"inception": 2.0, "vgg": 255.0, "cifarnet": 3.5, "lenet": 2.0}


def _image(case: str) -> np.ndarray:
    image = weights.test_image()
    return image[:20, :24] if case == "cifarnet_32_pad" else image


def test_every_case_of_the_fixture_is_tested():
    assert set(_CASES) == set(_ARGUMENTS)


@pytest.mark.parametrize("source", ["png", "uint8", "float32", "in tf.data"])
@pytest.mark.parametrize("case", sorted(_ARGUMENTS))
def test_evaluation_equals_tf_slim(case, source):
    name, size, options = _ARGUMENTS[case]
    recipe = preprocessing_factory.get(name)
    encoded = tf.io.encode_png(_image(case))
    if source == "png":
        result = recipe.evaluate(encoded, size, **options)
    elif source == "in tf.data":
        ds = tf.data.Dataset.from_tensors(encoded)
        ds = ds.map(lambda x: recipe.evaluate(x, size, **options))
        expected_shape = list(_CASES[case]["shape"])
        if size is not None:
            assert ds.element_spec.shape == expected_shape
        result = next(iter(ds))
    else:
        image = tf.cast(_image(case), source)
        result = recipe.evaluate_image(image, size, **options)
    expected, result = _CASES[case], result.numpy()
    assert result.dtype == np.float32
    assert list(result.shape) == expected["shape"]
    tolerance = 1e-3 * _RANGE[name]
    for key, value in (
        ("mean", result.mean()),
        ("std", result.std()),
        ("min", result.min()),
        ("max", result.max()),
    ):
        assert abs(value - expected[key]) <= tolerance, key
    for row, column, values in expected["samples"]:
        np.testing.assert_allclose(result[row, column], values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["inception", "lenet", "vgg"])
def test_results_stay_in_the_stated_range(name):
    recipe = preprocessing_factory.get(name)
    least, greatest = recipe.value_range
    for value, edge in ((0, min), (255, max)):
        image = np.full([300, 300, 3], value, np.uint8)
        result = recipe.evaluate_image(tf.constant(image), 64).numpy()
        assert edge(result.min(), result.max()) == pytest.approx(
            least if value == 0 else greatest, abs=1e-3
        )
