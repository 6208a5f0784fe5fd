"""The tables of an evaluation, as rows whose first is the heading."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

from evaluation.evaluator import Evaluation

_Rows = Iterable[Sequence[object]]


def csv_bytes(rows: _Rows) -> bytes:
    """Rows as a CSV file in UTF-8."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def classes(evaluation: Evaluation) -> _Rows:
    """Precision, recall, F1 and counts of each class; empty cells where there is no such number."""
    yield "class", "precision", "recall", "f1", "support", "predicted"
    columns = (column.tolist() for column in evaluation.scores)
    for name, *shares, support, predicted in zip(evaluation.class_names, *columns, strict=True):
        cells = ("" if math.isnan(share) else f"{share:.4f}" for share in shares)
        yield name, *cells, support, predicted


def predictions(evaluation: Evaluation) -> _Rows:
    """Of each example the file, the true class and the likeliest classes."""
    names = evaluation.class_names
    places = range(1, evaluation.top_classes.shape[1] + 1)
    top_columns = [name for i in places for name in (f"class_{i}", f"probability_{i}")]
    yield "filename", "label", "prediction", "correct", *top_columns
    columns = evaluation.labels, evaluation.top_classes, evaluation.top_probabilities
    lists = (column.tolist() for column in columns)
    for filename, label, best, probabilities in zip(evaluation.filenames, *lists, strict=True):
        top = [
            cell
            for number, probability in zip(best, probabilities, strict=True)
            for cell in (names[number], f"{probability:.6f}")
        ]
        yield filename, names[label], names[best[0]], int(label == best[0]), *top


def confusion(evaluation: Evaluation) -> _Rows:
    """Counts: a row for each true class, a column for each predicted one."""
    yield "true class \\ predicted class", *evaluation.class_names
    for name, counts in zip(evaluation.class_names, evaluation.confusion.tolist(), strict=True):
        yield name, *counts
