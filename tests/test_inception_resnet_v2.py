"""What Inception-ResNet v2 can do beyond TF-Slim's fixture: output stride and alignment."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory, slim_names


def build(image_size, **options):
    return nets_factory.build("inception_resnet_v2", 5, image_size, **options)


def test_output_stride_8_sees_the_same_on_a_finer_grid():
    """On maps of odd size, dilation finds at every second place what a stride of 2 finds."""
    options = {"align_feature_maps": True, "create_aux_logits": False}
    coarse, fine = build(65, **options), build(65, output_stride=8, **options)
    theirs = slim_names.variables(fine)
    assert theirs.keys() == slim_names.variables(coarse).keys()
    for name, variable in slim_names.variables(coarse).items():
        theirs[name].assign(variable)

    images = tf.random.stateless_uniform((1, 65, 65, 3), seed=(1, 2), minval=-1)
    few, many = (
        keras.Model(model.input, nets_factory.end_points(model)["PreAuxLogits"])(images).numpy()
        for model in (coarse, fine)
    )
    assert few.shape == (1, 5, 5, 1088)
    assert many.shape == (1, 9, 9, 1088)
    assert few.std() > 0
    np.testing.assert_allclose(many[:, ::2, ::2], few, atol=1e-5 * np.abs(few).max())


@pytest.mark.parametrize(
    ("image_size", "options", "message"),
    [
        (299, {"output_stride": 4}, "output_stride=4; it must be 8 or 16"),
        (74, {}, "images of 74 x 74 pixels are too small; it needs at least 75 x 75"),
        (58, {"output_stride": 8}, "58 x 58 pixels are too small; it needs at least 59 x 59"),
    ],
)
def test_refuses_what_it_cannot_build(image_size, options, message):
    with pytest.raises(ValueError, match=f"inception_resnet_v2: .*{message}"):
        build(image_size, **options)
