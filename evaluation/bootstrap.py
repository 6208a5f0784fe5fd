"""95 % confidence intervals of numbers, all from the same resamples of the examples.

A resample draws N of N examples with replacement (Efron, 1979). Each number is a function of sums
over the examples, so that a block of resamples is one matrix product: how often each example was
drawn, times what it adds to each sum. 1,000 resamples of 10,000 examples and 120 classes take half
a second, and their time grows with the number of examples alone.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

# What changes from seed to seed is then below a tenth of an interval.
NUM_RESAMPLES = 1000
# Counts that are in memory at once: 32 MiB.
_DRAWN_AT_ONCE = 2**22

Interval = tuple[float, float]


class Sums:
    """Columns whose sums over resamples are wanted, in named groups."""

    def __init__(self, count: int):
        """`count`: the number of examples, N."""
        self._count = count
        self._parts: list = []
        self._groups: dict[str, slice] = {}

    def add(self, name: str, values: np.ndarray, places: np.ndarray, width: int) -> None:
        """A group of `width` sums.

        Args:
          name: of the group.
          values: float [N], what each example adds.
          places: int [N], to which sum.
          width: how many sums there are.
        """
        from scipy import sparse

        rows, shape = np.arange(self._count), (self._count, width)
        start = sum(part.shape[1] for part in self._parts)
        self._parts.append(sparse.csr_matrix((np.float64(values), (rows, places)), shape=shape))
        self._groups[name] = slice(start, start + width)

    def resampled(self, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """Group → float64 [R, width], its sums in R resamples at a time."""
        from scipy import sparse

        table = sparse.hstack(self._parts, format="csr")
        for drawn in _draws(self._count, seed):
            sums = drawn @ table
            yield {name: sums[:, place] for name, place in self._groups.items()}


def _draws(count: int, seed: int) -> Iterator[np.ndarray]:
    """float64 [R, count], how often each example is drawn in each of R resamples at a time."""
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // count)
    for first in range(0, NUM_RESAMPLES, at_once):
        rows = min(at_once, NUM_RESAMPLES - first)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * count)
        yield counts.reshape(rows, count).astype(np.float64)


def intervals(
    sums: Sums,
    numbers: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    centres: Mapping[str, float],
    seed: int = 0,
) -> dict[str, Interval]:
    """The middle 95 % of each number's resamples; NaN where none has a value.

    Args:
      sums: what the numbers are made of.
      numbers: from the sums of R resamples to name → float [R].
      centres: what the resamples of some numbers are shifted to in the mean, and cut at 0: errors
        are larger in a resample than in what it was drawn of.
      seed: of the draws.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for found in sums.resampled(seed):
        for name, values in numbers(found).items():
            parts.setdefault(name, []).append(values)
    resamples = {name: np.concatenate(values) for name, values in parts.items()}
    for name, centre in centres.items():
        shift = centre - resamples[name].mean()
        resamples[name] = np.maximum(resamples[name] + shift, 0)
    return {name: _middle(values) for name, values in resamples.items()}


def _middle(resamples: np.ndarray) -> Interval:
    finite = resamples[np.isfinite(resamples)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
