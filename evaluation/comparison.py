"""Whether one net is better than another on the same examples, and where.

The tests are for pairs: of the examples of which just one net is right, each would have half, were
the nets equally good (McNemar's exact test). SciPy is imported where it is needed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from foundation.errors import InputError


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one net said of each example, in the order of the examples' names.

    Attributes:
      name: of the net, for tables.
      examples: name and true class of each example, sorted.
      predictions: the class that it was taken for.
    """

    name: str
    examples: tuple[tuple[str, str], ...]
    predictions: tuple[str, ...]

    @classmethod
    def of(cls, name: str, rows: Sequence[Mapping[str, str]]) -> "Answers":
        """From the rows of predictions.csv: `filename`, `label` and `prediction`."""
        # The sort is stable: examples of the same name stay in the order of the files.
        rows = sorted(rows, key=lambda row: (row["filename"], row["label"]))
        examples = tuple((row["filename"], row["label"]) for row in rows)
        return cls(name, examples, tuple(row["prediction"] for row in rows))

    @property
    def right(self) -> np.ndarray:
        """bool [N]."""
        pairs = zip(self.examples, self.predictions, strict=True)
        return np.array([label == prediction for (_, label), prediction in pairs], bool)

    @property
    def labels(self) -> np.ndarray:
        """str [N], the true classes."""
        return np.array([label for _, label in self.examples])


class McNemar(NamedTuple):
    """How two nets differ: examples of which only one is right, and the two-sided p."""

    only_first: int
    only_second: int
    p: float


class ClassDifference(NamedTuple):
    """Recall of a class by two nets, McNemar's p, and Holm's correction of it for all classes."""

    name: str
    support: int
    first: float
    second: float
    p: float
    corrected: float


def check_same_examples(first: Answers, second: Answers) -> None:
    """Raises InputError, naming an example, where two nets answered of different ones."""
    if first.examples == second.examples:
        return
    counts = f"{len(first.examples)} and {len(second.examples)} examples"
    for one, other in ((first, second), (second, first)):
        if missing := sorted(set(one.examples) - set(other.examples)):
            name, label = missing[0]
            raise InputError(
                f"{first.name} and {second.name} can't be compared: {counts}; {name} of class "
                f"{label} is among those of {one.name} only.",
                remedy="Evaluate both on the same split of the same dataset.",
            )
    raise InputError(
        f"{first.name} and {second.name} can't be compared: {counts}, some of them several times.",
        remedy="Evaluate both on the same split of the same dataset.",
    )


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test.

    Args:
      first, second: bool [N], whether each net is right of the same N examples.
    """
    from scipy import stats

    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    differing = only_first + only_second
    p = stats.binomtest(only_first, differing).pvalue if differing else 1.0
    return McNemar(only_first, only_second, float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests: the i-th smallest of m is multiplied by m - i + 1.

    None becomes less than a smaller one did, or more than 1.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def class_differences(first: Answers, second: Answers) -> list[ClassDifference]:
    """Each class that has examples; the surest differences first."""
    labels, rights = first.labels, (first.right, second.right)
    found = []
    for name in sorted(set(labels.tolist())):
        mine = [right[labels == name] for right in rights]
        p = mcnemar(*mine).p
        found.append((name, len(mine[0]), float(mine[0].mean()), float(mine[1].mean()), p))
    corrected = holm([entry[-1] for entry in found])
    rows = [ClassDifference(*entry, p) for entry, p in zip(found, corrected, strict=True)]
    return sorted(rows, key=lambda row: (row.p, row.name))


def flipped(first: Answers, second: Answers) -> tuple[list[int], list[int]]:
    """Positions of the examples that only the second net has right, and only the first."""
    gained = np.flatnonzero(second.right & ~first.right)
    lost = np.flatnonzero(first.right & ~second.right)
    return gained.tolist(), lost.tolist()


def spread(positions: Sequence[int], most: int) -> list[int]:
    """At most so many of the positions, evenly taken: neighbours are mostly of one class."""
    if len(positions) <= most:
        return list(positions)
    return [positions[i * len(positions) // most] for i in range(most)]


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Positions of the nets that none beats in both, from the cheapest on."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i])):
        if not front or accuracies[i] > accuracies[front[-1]]:
            front.append(i)
    return front
