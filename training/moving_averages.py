"""Moving averages of a net's variables, as TF1's ExponentialMovingAverage keeps them."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from nets.checkpoints import AVERAGE


class MovingAverages:
    """Shadow copies that follow the variables of a net.

    average -= (1 - d) * (average - variable), with d = min(decay, (1 + n) / (10 + n)) after n
    updates, so that the first steps do not stay at the initial values
    (tf.compat.v1.train.ExponentialMovingAverage with num_updates).
    """

    def __init__(self, decay: float, variables: dict[str, tf.Variable]):
        """Creates the shadows under the current strategy.

        Args:
          decay: in [0, 1), such as 0.9999.
          variables: slim name → float variable; moving statistics included, as in TF-Slim.
        """
        self._decay = decay
        self._variables = variables
        self._shadows = {
            name: tf.Variable(
                tf.convert_to_tensor(variable),
                trainable=False,
                dtype=tf.float32,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for name, variable in variables.items()
        }

    def update(self, num_updates: tf.Tensor) -> None:
        """Moves every average towards its variable; call it in each replica after the step.

        Args:
          num_updates: int64 scalar, updates made so far with this one, from 1.
        """
        n = tf.cast(num_updates, tf.float32)
        rate = 1.0 - tf.minimum(self._decay, (1.0 + n) / (10.0 + n))
        for name, shadow in self._shadows.items():
            shadow.assign_sub(rate * (shadow - self._variables[name]))

    def follow(self) -> None:
        """Sets every average to its variable: the start after weights were restored."""
        for name, shadow in self._shadows.items():
            shadow.assign(tf.convert_to_tensor(self._variables[name]))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Variables and averages change places while the block runs."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, shadow in self._shadows.items():
            value = tf.convert_to_tensor(self._variables[name])
            self._variables[name].assign(tf.convert_to_tensor(shadow))
            shadow.assign(value)

    def slots(self) -> dict[str, tf.Variable]:
        """The averages under the names that a checkpoint has them by."""
        return {name + AVERAGE: shadow for name, shadow in self._shadows.items()}
