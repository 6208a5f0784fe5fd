"""Nets that learn from images of another size meanwhile."""

import functools

import numpy as np
import pytest

from nets import nets_factory, resizing


@pytest.mark.parametrize(
    ("name", "size", "smaller"),
    [("mobilenet_v1_025", 64, 32), ("resnet_v1_50", 64, 32), ("inception_v3", 250, 128)],
)
def test_a_resized_net_has_the_same_weights(name, size, smaller):
    build = functools.partial(nets_factory.build, name, 3)
    model = build(image_size=size)
    other = resizing.at_size(model, build, smaller)
    own = {id(variable) for variable in model.variables}
    assert {id(variable) for variable in other.variables} <= own
    assert list(other.output) == ["logits"]
    anew = build(image_size=smaller)
    for layer in anew.layers:
        if layer.weights and "AuxLogits" not in layer.name:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, smaller, smaller, 3)).astype("float32")
    np.testing.assert_array_equal(other(images)["logits"], anew(images)["logits"])


def test_weights_that_depend_on_the_size_are_refused():
    build = functools.partial(nets_factory.build, "small_cnn", 3)
    with pytest.raises(ValueError, match="small_cnn has weights for images of 64 pixels only"):
        resizing.at_size(build(image_size=64), build, 32)
    build = functools.partial(nets_factory.build, "alexnet_v2", 3)
    with pytest.raises(ValueError, match="too small"):
        resizing.at_size(build(image_size=224), build, 64)
