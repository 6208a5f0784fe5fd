"""Keras's weights give the same logits in TF-Slim's nets."""

import numpy as np
import pytest

from nets import checkpoints, keras_to_slim, nets_factory, slim_names
from nets.shapes import shapes_only

# Where Keras and TF-Slim pad alike: the pool of ResNets sees an odd number of pixels.
SIZES = {"inception_v3": 75, "resnet_v1_50": 33, "resnet_v2_50": 33}


def translated(name, values):
    with shapes_only():
        model = nets_factory.build(name, 7)
    shapes = {name: tuple(v.shape) for name, v in slim_names.variables(model).items()}
    return keras_to_slim.translate(values, shapes)


@pytest.mark.parametrize(
    "name", ["inception_v3", "mobilenet_v1", "mobilenet_v2", "resnet_v1_50", "resnet_v2_50"]
)
def test_logits(name):
    size = SIZES.get(name, 64)
    theirs = nets_factory.build(keras_to_slim.COUNTERPARTS[name], 7, size)
    rng = np.random.default_rng(0)
    for variable in theirs.weights:  # those of batch norms and biases say nothing as they are
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    values = translated(name, checkpoints.values(theirs))
    ours = nets_factory.build(name, 7, size)
    report = checkpoints.restore(ours, checkpoints.Values("Keras", values), ignore_missing=True)
    assert not report.unused
    assert all("AuxLogits" in missing for missing in report.missing)
    images = rng.uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    expected, got = (np.asarray(net(images)["logits"]) for net in (theirs, ours))
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["vgg_16", "vgg_19", "resnet_v1_152", "resnet_v2_101"])
def test_names_and_shapes(name):
    with shapes_only():
        theirs = nets_factory.build(keras_to_slim.COUNTERPARTS[name], 7)
        ours = nets_factory.build(name, 7)
    values = {
        name: np.broadcast_to(np.float32(0), v.shape)
        for name, v in slim_names.variables(theirs).items()
    }
    wanted = {name: tuple(v.shape) for name, v in slim_names.variables(ours).items()}
    found = keras_to_slim.translate(values, wanted)
    assert {name: value.shape for name, value in found.items()} == wanted


def test_vggs_first_dense_layer_reads_rows_of_pixels():
    values = {"VGG16/fc1/weights": np.arange(4 * 3 * 2, dtype=np.float32).reshape(12, 2)}
    found = keras_to_slim.translate(values, {"vgg_16/fc6/weights": (2, 2, 3, 2)})
    kernel = found["vgg_16/fc6/weights"]
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    expected = image.reshape(-1) @ values["VGG16/fc1/weights"]
    np.testing.assert_array_equal(np.einsum("hwc,hwco->o", image, kernel), expected)


@pytest.mark.parametrize("name", ["inception_v3", "resnet_v1_50"])
def test_dense_layers_of_a_users_own_classifier_are_passed_over(name):
    with shapes_only():
        theirs = nets_factory.build(keras_to_slim.COUNTERPARTS[name], 7)
        ours = nets_factory.build(name, 7)
    shapes = {name: tuple(v.shape) for name, v in slim_names.variables(theirs).items()}
    root = next(iter(shapes)).partition("/")[0]
    shapes = {name: shape for name, shape in shapes.items() if "/predictions/" not in name}
    own = {f"{root}/dense/weights": (2048, 9), f"{root}/dense/biases": (9,)}
    values = {n: np.broadcast_to(np.float32(0), shape) for n, shape in (shapes | own).items()}
    wanted = {name: tuple(v.shape) for name, v in slim_names.variables(ours).items()}
    found = keras_to_slim.translate(values, wanted)
    missing = {name for name in wanted if name not in found}
    assert all(found[name].shape == wanted[name] for name in wanted.keys() - missing)
    assert missing and all("ogits" in name for name in missing)
    assert found.keys() - wanted.keys() == own.keys()
