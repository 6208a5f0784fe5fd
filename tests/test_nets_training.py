"""Each net learns: one step in bfloat16, the arithmetic of fast processors, moves every variable.

The small nets and one of each other family are in the usual suite; the others, which take minutes
where a processor has no bfloat16 instructions, by `pytest -m full tests/test_nets_training.py`.
So are those of a small family that only have more layers than another one, and Keras' own NASNet,
which is wrapped as Keras' other nets are.
"""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import costs, layers, nets_factory, slim_names

SMALL = 12e6  # parameters
LONG = ("keras_nasnet_mobile", "nasnet_cifar", "efficientnet_b1", "efficientnet_b2")
LONG += ("efficientnet_v2_b1", "efficientnet_v2_b2")
ALSO = ("inception_v3", "resnet_v1_50", "resnet_v2_50", "convnext_tiny")
# Images of these nets are no smaller, or the net leaves its auxiliary head out.
SIZES = {"inception_v3": 107, "inception_v4": 171, "inception_resnet_v2": 171}
OPTIONS = {
    "mobilenet_v2_035": {"output_stride": 8},
    "mobilenet_edgetpu_075": {"output_stride": 4},
}
# The auxiliary heads of these exist in training only; drop path and its schedule come along.
NASNETS = {"create_aux_logits": True, "drop_path_keep_prob": 0.5}
BATCH = 4


@pytest.fixture(autouse=True)
def drawn_faster(monkeypatch):
    """Keras draws from truncated normals at ten million a second; VGG-19 has 140 of them."""
    rng = np.random.default_rng(0)

    def draw(self, shape, dtype=None):
        fan_in = max(1, int(np.prod(shape[:-1])))
        values = rng.standard_normal(shape, "float32") * np.float32(np.sqrt(2 / fan_in))
        return tf.constant(values)

    for kind in (keras.initializers.VarianceScaling, keras.initializers.TruncatedNormal):
        for own in (kind, *kind.__subclasses__()):
            if "__call__" in vars(own):
                monkeypatch.setattr(own, "__call__", draw)
    yield
    gc.collect()


def build(name: str) -> keras.Model:
    """The net on the smallest images it takes."""
    net = nets_factory.get(name)
    options = {key: value for key, value in NASNETS.items() if key in net.options}
    options |= OPTIONS.get(name, {})
    if "fc_conv_padding" in net.options:
        options["fc_conv_padding"] = "SAME"
    for size in (SIZES.get(name), 28, 32, 64, 75, 96, 128, 160, 200, net.image_size):
        try:
            if size is not None:
                return nets_factory.build(name, BATCH, size, dtype="mixed_bfloat16", **options)
        except ValueError as error:
            if "too small" not in str(error):
                raise
    raise AssertionError(f"{name} takes no images")


def is_usual(name: str) -> bool:
    return (costs.known()[name].parameters <= SMALL and name not in LONG) or name in ALSO


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if is_usual(n) else pytest.mark.full) for n in nets_factory.NETS],
)
def test_a_step_in_bfloat16_moves_every_variable(name):
    model = build(name)
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert {tensor.dtype for tensor in model.output.values()} == {"float32"}
    trained = [variable.value for variable in model.trainable_variables]
    before = {slim_names.slim_name(variable): variable.numpy() for variable in model.weights}
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (BATCH, *model.input.shape[1:])).astype("float32")
    # Eagerly: a graph for one step takes longer to make than the step.
    with layers.training_step(0), layers.random_seed([0, 0]), tf.GradientTape() as tape:
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(range(BATCH), logits)
            for logits in model(images, training=True).values()
        ]
        loss = tf.reduce_mean(tf.add_n(losses))
    assert np.isfinite(loss)
    for variable, gradient in zip(trained, tape.gradient(loss, trained), strict=True):
        assert gradient is not None and np.isfinite(gradient).all()
        variable.assign_sub(gradient)
    moved = {
        slim_names.slim_name(variable)
        for variable in model.weights
        if (variable.numpy() != before[slim_names.slim_name(variable)]).any()
    }
    still = [slim_names.slim_name(v) for v in model.trainable_variables]
    assert not set(still) - moved
