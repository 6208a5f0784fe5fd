import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory, slim_names
from nets.layers import BatchNorm

SMALL = "mobilenet_v1_025"


def logits_of(model, size, channels=3):
    images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, channels)).astype("float32")
    return model(images)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("inception_v33", "inception_v3"), ("vgg16", "vgg_16"), ("mobilenet_v1_25", SMALL)],
)
def test_an_unknown_net_is_answered_with_the_closest(name, closest):
    with pytest.raises(
        ValueError, match=rf"--model_name={name}: no such net\. Did you mean.*{closest}"
    ):
        nets_factory.get(name)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError, match="vgg_16.*vgg_19"):
        nets_factory.get("?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, r"mobilenet_v1_025: num_classes=0; at least 1"),
        ({"dropout": 0.5}, r"mobilenet_v1_025 has no option dropout\. Its options: .*keep_prob"),
        ({"dropout_keep_prob": 0.0}, r"dropout_keep_prob=0\.0 .* above 0 and at most 1"),
        (
            {"batch_norm_decay": 1.0},
            r"batch_norm_decay=1\.0: .* at least 0 and below 1",
        ),
        ({"dtype": "float16"}, r"dtype='float16' is none of float32, mixed_bfloat16"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        nets_factory.build(SMALL, **{"num_classes": 5, **options})


def test_a_net_without_batch_norm_refuses_its_decay():
    with pytest.raises(ValueError, match="vgg_16 has no batch norm"):
        nets_factory.build("vgg_16", 5, batch_norm_decay=0.9)


def test_options_reach_the_layers():
    model = nets_factory.build(SMALL, 5, 32, batch_norm_decay=0.5, dropout_keep_prob=0.25)
    assert {layer.decay for layer in model.layers if isinstance(layer, BatchNorm)} == {0.5}
    assert model.get_layer("MobilenetV1.Logits.Dropout_1b").keep_prob == 0.25


def test_the_model_bears_the_nets_name_and_gives_a_dict():
    model = nets_factory.build(SMALL, 7, 64)
    assert model.name == SMALL
    assert {name: tuple(tensor.shape) for name, tensor in model.output.items()} == {
        "logits": (None, 7)
    }
    assert model.input.shape == (None, 64, 64, 3)


@pytest.mark.parametrize("size", [1, 32, 65, 225, 257])
def test_mobilenet_takes_any_size_in_gray_too(size):
    model = nets_factory.build(SMALL, 5, size, channels=1)
    logits = logits_of(model, size, channels=1)["logits"]
    assert logits.shape == (2, 5)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("size", "auxiliary"),
    [(75, None), (106, None), (107, "1x1"), (250, "3x3"), (299, "5x5"), (400, "5x5")],
)
def test_inception_v3_shrinks_its_auxiliary_head_with_the_image(size, auxiliary):
    model = nets_factory.build("inception_v3", 5, size)
    names = [name for name in slim_names.variables(model) if "AuxLogits/Conv2d_2a" in name]
    assert names[:1] == (
        [f"InceptionV3/AuxLogits/Conv2d_2a_{auxiliary}/weights"] if auxiliary else []
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.output.items()}
    assert shapes.get("aux_logits") == ((None, 5) if auxiliary else None)
    assert shapes["logits"] == (None, 5)
    assert nets_factory.end_points(model)["Mixed_7c"].shape[1] >= 1


def test_inception_v3_without_its_auxiliary_head():
    model = nets_factory.build("inception_v3", 5, 107, create_aux_logits=False)
    assert list(model.output) == ["logits"]
    assert "AuxLogits" not in nets_factory.end_points(model)


@pytest.mark.parametrize(
    ("name", "size", "smallest"), [("inception_v3", 74, 75), ("vgg_16", 223, 224)]
)
def test_too_small_images_are_refused_with_the_smallest_size(name, size, smallest):
    with pytest.raises(ValueError, match=rf"{name}: images of {size} .* at least {smallest} x"):
        nets_factory.build(name, 5, size)


def test_vgg_takes_small_images_when_fc6_is_padded(monkeypatch):
    monkeypatch.setattr("nets.vgg._WIDTHS", (4, 4, 4, 4, 8))  # fc6 keeps its 4096
    model = nets_factory.build("vgg_13", 5, 40, fc_conv_padding="SAME")
    assert logits_of(model, 40)["logits"].shape == (2, 5)
    assert "vgg_13/conv2/conv2_2/weights" in slim_names.variables(model)


def test_vgg_averages_the_places_of_larger_images(monkeypatch):
    monkeypatch.setattr("nets.vgg._WIDTHS", (4, 4, 4, 4, 8))
    model = nets_factory.build("vgg_a", 5, 290)
    places = nets_factory.build("vgg_a", 5, 290, spatial_squeeze=False)
    places.set_weights(model.get_weights())
    logits, of_places = logits_of(model, 290)["logits"], logits_of(places, 290)["logits"]
    assert of_places.shape == (2, 3, 3, 5)
    # The last layer is linear: the mean of the places' logits is the logits of their mean.
    np.testing.assert_allclose(logits, tf.reduce_mean(of_places, (1, 2)), atol=1e-5)
    assert "global_pool" in nets_factory.end_points(model)


@pytest.mark.parametrize("name", [SMALL, "inception_v3"])
def test_logits_may_keep_their_places(name):
    model = nets_factory.build(name, 5, 400, spatial_squeeze=False)
    assert model.output["logits"].shape[1:] == ((4, 4, 5) if name == SMALL else (2, 2, 5))


def test_global_pool_is_an_end_point_of_its_own():
    model = nets_factory.build(SMALL, 5, 240, global_pool=True)
    plain = nets_factory.build(SMALL, 5, 240)
    plain.set_weights(model.get_weights())
    assert "global_pool" in nets_factory.end_points(model)
    assert "AvgPool_1a" in nets_factory.end_points(plain)
    # Slim's 7 x 7 window passes over the last row and column of this 8 x 8 map.
    whole, window = (logits_of(net, 240)["logits"] for net in (model, plain))
    assert np.abs(whole - window).max() > 0.01 * np.abs(whole).max()


def test_an_end_point_makes_a_model_of_its_own():
    model = nets_factory.build(SMALL, 5, 64)
    end_points = nets_factory.end_points(model)
    trunk = keras.Model(model.input, [end_points["Conv2d_13_pointwise"], end_points["Predictions"]])
    images = np.ones((2, 64, 64, 3), "float32")
    pixels, predictions = trunk(images)
    assert pixels.shape == (2, 2, 2, 256)
    np.testing.assert_allclose(predictions, tf.nn.softmax(model(images)["logits"]), atol=1e-6)


@pytest.mark.parametrize("name", [SMALL, "inception_v3"])
def test_bfloat16_computes_in_it_and_hands_out_float32(name):
    size = 107
    exact = nets_factory.build(name, 5, size)
    model = nets_factory.build(name, 5, size, dtype="mixed_bfloat16")
    model.set_weights(exact.get_weights())
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert {tensor.dtype for tensor in model.output.values()} == {"float32"}
    layers = [layer for layer in model.layers if layer.weights and "Logits" not in layer.name]
    assert {layer.compute_dtype for layer in layers} == {"bfloat16"}
    assert keras.config.dtype_policy().name == "float32"
    for ours, rounded in zip(
        logits_of(exact, size).values(), logits_of(model, size).values(), strict=True
    ):
        assert rounded.dtype == tf.float32
        difference = np.abs(rounded - ours).max()
        assert 0 < difference < 0.1 * np.abs(ours).max()
