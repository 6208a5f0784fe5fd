"""What the figures of TF-Slim's MobileNets v2, v3 and EdgeTPU don't show."""

import keras
import numpy as np
import pytest

from nets import nets_factory

LAST_MAP = {
    "mobilenet_v2_035": "layer_19",
    "mobilenet_v3_small_minimalistic": "layer_13",
    "mobilenet_edgetpu_075": "layer_24",
}


def images(size, batch=2):
    return np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype("float32")


@pytest.mark.parametrize("name", LAST_MAP)
def test_output_stride_computes_the_same_at_more_places(name):
    coarse, fine = (
        nets_factory.build(name, 5, 65, output_stride=output_stride) for output_stride in (None, 8)
    )
    noise = np.random.default_rng(1)
    for variable in coarse.weights:
        if len(variable.shape) == 1:
            variable.assign(noise.uniform(0.5, 1.0, variable.shape))
    fine.set_weights(coarse.get_weights())
    maps = [
        keras.Model(model.input, nets_factory.end_points(model)[LAST_MAP[name]])(images(65))
        for model in (coarse, fine)
    ]
    assert [map.shape[1:3] for map in maps] == [(3, 3), (9, 9)]
    np.testing.assert_allclose(maps[1][:, ::4, ::4], maps[0], atol=1e-4 * np.abs(maps[0]).max())


@pytest.mark.parametrize("output_stride", [0, 3, 64])
def test_other_output_strides_are_refused(output_stride):
    message = rf"mobilenet_v2: output_stride={output_stride}; it is one of 1, 2, 4, 8, 16, 32"
    with pytest.raises(ValueError, match=message):
        nets_factory.build("mobilenet_v2", 5, 64, output_stride=output_stride)


@pytest.mark.parametrize("name", ["mobilenet_v2_035", "mobilenet_v3_small"])
@pytest.mark.parametrize("size", [1, 33])
def test_any_size_will_do(name, size):
    logits = nets_factory.build(name, 5, size)(images(size))["logits"]
    assert logits.shape == (2, 5)
    assert np.isfinite(logits).all()
