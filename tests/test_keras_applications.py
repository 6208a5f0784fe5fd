"""The rows from keras.applications against Keras's own nets."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import keras_applications, layers, nets_factory, slim_names
from nets.keras_applications import APPLICATIONS

SMALL = "keras_mobilenet_v3_small"
SMALL_CLASS = keras.applications.MobileNetV3Small
MEANS = np.array((123.68, 116.779, 103.939), "float32")


def pixels(size, channels=3):
    """Of two images: float32, 0 to 255."""
    noise = np.random.default_rng(0).uniform(0, 255, (2, size, size, channels))
    return noise.astype("float32")


@pytest.fixture(autouse=True)
def small_convnext(monkeypatch):
    configs = sys.modules[keras.applications.ConvNeXtTiny.__module__].MODEL_CONFIGS
    small = {"depths": [1, 1, 1, 1], "projection_dims": [8, 8, 16, 16], "default_size": 32}
    monkeypatch.setitem(configs, "tiny", small)


def recipe(name, x):
    """What the row's recipe makes of pixels."""
    return x - MEANS if APPLICATIONS[name].preprocessing == "vgg" else x / 127.5 - 1


def randomize(net):
    """Gives every variable of Keras's net numbers that tell mistakes apart."""
    rng = np.random.default_rng(1)
    for variable in net.weights:
        if len(variable.shape) == 1:
            low, high = (0.5, 1.5) if "variance" in variable.path else (-0.3, 0.3)
            variable.assign(rng.uniform(low, high, variable.shape))


def assign(model, values):
    ours = slim_names.variables(model)
    assert ours.keys() == values.keys()
    for name, variable in ours.items():
        variable.assign(values[name])


def test_every_class_of_keras_applications_is_a_row():
    classes = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {application.scope for application in APPLICATIONS.values()} == classes
    assert APPLICATIONS.keys() <= nets_factory.NETS.keys()


def test_rows_name_known_recipes_and_no_background():
    for name, application in APPLICATIONS.items():
        row = nets_factory.get(name)
        assert row.preprocessing in ("inception", "vgg")
        assert row.image_size == application.image_size >= application.smallest_image
        assert (row.background_class, row.scope) == (False, application.scope)


def test_converted_pixels_are_kerass():
    compared = set()
    for name, application in APPLICATIONS.items():
        own = getattr(keras.applications, application.scope)
        theirs = sys.modules[own.__module__].preprocess_input(pixels(4))
        if np.array_equal(theirs, pixels(4)):
            continue  # Keras converts inside of these, which other tests compare
        ours = keras_applications._converted(application, tf.constant(recipe(name, pixels(4))))
        ours = np.asarray(ours)
        if application.pixels == "caffe":
            ours = ours[..., ::-1]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        compared.add(application.pixels)
    assert compared == {"caffe", "standardized", "symmetric"}


def test_halved_pixels():
    ours = keras_applications._converted(
        APPLICATIONS["efficientnet_v2_s"], tf.constant(recipe("efficientnet_v2_s", pixels(4)))
    )
    np.testing.assert_allclose(ours, pixels(4) / 128 - 1, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_standardized_pixels_of_other_channels_are_standardized_alike(channels):
    x = tf.random.uniform((2, 4, 4, channels), -1, 1)
    ours = np.asarray(keras_applications._converted(APPLICATIONS["densenet_121"], x))
    np.testing.assert_allclose(ours, ((x + 1) / 2 - 0.449) / 0.226, atol=1e-4)


@pytest.mark.parametrize("name", [SMALL, "convnext_tiny", "keras_vgg_16"])
def test_a_net_gives_kerass_numbers(name):
    theirs = getattr(keras.applications, APPLICATIONS[name].scope)(
        weights=None, classes=5, classifier_activation=None, input_shape=(32, 32, 3)
    )
    randomize(theirs)
    model = nets_factory.build(name, 5, 32)
    assign(model, keras_applications._by_slim_name(APPLICATIONS[name], theirs))
    x = pixels(32)
    if name == "keras_vgg_16":
        expected = theirs(keras.applications.vgg16.preprocess_input(x.copy()))
    else:
        expected = theirs(x)
    ours = model(recipe(name, x))["logits"]
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


def test_efficientnet_converts_as_its_imagenet_weights_want():
    theirs = keras.applications.EfficientNetB0(
        weights=None, classes=5, classifier_activation=None, input_shape=(32, 32, 3)
    )
    randomize(theirs)
    model = nets_factory.build("efficientnet_b0", 5, 32)
    assign(model, keras_applications._by_slim_name(APPLICATIONS["efficientnet_b0"], theirs))
    # Fresh nets of Keras lack the mean and the deviation that its ImageNet weights bring along.
    behind = next(layer for layer in theirs.layers if layer.name.startswith("stem_conv_pad"))
    trunk = keras.Model(behind.input, theirs.output)
    mean, stddev = keras_applications._IMAGENET_MEAN, keras_applications._IMAGENET_STDDEV
    expected = trunk((pixels(32) / 255 - np.array(mean)) / np.array(stddev))
    ours = model(recipe("efficientnet_b0", pixels(32)))["logits"]
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


def test_scopes_do_not_depend_on_what_was_built_before():
    first, second = (slim_names.variables(nets_factory.build("xception", 5, 71)) for _ in range(2))
    assert list(first) == list(second)
    assert {"Xception/conv2d/weights", "Xception/conv2d_3/weights"} <= first.keys()
    names = keras_applications._fresh_names(
        [keras.layers.Add(name=name) for name in ("add_12", "add_3", "add_of_mine", "add_7")]
    )
    assert names == {"add_3": "add", "add_7": "add_1", "add_12": "add_2"}


def test_our_layers_stand_in_for_kerass():
    model = nets_factory.build(SMALL, 5, 32, batch_norm_decay=0.5, dropout_keep_prob=0.25)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNorm)]
    assert len(norms) == 34
    assert {layer.decay for layer in norms} == {0.5}
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.keep_prob for layer in model.layers if isinstance(layer, layers.Dropout)] == [
        0.25
    ]
    names = slim_names.variables(model)
    assert "MobileNetV3Small/expanded_conv_depthwise/depthwise_weights" in names
    regularized = {name.rpartition("/")[2] for name in slim_names.regularized(model)}
    assert regularized == {"weights"}
    assert "expanded_conv_add" not in nets_factory.end_points(model)
    assert {"conv_bn", "expanded_conv_project", "Logits", "Predictions"} <= (
        nets_factory.end_points(model).keys()
    )


def test_too_small_images_and_a_dropout_that_is_not_there():
    with pytest.raises(ValueError, match=r"xception: images of 70 x 70 .* at least 71 x 71"):
        nets_factory.build("xception", 5, 70)
    with pytest.raises(ValueError, match=r"keras_vgg_16 has no dropout .*--head=dropout:RATE"):
        nets_factory.build("keras_vgg_16", 5, 32, dropout_keep_prob=0.5)


@pytest.fixture(scope="module")
def small():
    net = SMALL_CLASS(weights=None, classes=7, input_shape=(32, 32, 3))
    randomize(net)
    return net


def assert_same(values, net, without=()):
    expected = keras_applications._by_slim_name(APPLICATIONS[SMALL], net)
    kept = {name for name in expected if not name.startswith(without)}
    assert kept <= values.keys()
    for name in kept:
        np.testing.assert_array_equal(values[name], expected[name])


def test_weights_in_an_h5_file(small, tmp_path):
    path = str(tmp_path / "small.weights.h5")
    small.save_weights(path)
    values = keras_applications.stored_weights(SMALL, path, num_classes=7)
    assert_same(values, small)
    assert values["MobileNetV3Small/logits/weights"].shape == (1, 1, 1024, 7)
    without_top = keras_applications.stored_weights(SMALL, path, num_classes=6)
    assert_same(
        without_top, small, without=("MobileNetV3Small/conv_2/", "MobileNetV3Small/logits/")
    )
    assert "MobileNetV3Small/logits/weights" not in without_top


def test_a_model_file_with_a_classifier_of_the_users_own(small, tmp_path):
    trunk = SMALL_CLASS(weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3))
    randomize(trunk)
    path = str(tmp_path / "mine.keras")
    keras.Sequential([trunk, keras.layers.Dense(3)]).save(path)
    assert_same(keras_applications.stored_weights(SMALL, path, num_classes=3), trunk)


def test_weights_of_another_net(tmp_path):
    path = str(tmp_path / "other.weights.h5")
    other = keras.applications.MobileNet(
        weights=None, classes=7, input_shape=(32, 32, 3), alpha=0.25
    )
    other.save_weights(path)
    with pytest.raises(ValueError, match=r"other\.weights\.h5 does not hold .*MobileNetV3Small"):
        keras_applications.stored_weights(SMALL, path, num_classes=7)


@pytest.mark.parametrize("name", ["broken.keras", "broken.weights.h5", "broken.h5"])
def test_a_file_that_keras_cannot_read(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=rf"{name} is no file of weights that Keras can read"):
        keras_applications.stored_weights(SMALL, str(path), num_classes=3)


def test_pretrained_weights_come_by_kerass_download_into_our_cache(monkeypatch, tmp_path):
    published = SMALL_CLASS(weights=None)
    randomize(published)
    path = str(tmp_path / "published.weights.h5")
    published.save_weights(path)
    asked = []

    def get_file(fname, origin, cache_dir=None, **_):
        asked.append((origin.rpartition("/")[2], cache_dir))
        return path

    get_file.__module__ = keras.utils.get_file.__module__
    original = sys.modules[get_file.__module__].get_file
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    monkeypatch.setattr(sys.modules[get_file.__module__], "get_file", original)
    values = keras_applications.pretrained_weights(SMALL, "a/cache")
    assert_same(values, published)
    assert asked == [("weights_mobilenet_v3_small_224_1.0_float.h5", "a/cache")]


def test_a_download_that_fails(monkeypatch):
    def get_file(*_, **__):
        raise Exception("URL fetch failure: Name or service not known")

    get_file.__module__ = keras.utils.get_file.__module__
    original = sys.modules[get_file.__module__].get_file
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    monkeypatch.setattr(sys.modules[get_file.__module__], "get_file", original)
    with pytest.raises(OSError, match=r"pretrained: Keras could not fetch .* of keras_mobilenet_"):
        keras_applications.pretrained_weights(SMALL, "a/cache")
