"""The mean of a run's last checkpoints, which is often better than the last one alone.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization"
(arXiv:1803.05407): the mean of weights along the way of an optimizer, with batch norm's statistics
taken anew.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from nets import checkpoints


def newest(train_dir: str, count: int) -> list[str]:
    """The newest checkpoints of a run, at most so many, the oldest of them first."""
    return checkpoints.in_order(train_dir)[-count:]


@contextlib.contextmanager
def averaged(weights: Mapping[str, keras.Variable], paths: Sequence[str]) -> Iterator[None]:
    """In this block the variables hold the means over several checkpoints.

    Args:
      weights: variables by slim name.
      paths: of checkpoints that have all of them.
    """
    own = {name: np.asarray(variable.numpy()) for name, variable in weights.items()}
    sums = {name: np.zeros(value.shape, np.float64) for name, value in own.items()}
    for path in paths:
        reader = checkpoints.read(path)
        for name, total in sums.items():
            total += reader.get(name)
    try:
        for name, variable in weights.items():
            variable.assign((sums[name] / len(paths)).astype(own[name].dtype))
        yield
    finally:
        for name, variable in weights.items():
            variable.assign(own[name])
