"""The data of comparison.html, comparison.csv and the table on the screen."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation import comparison
from evaluation.comparison import Answers
from evaluation.report import page, pictures
from evaluation.report.words import Words


@dataclasses.dataclass(frozen=True)
class Compared:
    """What is known of one run.

    Attributes:
      name: for tables.
      answers: to the examples.
      numbers: of metrics.json.
      format: of its export, such as saved_model; None where there is none.
      bytes: size of its export.
      milliseconds: of a batch, by batch size, measured with the export.
    """

    name: str
    answers: Answers
    numbers: Mapping[str, Any]
    format: str | None = None
    bytes: int | None = None
    milliseconds: Mapping[int, float] = dataclasses.field(default_factory=dict)

    @property
    def speed(self) -> float | None:
        """Images a second of the whole training."""
        seconds, images = self.numbers.get("training_seconds"), self.numbers.get("training_images")
        return images / seconds if seconds and images else None


# Column of comparison.csv → its heading on the page, and how its numbers are written there.
_COLUMNS = {
    "accuracy": ("accuracy", "share"),
    "macro_f1": ("macro f1", "number"),
    "loss": ("loss", "number"),
    "ece": ("ece", "number"),
    "training_seconds": ("training, seconds", "count"),
    "training_images_per_second": ("training, images per second", "tenth"),
    "parameters": ("parameters", "count"),
    "multiply_adds": ("multiply adds", "count"),
    "export_bytes": ("export, bytes", "count"),
    "milliseconds_batch_1": ("milliseconds for 1 image", "tenth"),
    "milliseconds_batch_8": ("milliseconds for 8 images", "tenth"),
}


def _values(one: Compared) -> dict[str, float | None]:
    values = {name: one.numbers.get(name) for name in _COLUMNS}
    return values | {
        "training_images_per_second": one.speed,
        "export_bytes": one.bytes,
        "milliseconds_batch_1": one.milliseconds.get(1),
        "milliseconds_batch_8": one.milliseconds.get(8),
    }


def rows(found: Sequence[Compared]) -> Iterable[Sequence[object]]:
    """comparison.csv: a row for each run, and its test against the first."""
    tests = ("only_first_right", "only_this_right", "mcnemar_p")
    yield (
        *("run", "accuracy", "accuracy_low", "accuracy_high"),
        *(*tests, *list(_COLUMNS)[1:], "export_format"),
    )
    for one in found:
        values = _values(one)
        test = comparison.mcnemar(found[0].answers.right, one.answers.right)
        low, high = one.numbers["accuracy_interval_95"]
        rest = ["" if value is None else value for value in list(values.values())[1:]]
        test = test if one is not found[0] else ("", "", "")
        yield one.name, values["accuracy"], low, high, *test, *rest, one.format or ""


def lines(found: Sequence[Compared]) -> list[str]:
    """The table on the screen, and a sentence for each run but the first."""
    head = ("run", "accuracy", "95 % interval", "p", "training s", "parameters", "ms/image")
    body = []
    for one in found:
        test = comparison.mcnemar(found[0].answers.right, one.answers.right)
        low, high = one.numbers["accuracy_interval_95"]
        values = _values(one)
        body.append(
            (
                one.name,
                f"{one.numbers['accuracy']:.4f}",
                f"{low:.4f} to {high:.4f}",
                "" if one is found[0] else f"{test.p:.3g}",
                _or_dash(values["training_seconds"], ".0f"),
                _or_dash(values["parameters"], ",.0f"),
                _or_dash(values["milliseconds_batch_1"], ".2f")
                + (f" ({one.format})" if one.format else ""),
            )
        )
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    table = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *body)
    ]
    words = Words("en")
    return [*table, *(_sentence(found[0], one, words) for one in found[1:])]


def _or_dash(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


def _sentence(first: Compared, other: Compared, words: Words) -> str:
    """What McNemar's test says of two runs."""
    test = comparison.mcnemar(first.answers.right, other.answers.right)
    counts = words(
        "Of {count} examples, {gained} are right with {other} only and {lost} with {first} only "
        "(McNemar's exact test: p {p}).",
        count=words.count(len(first.answers.examples)),
        gained=words.count(test.only_second),
        lost=words.count(test.only_first),
        first=first.name,
        other=other.name,
        p=p if (p := words.p(test.p)).startswith("<") else f"= {p}",
    )
    if test.p >= 0.05:
        return f"{counts} {words('Chance would explain such a difference.')}"
    better = other if test.only_second > test.only_first else first
    return f"{counts} {words('{name} is better, beyond chance.', name=better.name)}"


def html(
    found: Sequence[Compared], thumbnails: Mapping[str, bytes], most_flipped: int, language: str
) -> str:
    """One page that needs no other file.

    Args:
      found: the runs; the others are compared with the first.
      thumbnails: JPEG by the file name of an example.
      most_flipped: how many of the pictures that flipped are shown either way.
      language: of `evaluation.options.LANGUAGES`.
    """
    words = Words(language)
    first = found[0]
    pairs = [_pair(first, other, thumbnails, most_flipped, words) for other in found[1:]]
    about = first.numbers
    return (
        page.environment()
        .get_template("comparison.html")
        .render(
            words=words,
            title=words("Comparison of {names}", names=", ".join(one.name for one in found)),
            dataset=about.get("dataset") or "",
            split=about.get("split") or "",
            count=words.count(len(first.answers.examples)),
            sentences=[_sentence(first, one, words) for one in found[1:]],
            columns=[words(heading) for heading, _ in _COLUMNS.values()],
            runs=[(one.name, _cells(one, words)) for one in found],
            matrix=_p_matrix(found, words),
            pairs=pairs,
            plots=_plots(found, words),
        )
    )


def _cells(one: Compared, words: Words) -> list[tuple[object, str]]:
    """Value to sort by and text of each column."""
    write = {
        "share": lambda value: words.share(value, 2),
        "number": words.number,
        "tenth": lambda value: words.number(value, 1),
        "count": lambda value: words.count(round(value)),
    }
    values, cells = _values(one), []
    for name, (_, kind) in _COLUMNS.items():
        value = values[name]
        text = "–" if value is None else write[kind](value)
        if name == "accuracy":
            low, high = (words.share(end) for end in one.numbers["accuracy_interval_95"])
            interval = words("{low} to {high}", low=low, high=high).replace(" ", "\u00a0")
            text += f" ({interval})"
        if name.startswith("milliseconds") and one.format:
            text += f" ({one.format})"
        cells.append(("" if value is None else value, text))
    return cells


def _p_matrix(found: Sequence[Compared], words: Words) -> list[tuple[str, str, str, str]]:
    """Each pair of runs, p, and Holm's correction for all pairs; none for two runs."""
    pairs = list(itertools.combinations(found, 2))
    if len(pairs) == 1:
        return []
    p_values = [comparison.mcnemar(a.answers.right, b.answers.right).p for a, b in pairs]
    return [
        (a.name, b.name, words.p(p), words.p(corrected))
        for (a, b), p, corrected in zip(pairs, p_values, comparison.holm(p_values), strict=True)
    ]


def _pair(
    first: Compared, other: Compared, thumbnails: Mapping[str, bytes], most: int, words: Words
) -> dict[str, object]:
    """Classes and pictures in which a run differs from the first."""
    gained, lost = comparison.flipped(first.answers, other.answers)

    def shown(positions: list[int]) -> dict[str, object]:
        chosen = comparison.spread(positions, most)
        return {
            "count": words.count(len(positions)),
            "shown": words.count(len(chosen)),
            "examples": [_flip(first, other, i, thumbnails) for i in chosen],
        }

    classes = [
        (
            row.name,
            [
                (row.support, words.count(row.support)),
                (row.first, words.share(row.first)),
                (row.second, words.share(row.second)),
                (row.second - row.first, words.number(100 * (row.second - row.first), 1)),
                (row.p, words.p(row.p)),
                (row.corrected, words.p(row.corrected)),
            ],
        )
        for row in comparison.class_differences(first.answers, other.answers)
    ]
    return {
        "first": first.name,
        "other": other.name,
        "classes": classes,
        "gained": shown(gained),
        "lost": shown(lost),
    }


def _flip(
    first: Compared, other: Compared, position: int, thumbnails: Mapping[str, bytes]
) -> dict[str, str | None]:
    filename, label = first.answers.examples[position]
    jpeg = thumbnails.get(filename)
    return {
        "filename": filename,
        "label": label,
        "before": first.answers.predictions[position],
        "after": other.answers.predictions[position],
        "image": None if jpeg is None else page.data_url("image/jpeg", jpeg),
    }


def _plots(found: Sequence[Compared], words: Words) -> dict[str, str]:
    """Accuracy against what it costs, where at least two runs tell their cost."""
    costs = {
        words("milliseconds for 1 image"): [one.milliseconds.get(1) for one in found],
        words("training, seconds"): [one.numbers.get("training_seconds") for one in found],
    }
    plots = {}
    for label, values in costs.items():
        points = [
            (cost, one.numbers["accuracy"], one.numbers["accuracy_interval_95"], one.name)
            for cost, one in zip(values, found, strict=True)
            if cost is not None
        ]
        if len(points) > 1:
            png = pictures.pareto(points, label, words("accuracy"))
            plots[label] = page.data_url("image/png", png)
    return plots
