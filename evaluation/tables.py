"""The tables of an evaluation, as rows whose first is the heading."""

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np

from evaluation import metrics
from evaluation.evaluator import Evaluation

Rows = Iterable[Sequence[object]]


def write(file: IO[str], rows: Rows) -> None:
    """Writes rows as CSV, one by one."""
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # Before Python 3.13 a carriage return, which ends a row, is not quoted by itself.
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoted if has_return else plain).writerow(row)


def classes(evaluation: Evaluation) -> Rows:
    """Scores and counts of each class; empty cells where there is no such number.

    The interval is the recall's, of 95 %. Areas are there where the probabilities of all classes
    were kept.
    """
    scores, ranking = evaluation.scores, evaluation.ranking
    low, high = metrics.wilson_intervals(evaluation.confusion.diagonal(), scores.support)
    shares = {
        "precision": scores.precision,
        "recall": scores.recall,
        "f1": scores.f1,
        "recall_low": low,
        "recall_high": high,
        **(ranking._asdict() if ranking else {}),
    }
    yield "class", *list(shares)[:3], "support", "predicted", *list(shares)[3:]
    for i, name in enumerate(evaluation.class_names):
        cells = ["" if math.isnan(column[i]) else f"{column[i]:.4f}" for column in shares.values()]
        yield name, *cells[:3], scores.support[i], scores.predicted[i], *cells[3:]


def predictions(evaluation: Evaluation, all_probabilities: bool = False) -> Rows:
    """Of each example the file, the true class and the likeliest classes.

    With `all_probabilities`, the probability of each class follows; they must have been kept.
    """
    names = evaluation.class_names
    places = range(1, evaluation.top_classes.shape[1] + 1)
    top_columns = [name for i in places for name in (f"class_{i}", f"probability_{i}")]
    every = [f"probability of {name}" for name in names] if all_probabilities else []
    yield "filename", "label", "prediction", "correct", *top_columns, *every
    rest = _probabilities(evaluation) if all_probabilities else itertools.repeat(())
    columns = evaluation.labels, evaluation.top_classes, evaluation.top_probabilities
    for filename, label, best, probabilities, others in zip(
        evaluation.filenames, *columns, rest, strict=False
    ):
        top = [
            cell
            for number, probability in zip(best, probabilities, strict=True)
            for cell in (names[number], f"{probability:.6f}")
        ]
        more = (f"{probability:.6f}" for probability in others)
        yield filename, names[label], names[best[0]], int(label == best[0]), *top, *more


def _probabilities(evaluation: Evaluation) -> Iterator[np.ndarray]:
    for block in evaluation.log_probabilities.blocks():
        yield from np.exp(block)


def confusion(evaluation: Evaluation) -> Rows:
    """Counts: a row for each true class, a column for each predicted one."""
    yield "true class \\ predicted class", *evaluation.class_names
    for name, counts in zip(evaluation.class_names, evaluation.confusion, strict=True):
        yield name, *counts.tolist()
