"""Nets that are built for their shapes alone."""

import keras
import pytest

from nets.shapes import shapes_only


class Never(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        raise AssertionError("a value was drawn that nobody asks for")


def build(initializer) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=initializer)(inputs))


def test_no_values_are_drawn_then_or_later():
    with shapes_only():
        model = build(Never())
    assert [tuple(variable.shape) for variable in model.weights] == [(4, 2), (2,)]
    # Keras finds out the shape of its output, and draws what waits for values.
    doubled = keras.layers.Lambda(lambda x: 2 * x)(keras.Input((4,)))
    assert doubled.shape == (None, 4)
    assert build("ones").weights[0].numpy().sum() == 8


def test_what_waited_before_waits_on():
    with keras.StatelessScope(initialize_variables=False):
        waiting = build("ones")
    with pytest.raises(RuntimeError, match="stop"), shapes_only():
        build(Never())
        raise RuntimeError("stop")
    keras.layers.Lambda(lambda x: 2 * x)(keras.Input((4,)))
    assert waiting.weights[0].numpy().sum() == 8
