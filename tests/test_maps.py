import keras
import pytest
import tensorflow as tf

from nets import blocks, maps, nets_factory
from nets.shapes import shapes_only

# Net → image size, the last maps before its classifier, and their side.
LAST = {
    ("lenet", 28): ("conv2", 14),
    ("cifarnet", 32): ("CifarNet/norm2", 16),
    ("alexnet_v2", 227): ("alexnet_v2/conv5", 13),
    ("inception_v3", 299): ("Mixed_7c", 8),
    ("mobilenet_v1_025", 224): ("Conv2d_13_pointwise", 7),
    ("mobilenet_v1_025", 32): ("Conv2d_11_pointwise", 2),  # the last ones have one place
    ("mobilenet_v3_small", 224): ("layer_13", 7),
    ("resnet_v1_50", 224): ("resnet_v1_50/block4", 7),
    ("resnet_v1_50", 32): ("resnet_v1_50/block3/unit_5/bottleneck_v1", 2),
    ("resnet_v2_50", 224): ("resnet_v2_50/postnorm", 7),
    ("small_cnn", 128): ("conv3", 32),
    ("vgg_16", 224): ("vgg_16/conv5/conv5_3", 14),
    ("vgg_16", 288): ("vgg_16/conv5/conv5_3", 18),
    ("keras_mobilenet_v3_small", 224): ("activation_17", 7),
}


def built(name, size, **options):
    """A net whose variables are not drawn."""
    with shapes_only():
        return nets_factory.build(name, 5, size, **options)


def check(model, expected_name=None, past=0):
    """Whether the halves make the whole net; returns the maps' shape."""
    halves = maps.halves(model)
    assert expected_name in (None, halves.name)
    between = halves.trunk(model.input)
    assert len(between) == 1 + past
    assert halves.tail(between)["logits"].shape == model.output["logits"].shape
    return between[0].shape


@pytest.mark.parametrize(("net", "expected"), LAST.items(), ids=str)
def test_the_last_maps(net, expected):
    name, side = expected
    assert check(built(*net), name)[1:3] == (side, side)


@pytest.mark.full
@pytest.mark.parametrize("name", nets_factory.NETS)
def test_every_net_has_last_maps(name):
    _, height, width, _ = check(built(name, None))
    assert height * width > 1


def test_the_maps_under_a_head_of_ones_own():
    assert check(built("vgg_16", 64, head="dense:8,dropout:0.5"), "vgg_16/pool5")
    assert check(built("mobilenet_v1_025", 64, head="dense:8"), "Conv2d_13_pointwise")


def test_where_every_map_of_several_places_is_gone_past():
    """A cell of NASNet takes the results of the two before it."""
    assert check(built("nasnet_mobile", 32), "Cell_7", past=1)[1:3] == (2, 2)


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v1_025", 64), ("resnet_v1_50", 32)])
def test_halves_give_the_nets_logits(name, size):
    model = nets_factory.build(name, 3, size)
    halves, images = maps.halves(model), tf.random.stateless_uniform([2, size, size, 3], [0, 1])
    found = halves.tail(halves.trunk(images))["logits"]
    expected = model(images, training=False)["logits"]
    tf.debugging.assert_near(found, expected, atol=1e-6)


def test_of_a_net_without_maps_the_images_stand_for_them():
    images = blocks.images(4, 3)
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    halves = maps.halves(blocks.model("plain", images, {}, logits))
    assert halves.name is None and halves.trunk(images)[0].shape == (None, 4, 4, 3)
    assert halves.tail([images])["features"].shape == (None, 48)


def test_maps_spread_over_a_net():
    assert maps.spread(built("inception_v3", None)) == [
        "Conv2d_1a_3x3",
        "Conv2d_3b_1x1",
        "Mixed_5c",
        "Mixed_6d",
        "Mixed_7c",
    ]
    assert maps.spread(built("small_cnn", None), 2) == ["conv1", "pool3"]
    assert maps.spread(built("lenet", None), 9) == ["conv1", "pool1", "conv2", "pool2"]
    # slim's order of MobileNet's end points is another one.
    assert maps.spread(built("mobilenet_v3_small", None))[-1] == "layer_13"
    assert maps.spread(built("keras_resnet_v1_50", None))[0] == "conv1_conv"
