import keras
import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory, slim_names


def shapes(model):
    return {name: tuple(v.shape) for name, v in slim_names.variables(model).items()}


def test_three_stages_a_dense_layer_and_the_logits():
    assert shapes(nets_factory.build("small_cnn", 5, 16)) == {
        "SmallCnn/conv1/weights": (3, 3, 3, 32),
        "SmallCnn/conv1/biases": (32,),
        "SmallCnn/conv2/weights": (3, 3, 32, 64),
        "SmallCnn/conv2/biases": (64,),
        "SmallCnn/conv3/weights": (3, 3, 64, 128),
        "SmallCnn/conv3/biases": (128,),
        "SmallCnn/dense/weights": (2 * 2 * 128, 128),
        "SmallCnn/dense/biases": (128,),
        "SmallCnn/logits/weights": (128, 5),
        "SmallCnn/logits/biases": (5,),
    }


def test_options_change_widths_stages_and_dropout():
    model = nets_factory.build("small_cnn", 2, 4, 1, filters=[6, 7], dense_units=9, dropout=0.25)
    assert shapes(model)["SmallCnn/conv2/weights"] == (3, 3, 6, 7)
    assert shapes(model)["SmallCnn/dense/weights"] == (7, 9)
    assert model.get_layer("SmallCnn.dropout").keep_prob == 0.75
    assert "SmallCnn/conv3/weights" not in shapes(model)


def test_end_points_lead_to_probabilities():
    model = nets_factory.build("small_cnn", 3, 32)
    end_points = nets_factory.end_points(model)
    assert list(end_points) == [
        *("conv1", "pool1", "conv2", "pool2", "conv3", "pool3"),
        *("dense", "Logits", "Predictions"),
    ]
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    probabilities = keras.Model(model.input, end_points["Predictions"])(images)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(model(images)["logits"]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": ()}, r"--small_cnn_filters=: give a positive width for each stage"),
        ({"filters": (8, 0)}, r"--small_cnn_filters=8,0: give a positive width"),
        ({"dense_units": 0}, r"--small_cnn_dense_units=0: at least 1 is needed"),
        ({"dropout": 1.0}, r"--small_cnn_dropout=1\.0: give a fraction from 0 to below 1"),
        ({"dropout": -0.1}, r"--small_cnn_dropout=-0\.1: give a fraction"),
        ({"image_size": 7}, r"small_cnn: images of 7 x 7 .* at least 8 x 8"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        nets_factory.build("small_cnn", 5, **{"image_size": 32, **options})


def test_it_learns_to_tell_colours():
    keras.utils.set_random_seed(0)
    model = nets_factory.build("small_cnn", 2, 16, filters=(4, 4, 4), dense_units=8)
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    images = rng.uniform(-0.2, 0.2, (32, 16, 16, 3)).astype("float32")
    images[np.arange(32), :, :, labels] += 0.8
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)["logits"]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient)

    for _ in range(60):
        step()
    assert (np.argmax(model(images)["logits"], -1) == labels).all()
