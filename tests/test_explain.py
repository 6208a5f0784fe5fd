import keras
import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError
from nets import blocks, nets_factory
from serving import explain

SIZE = 32


def net(corner=None, num_classes=3):
    """Two convolutions and a mean; `corner`, of slices, is all that its answer depends on."""
    keras.utils.set_random_seed(0)
    block = blocks.Blocks(blocks.truncated_normal(0.3))
    x = images = blocks.images(SIZE, 3)
    if corner:
        mask = np.zeros((1, SIZE, SIZE, 1), np.float32)
        mask[(slice(None), *corner)] = 1
        x = x * mask
    x = block.conv(x, 16, 3, "Net/conv1", stride=2)
    x = block.conv(x, 16, 3, "Net/conv2")
    x = block.global_pool(x, "Net/pool", keep_dims=False)
    logits = block.for_logits().fully_connected(x, num_classes, "Net/logits")
    return blocks.model("net", images, {}, logits)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (6, SIZE, SIZE, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "corner", [(slice(0, 8), slice(0, 8)), (slice(24, None), slice(0, 8))], ids=str
)
def test_the_heat_lies_where_the_answer_comes_from(images, corner):
    model = net(corner)
    elsewhere = np.array(images)
    elsewhere[(slice(None), *corner)] = 0
    answers = model(elsewhere)["logits"].numpy()
    np.testing.assert_allclose(answers, np.broadcast_to(answers[:1], answers.shape), atol=1e-6)

    found = explain.Explainer(model)(images, [0, 1, 2, 0, 1, explain.LIKELIEST])
    assert found.shape == (6, SIZE // 2, SIZE // 2) and found.dtype == np.float32
    assert found.min() == 0 and found.max() == 1
    # Convolutions see a little beyond the corner.
    near = np.zeros((SIZE // 2, SIZE // 2), bool)
    near[tuple(slice(max((s.start // 2) - 2, 0), s.stop and s.stop // 2 + 2) for s in corner)] = 1
    warm = found.max(axis=(1, 2)) > 0
    assert warm.sum() >= 3 and warm[-1]
    assert not found[:, ~near].any()


def test_behind_a_mean_it_is_the_class_activation_map(images):
    """CAM (https://arxiv.org/abs/1512.04150): the maps, weighted by the class's own weights."""
    model = net()
    explainer = explain.Explainer(model)
    maps = explainer.halves.trunk(images)[0].numpy()
    weights = model.get_layer("Net.logits").kernel.numpy()
    classes = np.array([0, 1, 2, 2, 1, 0])
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, weights[:, classes]), 0)
    greatest = expected.max(axis=(1, 2), keepdims=True)
    expected = np.divide(expected, greatest, out=np.zeros_like(expected), where=greatest > 0)
    np.testing.assert_allclose(explainer(images, classes), expected, atol=1e-5)


def test_the_likeliest_class_stands_for_none(images):
    model = net()
    likeliest = model(images)["logits"].numpy().argmax(axis=1)
    explainer = explain.Explainer(model)
    np.testing.assert_array_equal(
        explainer(images, [explain.LIKELIEST] * 6), explainer(images, likeliest)
    )


def test_where_nothing_speaks_for_a_class_nothing_is_hot(images):
    model = net()
    model.get_layer("Net.logits").kernel.assign(-tf.ones([16, 3]))
    assert not explain.Explainer(model)(images, [0] * 6).any()


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v1_025", "resnet_v2_50"])
def test_nets_of_ours(images, name):
    found = explain.Explainer(nets_factory.build(name, 5, SIZE, dtype="mixed_bfloat16"))(
        images[:2], [1, 4]
    )
    assert found.shape[0] == 2 and found.shape[1] > 1 and np.isfinite(found).all()


def test_a_net_without_maps_is_told():
    images = blocks.images(4, 3)
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    with pytest.raises(InputError, match="plain has no feature maps"):
        explain.Explainer(blocks.model("plain", images, {}, logits))


def test_heat_over_a_picture():
    picture = np.full((40, 60, 3), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[0, 0] = 1
    laid = explain.overlay(picture, heat)
    assert laid.shape == picture.shape and laid.dtype == np.uint8
    np.testing.assert_array_equal(laid[20:, 30:], picture[20:, 30:])
    assert laid[2, 2, 0] > 180 and laid[2, 2, 1:].max() < 60  # red
