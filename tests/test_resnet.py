import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory, resnet, slim_names
from tests.fixtures.slim_parity import weights

VERSIONS = ["resnet_v1_50", "resnet_v2_50"]


@pytest.fixture(autouse=True)
def small_net(monkeypatch):
    monkeypatch.setattr(resnet, "_WIDTHS", (4, 4, 8, 8))
    monkeypatch.setattr(resnet, "_UNITS", {"50": (2, 2, 2, 2)})


def build(name, image_size, **options):
    model = nets_factory.build(name, 5, image_size, **options)
    for own, variable in slim_names.variables(model).items():
        variable.assign(weights.value(own, variable.shape))
    return model


def logits_of(model):
    return model(weights.input_images(model.input.shape[1]))["logits"].numpy()


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("size", [1, 33, 64, 225])
def test_any_image_size_will_do(name, size):
    logits = logits_of(build(name, size))
    assert logits.shape == (2, 5)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", VERSIONS)
def test_output_stride_only_adds_places_in_between(name):
    def places(**options):
        return logits_of(build(name, 65, global_pool=False, spatial_squeeze=False, **options))

    sparse = places()
    assert sparse.shape == (2, 3, 3, 5)
    np.testing.assert_array_equal(places(output_stride=32), sparse)
    for output_stride, step in ((16, 2), (8, 4), (4, 8)):
        dense = places(output_stride=output_stride)
        assert dense.shape[1:3] == (64 // output_stride + 1,) * 2
        np.testing.assert_allclose(dense[:, ::step, ::step], sparse, atol=1e-4)


@pytest.mark.parametrize("output_stride", [0, 2, 12, 64])
def test_other_output_strides_are_refused(output_stride):
    message = rf"resnet_v1_50: output_stride={output_stride}; it can be 4, 8, 16 or 32\."
    with pytest.raises(ValueError, match=message):
        build("resnet_v1_50", 64, output_stride=output_stride)


def test_a_net_with_output_stride_trains():
    model = build("resnet_v2_50", 33, output_stride=8)
    with tf.GradientTape() as tape:
        logits = model(weights.input_images(33), training=True)["logits"]
    gradients = tape.gradient(logits, [v.value for v in model.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_without_global_pool_places_are_logits_of_their_own():
    with pytest.raises(
        ValueError, match=r"give logits for 2 x 2 places; set spatial_squeeze=False"
    ):
        build("resnet_v1_50", 64, global_pool=False)
    assert logits_of(build("resnet_v1_50", 32, global_pool=False)).shape == (2, 5)
    model = build("resnet_v1_50", 64, global_pool=False, spatial_squeeze=False)
    whole = build("resnet_v1_50", 64, spatial_squeeze=False)
    # The last layer is linear: the mean of the places' logits is the logits of their mean.
    mean = logits_of(model).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(logits_of(whole), mean, atol=1e-5)
    assert "resnet_v1_50/spatial_squeeze" not in nets_factory.end_points(model)
    assert "global_pool" not in nets_factory.end_points(model)


def test_padding_does_not_depend_on_the_size():
    # SAME would pad 65 pixels on both sides and 64 pixels on one only.
    model = build("resnet_v1_50", 64)
    pads = [layer.padding for layer in model.layers if layer.name.endswith(".pad")]
    assert pads == [((3, 3), (3, 3))] + [((1, 1), (1, 1))] * 3
