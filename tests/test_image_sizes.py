"""The smallest images that nets take, and what they say to smaller ones."""

import keras
import pytest
import tensorflow as tf

from nets import nets_factory

SMALLEST = {
    "lenet": 4,
    "cifarnet": 4,
    "alexnet_v2": 195,
    "overfeat": 231,
    "inception_v1": 1,
    "inception_v2": 1,
    "inception_v3": 75,
    "inception_v4": 75,
    "inception_resnet_v2": 75,
    "vgg_a": 224,
}


@pytest.fixture(autouse=True)
def no_random_weights(monkeypatch):
    """Drawing OverFeat's 145 million weights takes longer than all else here."""
    for kind in (keras.initializers.VarianceScaling, keras.initializers.TruncatedNormal):
        monkeypatch.setattr(
            kind, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype)
        )


@pytest.mark.parametrize("name", SMALLEST)
def test_smallest_image(name):
    model = nets_factory.build(name, 5, SMALLEST[name])
    assert model.output["logits"].shape == (None, 5)
    assert "aux_logits" not in model.output  # nothing is left for an auxiliary head to see


@pytest.mark.parametrize("name", [name for name, smallest in SMALLEST.items() if smallest > 1])
def test_smaller_image_is_refused(name):
    smallest = SMALLEST[name]
    message = (
        f"{name}: images of {smallest - 1} x {smallest - 1} pixels are too small; "
        f"it needs at least {smallest} x {smallest}"
    )
    with pytest.raises(ValueError, match=message):
        nets_factory.build(name, 5, smallest - 1)


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])
def test_auxiliary_head_begins_where_its_pool_has_room(name):
    assert "aux_logits" not in nets_factory.build(name, 5, 106).output
    assert nets_factory.build(name, 5, 107).output["aux_logits"].shape == (None, 5)
    assert "aux_logits" not in nets_factory.build(name, 5, 107, create_aux_logits=False).output


@pytest.mark.parametrize(("name", "image_size"), [("alexnet_v2", 227), ("overfeat", 263)])
def test_larger_images_give_one_place_or_several(name, image_size):
    assert nets_factory.build(name, 5, image_size).output["logits"].shape == (None, 5)
    places = nets_factory.build(name, 5, image_size, spatial_squeeze=False).output["logits"]
    assert places.shape == (None, 2, 2, 5)
