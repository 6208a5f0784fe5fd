"""Every net against TF-Slim's own figures; see tests/fixtures/slim_parity/README.md.

A row of `NETS` is tested as soon as the folder has a file of its name.
"""

import collections
import gc
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory, precision, slim_names
from nets.layers import BatchNorm, Dropout
from tests.fixtures.slim_parity import weights

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "slim_parity"
TESTED = [name for name in nets_factory.NETS if (FIXTURES / f"{name}.json").exists()]


@pytest.fixture(autouse=True)
def no_random_weights(monkeypatch):
    """All weights are overwritten: drawing hundreds of millions of them first is a minute lost."""
    for kind in (keras.initializers.VarianceScaling, keras.initializers.TruncatedNormal):
        for own in (kind, *kind.__subclasses__()):
            if "__call__" in vars(own):
                monkeypatch.setattr(
                    own, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype)
                )
    yield
    gc.collect()  # models are cycles, and VGG's would pile up to gigabytes


def assert_close(ours, slims, scale, what):
    difference = np.abs(np.asarray(ours, "float64") - np.asarray(slims, "float64")).max()
    assert difference <= 1e-4 * scale, f"{what}: off by {difference / scale:.1e} of {scale:.3g}"


@pytest.mark.parametrize("name", TESTED)
def test_net_is_tf_slims(name):
    precision.choose("float32")  # which on a GPU says something
    fixture = json.loads((FIXTURES / f"{name}.json").read_text())
    # TF-Slim builds the auxiliary head of NASNet and PNASNet in training only.
    train_only = bool(fixture["train_only_variables"])
    options = {"create_aux_logits": True} if train_only else {}
    model = nets_factory.build(name, fixture["num_classes"], **options)
    check_row(nets_factory.get(name), fixture)
    check_variables(model, fixture, train_only)
    check_settings(model, fixture["arg_scope"], train_only)
    check_end_points(model, fixture, train_only)
    check_outputs(model, fixture)


def check_row(net, fixture):
    assert net.image_size == fixture["default_image_size"]
    assert net.channels == fixture["input_channels"]
    assert net.scope == fixture["root_scope"]
    assert net.background_class == (fixture["num_classes"] == 1001)
    assert net.logits_node == fixture["logits_op_name"]
    assert net.predictions_node == fixture["predictions_op_name"]
    assert net.preprocessing == fixture["preprocessing"] or not fixture["preprocessing"]


def check_variables(model, fixture, train_only):
    slims = fixture["variables"] + (fixture["train_only_variables"] if train_only else [])
    ours = slim_names.variables(model)
    assert {name: list(variable.shape) for name, variable in ours.items()} == {
        name: shape for name, shape, _, _ in slims
    }
    trainable = {name for name, variable in ours.items() if variable.trainable}
    assert trainable == {name for name, _, is_trainable, _ in slims if is_trainable}
    regularized = slim_names.regularized(model)
    assert len(regularized) == len(set(regularized))
    assert set(regularized) == {name for name, _, _, is_regularized in slims if is_regularized}


def check_settings(model, arg_scope, train_only):
    slims = arg_scope.get("train_batch_norm", []) if train_only else arg_scope["batch_norm"]
    ours = collections.Counter(
        (layer.decay, layer.epsilon, layer.scale)
        for layer in model.layers
        if isinstance(layer, BatchNorm)
    )
    assert ours == {
        (each["decay"], each["epsilon"], each["scale"]): each["layers"] for each in slims
    }
    dropouts = {
        layer.name.replace(".", "/"): layer.keep_prob
        for layer in model.layers
        if type(layer) is Dropout  # and not DropPath
    }
    assert dropouts == {each["scope"]: each["keep_prob"] for each in arg_scope["dropout"]}


def check_end_points(model, fixture, train_only):
    ours = {name: [2, *tensor.shape[1:]] for name, tensor in nets_factory.end_points(model).items()}
    extra = {name: ours.pop(name) for name in fixture["train_only_end_points"] if train_only}
    assert ours == fixture["end_points"]
    assert list(ours) == list(fixture["end_points"])
    assert extra == (fixture["train_only_end_points"] if train_only else {})


def check_outputs(model, fixture):
    for name, variable in slim_names.variables(model).items():
        variable.assign(weights.value(name, variable.shape))
    expected = fixture["eval"]
    given = expected["input"]
    images = weights.input_images(
        given["size"], given["batch"], fixture["input_channels"], given["seed"]
    )
    end_points = nets_factory.end_points(model)
    wanted = {f"end point {name}": end_points[name] for name in expected["end_points"]}
    outputs = keras.Model(model.input, model.output | wanted)(images)
    for output in ("logits", "aux_logits"):
        if output in expected:
            slims = np.array(expected[output])
            assert_close(outputs[output], slims, np.abs(slims).max(), output)
    for name, slims in expected["end_points"].items():
        ours = outputs[f"end point {name}"].numpy()
        assert list(ours.shape) == slims["shape"]
        assert_close(ours.mean(), slims["mean"], max(abs(slims["mean"]), slims["std"]), name)
        assert_close(ours.std(), slims["std"], slims["std"], name)
        assert_close(ours.flat[:5], slims["first5"], np.abs(ours).max(), name)
