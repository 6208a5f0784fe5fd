import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import heads, nets_factory, slim_names

HEAD = "dense:16,dropout:0.5,dense:8"


def build(name, size, **options):
    return nets_factory.build(name, 5, size, head=HEAD, **options)


@pytest.fixture
def no_random_weights(monkeypatch):
    """AlexNet's fc6 and fc7, which go, would take seconds to draw."""
    for kind in (keras.initializers.VarianceScaling, keras.initializers.TruncatedNormal):
        monkeypatch.setattr(
            kind, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype)
        )


def test_parse():
    assert heads.parse("dense:512, dropout:0.5") == (heads.Dense(512), heads.Dropout(0.5))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "''"),
        ("dense:512,", "''"),
        ("dense", "'dense'"),
        ("dense:0", "'dense:0'"),
        ("dense:1.5", "'dense:1.5'"),
        ("dense:8,dropout:1", "'dropout:1'"),
        ("dropout:nan", "'dropout:nan'"),
        ("conv:8", "'conv:8'"),
    ],
)
def test_what_is_no_head_is_refused(text, part):
    message = rf"--head={text}: {part} is neither dense:UNITS .* nor dropout:RATE"
    with pytest.raises(ValueError, match=message):
        heads.parse(text)


def test_scopes_and_shapes_of_a_head():
    ours = slim_names.variables(build("mobilenet_v1_025", 64))
    plain = slim_names.variables(nets_factory.build("mobilenet_v1_025", 5, 64))
    added = {name: tuple(v.shape) for name, v in ours.items() if name not in plain}
    assert added == {
        "MobilenetV1/Head/dense_1/weights": (256, 16),
        "MobilenetV1/Head/dense_1/biases": (16,),
        "MobilenetV1/Head/dense_2/weights": (16, 8),
        "MobilenetV1/Head/dense_2/biases": (8,),
        "MobilenetV1/Head/logits/weights": (8, 5),
        "MobilenetV1/Head/logits/biases": (5,),
    }
    assert {name.rpartition("/")[0] for name in plain.keys() - ours.keys()} == {
        "MobilenetV1/Logits/Conv2d_1c_1x1"
    }


@pytest.mark.usefixtures("no_random_weights")
@pytest.mark.parametrize(
    ("name", "size", "scope", "features"),
    [
        ("alexnet_v2", 227, "alexnet_v2", 256),  # fc7 has several places, which it pools
        ("cifarnet", 32, "CifarNet", 64),
        ("inception_v1", 64, "InceptionV1", 1024),
        ("keras_mobilenet_v3_small", 32, "MobileNetV3Small", 576),
        ("lenet", 28, "LeNet", 64),
        ("mobilenet_v3_small", 32, "MobilenetV3", 1024),
        ("resnet_v2_50", 32, "resnet_v2_50", 2048),
        ("small_cnn", 32, "SmallCnn", 128),
    ],
)
def test_it_sits_on_the_pooled_features_of_any_family(name, size, scope, features):
    shapes = {n: tuple(v.shape) for n, v in slim_names.variables(build(name, size)).items()}
    assert shapes[f"{scope}/Head/dense_1/weights"] == (features, 16)


def test_a_net_without_a_root_scope():
    trunk = nets_factory.build("small_cnn", 5, 32)
    model = heads.attach(trunk, "dense:4", 3, scope="")
    assert list(slim_names.variables(model))[-4:] == [
        *("Head/dense_1/weights", "Head/dense_1/biases"),
        *("Head/logits/weights", "Head/logits/biases"),
    ]


def test_vgg_loses_its_dense_layers_and_its_smallest_size(monkeypatch):
    monkeypatch.setattr("nets.vgg._WIDTHS", (4, 4, 4, 4, 8))
    model = build("vgg_16", 150)
    assert not [name for name in slim_names.variables(model) if "/fc" in name]
    assert list(nets_factory.end_points(model))[-3:] == ["vgg_16/pool5", "Logits", "Predictions"]


def test_the_head_sees_the_mean_of_the_last_pool():
    model = build("small_cnn", 40)
    end_points = nets_factory.end_points(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 40, 40, 3)).astype("float32")
    dense = model.get_layer("SmallCnn.Head.dense_1")
    trunk = keras.Model(model.input, [end_points["pool3"], dense.output])
    pool3, ours = trunk(images)
    kernel, bias = dense.get_weights()
    np.testing.assert_allclose(
        ours, np.maximum(np.mean(pool3, (1, 2)) @ kernel + bias, 0), atol=1e-5
    )
    predictions = keras.Model(model.input, end_points["Predictions"])(images)
    np.testing.assert_allclose(predictions, tf.nn.softmax(model(images)["logits"]), atol=1e-6)


def test_auxiliary_logits_stay_and_end_points_behind_the_features_go():
    model = build("inception_v3", 107, dtype="mixed_bfloat16")
    assert {k: (tuple(v.shape), v.dtype) for k, v in model.output.items()} == {
        "logits": ((None, 5), "float32"),
        "aux_logits": ((None, 5), "float32"),
    }
    end_points = nets_factory.end_points(model)
    assert {"Mixed_7c", "AuxLogits", "AvgPool_1a"} <= end_points.keys()
    assert "PreLogits" not in end_points
    assert model.get_layer("InceptionV3.Head.dense_1").compute_dtype == "bfloat16"


def test_what_the_factory_says_to_a_wrong_head():
    with pytest.raises(ValueError, match="--head=dens:3: 'dens:3' is neither dense:UNITS"):
        nets_factory.build("small_cnn", 5, 32, head="dens:3")
