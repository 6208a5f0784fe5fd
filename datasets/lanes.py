"""The order in which records are read in an epoch, and where reading begins in the middle of it.

The files of an epoch stand in lanes: file k of its order in lane k modulo the number of lanes. The
lanes take turns, a record each, and one that has come to its end is left out from there on. So
where each lane stands after any number of records follows from the counts of the files alone.
"""

import dataclasses
from bisect import bisect_right

import numpy as np

# Files that are read at once. Part of the sequence's definition: changing it changes the order.
MOST_LANES = 16


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a lane's reading begins.

    Attributes:
      lane: its number.
      passed: how many of the lane's files are passed over.
      file: the next file, by its place in the order of the epoch; it has records left.
      record: how many of that file's records are passed over.
    """

    lane: int
    passed: int
    file: int
    record: int


def number_of(num_files: int) -> int:
    """How many lanes there are for so many files."""
    return min(MOST_LANES, num_files)


def starts(counts: np.ndarray, position: int) -> list[Start]:
    """Where the lanes stand after `position` records, in the order of their next turns.

    Args:
      counts: int64 [files], the records of each file in the order of the epoch.
      position: at least 0, and less than the sum of the counts.

    Returns:
      The lanes that have records left.
    """
    num_lanes = number_of(len(counts))
    ends = [np.cumsum(counts[lane::num_lanes]) for lane in range(num_lanes)]
    lengths = np.array([own[-1] for own in ends])

    def read_after(rounds: int) -> int:
        return int(np.minimum(lengths, rounds).sum())

    rounds = bisect_right(range(int(lengths.max()) + 1), position, key=read_after) - 1
    read = np.minimum(lengths, rounds)
    live = np.flatnonzero(lengths > rounds)
    had_their_turn = position - read_after(rounds)
    read[live[:had_their_turn]] += 1
    found = []
    for lane in np.roll(live, -had_their_turn).tolist():
        if read[lane] < lengths[lane]:
            passed = int(np.searchsorted(ends[lane], read[lane], side="right"))
            before = ends[lane][passed - 1] if passed else 0
            file = lane + passed * num_lanes
            found.append(Start(lane, passed, file, int(read[lane] - before)))
    return found
