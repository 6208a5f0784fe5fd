"""Pictures of an evaluation: chosen while the examples pass by, and kept as small JPEGs.

However many examples there are, at most about 2,000 pictures are in memory.
"""

import bisect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from evaluation.report import pictures

# Pictures of mistakes and of right answers in all cells of the confusion matrix together.
_MISTAKES, _RIGHT = 1200, 400
# Least and most pictures of one cell.
_LEAST, _MOST = 2, 40


class _Shortlist:
    """The `limit` positions with the smallest keys."""

    def __init__(self, limit: int):
        self.limit = limit
        self.entries: list[tuple[float, int]] = []

    def offer(self, key: float, position: int) -> tuple[bool, int | None]:
        """Whether a position enters, and which one leaves for it."""
        if len(self.entries) == self.limit and (key, position) >= self.entries[-1]:
            return False, None
        bisect.insort(self.entries, (key, position))
        return True, self.entries.pop()[1] if len(self.entries) > self.limit else None

    @property
    def positions(self) -> list[int]:
        return [position for _, position in self.entries]


class Gallery:
    """The pictures that the page can show.

    Attributes:
      images: JPEG by the position of its example in the `Evaluation`.
      surest: positions of the mistakes with the highest probability, highest first.
      unsure: positions of the examples whose likeliest class has the lowest probability, lowest
        first.
      heat: uint8 [h, w] by position, which places of a listed picture led to the net's answer;
        what `explain` made.
    """

    def __init__(
        self, num_classes: int, value_range: tuple[float, float] | None = None, num_listed: int = 24
    ):
        """
        Args:
          num_classes: of the confusion matrix.
          value_range: least and greatest value of the net's images; None stretches each image to
            its own.
          num_listed: length of `surest` and of `unsure`.
        """
        self.images: dict[int, bytes] = {}
        self.heat: dict[int, np.ndarray] = {}
        self._inputs: dict[int, Any] = {}
        self._taken: dict[int, int] = {}
        self._uses: dict[int, int] = {}
        self._value_range = value_range
        self._surest, self._unsure = _Shortlist(num_listed), _Shortlist(num_listed)
        self._cells: dict[tuple[int, int], _Shortlist] = {}
        self._limits = [
            min(max(total // num_classes, _LEAST), _MOST) for total in (_MISTAKES, _RIGHT)
        ]

    def add(
        self,
        images: tf.Tensor,
        part: Mapping[str, np.ndarray],
        offset: int,
        inputs: Callable[[int], Any] = lambda i: None,
    ) -> None:
        """Takes what is worth showing of a batch.

        Args:
          images: as the net saw them, float32 [B, H, W, channels].
          part: labels int64 [B], top_classes int64 [B, K], top_probabilities float64 [B, K].
          offset: position of the first.
          inputs: gives what `explain` will want of an example, by its place in the batch.
        """
        columns = part["labels"], part["top_classes"][:, 0], part["top_probabilities"][:, 0]
        for i, (label, taken, sureness) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            is_right = label == taken
            # Of mistakes the surest are worth seeing, of right answers the least sure.
            key = sureness if is_right else -sureness
            cell = self._cells.setdefault((label, taken), _Shortlist(self._limits[is_right]))
            lists = [(cell, key), (self._unsure, sureness)]
            lists += [] if is_right else [(self._surest, key)]
            for shortlist, its_key in lists:
                self._offer(shortlist, its_key, offset + i, images, i)
        self._drop_mistakes()
        listed = {*self.surest, *self.unsure}
        for position in listed - self._inputs.keys():
            self._inputs[position] = inputs(position - offset)
            self._taken[position] = int(columns[1][position - offset])
        self._inputs = {position: self._inputs[position] for position in listed}

    def explain(self, heat: Callable[[list[Any], list[int]], np.ndarray]) -> None:
        """Finds which places of the listed pictures led to their answers.

        Args:
          heat: from what `add` was given of N examples, and their predicted classes, to float32
            [N, h, w] in 0..1.
        """
        positions = sorted(self._inputs)
        if positions:
            found = heat(
                [self._inputs[position] for position in positions],
                [self._taken[position] for position in positions],
            )
            levels = np.round(255 * found).astype(np.uint8)
            self.heat = dict(zip(positions, levels, strict=True))

    def _offer(
        self, shortlist: _Shortlist, key: float, position: int, images: tf.Tensor, i: int
    ) -> None:
        enters, leaving = shortlist.offer(key, position)
        if not enters:
            return
        self._uses[position] = self._uses.get(position, 0) + 1
        if position not in self.images:
            self.images[position] = pictures.thumbnail(images[i].numpy(), self._value_range)
        if leaving is not None:
            self._release(leaving)

    def _release(self, position: int) -> None:
        self._uses[position] -= 1
        if not self._uses[position]:
            del self._uses[position], self.images[position]

    def _drop_mistakes(self) -> None:
        """Drops the least sure mistakes while there are too many in all cells together."""
        wrong = [cell for (label, taken), cell in self._cells.items() if label != taken]
        surplus = sum(len(cell.entries) for cell in wrong) - _MISTAKES
        if surplus <= 0:
            return
        entries = [(entry, cell) for cell in wrong for entry in cell.entries]
        entries.sort(key=lambda pair: pair[0])
        for entry, cell in entries[-surplus:]:
            cell.entries.remove(entry)
            self._release(entry[1])

    @property
    def surest(self) -> list[int]:
        return self._surest.positions

    @property
    def unsure(self) -> list[int]:
        return self._unsure.positions

    def cell(self, label: int, taken: int) -> list[int]:
        """Positions of pictures of a true class that were taken for another, or for itself.

        The surest mistakes come first, or the least sure right answers.
        """
        found = self._cells.get((label, taken))
        return found.positions if found else []
