"""A net that keeps little of its forward pass trains as it does with all of it kept."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import blocks, nets_factory, recomputed, slim_names
from nets.blocks import Blocks, Norm
from training import distribution, losses, optimizers
from training.options import OptimizerOptions
from training.step import NetInTraining, StepSettings, TrainingStep


def branching_net() -> keras.Model:
    """With a sum, a concatenation, dropout and an output in the middle."""
    block = Blocks(blocks.he_normal, norm=Norm(decay=0.9, scale=True))
    x = images = blocks.images(8, 3)
    for i, stride in enumerate((2, 1)):
        near = block.conv(x, 4, 3, f"Net/near_{i}", stride=stride)
        far = block.conv(x, 4, 1, f"Net/far_{i}", stride=stride)
        x = block.add([near, far], f"Net/sum_{i}")
        if i == 0:
            pooled = block.flatten(block.global_pool(x, "Net/aux_pool"), "Net/aux_flat")
            aux = block.for_logits().fully_connected(pooled, 4, "Net/aux")
    x = block.dropout(block.flatten(x, "Net/flat"), 0.5, "Net/dropout")
    logits = block.for_logits().fully_connected(x, 4, "Net/logits")
    return blocks.model("net", images, {}, logits, aux)


def after_three_steps(recompute: bool, jit_compile: bool) -> dict[str, np.ndarray]:
    keras.utils.set_random_seed(0)
    model = branching_net()
    variables = slim_names.variables(model)
    trained = {name: v for name, v in variables.items() if v.trainable}
    optimizer = optimizers.create(OptimizerOptions(optimizer="momentum"))
    optimizer.build(list(trained.values()), list(trained))
    step = TrainingStep(
        distribution.create(),
        NetInTraining(model, {n: v.value for n, v in trained.items()}, ("main", "auxiliary")),
        optimizer,
        lambda step: 0.01,
        losses.classification,
        settings=StepSettings(seed=1, jit_compile=jit_compile, recompute=recompute),
    )
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    batch = {"image": images, "label": np.arange(6, dtype=np.int32) % 4}
    results = step.run(iter(tf.data.Dataset.from_tensors(batch).repeat()), 3)
    return {n: v.numpy() for n, v in variables.items()} | {"loss": results["loss"]}


@pytest.mark.parametrize("jit_compile", [False, True])
def test_weights_statistics_and_losses_are_the_same(jit_compile):
    kept, anew = (after_three_steps(recompute, jit_compile) for recompute in (False, True))
    for name, value in kept.items():
        np.testing.assert_allclose(anew[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_segments_are_computed_twice_but_the_last():
    calls = []

    @keras.saving.register_keras_serializable("test_recomputed")
    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(self.name)
            return x * 2.0

    x = images = keras.Input((4,))
    for i in range(9):
        x = Counted(name=f"layer_{i}")(x)
    net = recomputed.Recomputed(keras.Model(images, {"logits": x}))
    calls.clear()
    with tf.GradientTape() as tape:
        ones = tf.ones([2, 4])
        tape.watch(ones)
        total = tf.reduce_sum(net(ones, training=True)["logits"])
    np.testing.assert_array_equal(tape.gradient(total, ones), np.full((2, 4), 2**9))
    twice = [name for name in dict.fromkeys(calls) if calls.count(name) == 2]
    assert twice == [f"layer_{i}" for i in range(len(twice))]
    assert 5 <= len(twice) < 9


@pytest.mark.parametrize("name", ["resnet_v1_50", "inception_v3", "mobilenet_v2"])
def test_less_than_a_third_is_in_memory(name):
    model = nets_factory.build(name, 5, nets_factory.get(name).image_size)
    segments = recomputed.cut(model)

    def numbers(tensors) -> int:
        return sum(math.prod(size or 1 for size in tensor.shape) for tensor in tensors)

    def inside(net: keras.Model) -> int:
        nodes = [node for found in net._nodes_by_depth.values() for node in found]
        return sum(numbers(node.outputs) for node in nodes if node.input_tensors)

    kept = sum(numbers(part.model.outputs) for part in segments)
    assert kept + max(inside(part.model) for part in segments) < inside(model) / 3
