"""The data of report.html; page.html in this folder is its template."""

import base64
import dataclasses
import functools
import math
import os
from collections.abc import Mapping

import numpy as np

from evaluation import metrics
from evaluation.evaluator import Evaluation
from evaluation.report.gallery import Gallery
from evaluation.report.templates import data_url, environment
from evaluation.report.words import ENGLISH, Words

_MOST_CONFUSED = 10
# Above, the matrix is drawn on a canvas, and the list of confusions is longer.
_MOST_CELLS_AS_TABLE = 25


@dataclasses.dataclass(frozen=True)
class Extras:
    """What the page shows besides the evaluation itself.

    Attributes:
      gallery: pictures of examples.
      language: of `evaluation.options.LANGUAGES`.
      curves: path of the run's curves.png; ignored where there is none.
      training: how the net was trained: options "changed" from their defaults, and "all".
      training_counts: class → how many examples of it the net was trained on, where that is known.
    """

    gallery: Gallery = dataclasses.field(default_factory=lambda: Gallery(1))
    language: str = "en"
    curves: str | None = None
    training: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    training_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


def html(
    evaluation: Evaluation,
    numbers: Mapping[str, object],
    about: Mapping[str, object],
    extras: Extras,
    figures: Mapping[str, bytes],
) -> str:
    """One page that needs no other file.

    Args:
      evaluation: what to show.
      numbers: of `results.numbers`.
      about: what was evaluated on what.
      extras: what is shown besides.
      figures: PNGs by heading.
    """
    words, gallery = Words(extras.language), extras.gallery
    if extras.curves and os.path.exists(extras.curves):
        with open(extras.curves, "rb") as file:
            figures = {"Training curves": file.read(), **figures}
    heading, class_rows = _classes(evaluation, extras.training_counts, words)
    as_table = evaluation.num_classes <= _MOST_CELLS_AS_TABLE
    return (
        environment()
        .get_template("page.html")
        .render(
            words=words,
            title=_title(about, words),
            sentences=_sentences(evaluation, numbers, words),
            date=about.get("date", ""),
            numbers=_numbers(numbers, words),
            as_table=as_table,
            matrix=_matrix(evaluation, words) if as_table else [],
            data=_data(evaluation, gallery, words),
            confused=_confused(
                evaluation, words, _MOST_CONFUSED if as_table else 3 * _MOST_CONFUSED
            ),
            surest=[_example(evaluation, gallery, i, words) for i in gallery.surest],
            unsure=[_example(evaluation, gallery, i, words) for i in gallery.unsure],
            has_heat=bool(gallery.heat),
            num_mistakes=evaluation.num_examples - evaluation.num_correct,
            num_examples=evaluation.num_examples,
            class_heading=heading,
            class_rows=class_rows,
            figures={name: data_url("image/png", png) for name, png in figures.items()},
            about=_table(about, words),
            trained_on=_trained_on(extras.training_counts, words),
            training={
                name: {f"--{flag}": _words(value, words) for flag, value in part.items()}
                for name, part in extras.training.items()
                if part
            },
        )
    )


def _title(about: Mapping[str, object], words: Words) -> str:
    net, dataset = about.get("model_name", "a net"), about.get("dataset") or about.get("data")
    if not dataset or not about.get("split"):
        return words("Evaluation of {net}", net=net)
    return words(
        "Evaluation of {net} on {dataset}, split {split}",
        net=net,
        dataset=dataset,
        split=about["split"],
    )


def _trained_on(counts: Mapping[str, int], words: Words) -> str:
    if not counts:
        return ""
    numbers = {
        name: words.count(reduce(counts.values()))
        for name, reduce in (("count", sum), ("least", min), ("most", max))
    }
    if numbers["least"] == numbers["most"]:
        return words("Trained on {count} examples, {least} of each class.", **numbers)
    return words("Trained on {count} examples, {least} to {most} of a class.", **numbers)


def remark_on_guessing(evaluation: Evaluation, words: Words = ENGLISH) -> str:
    """Says so where naming the most frequent class may do as well; "" elsewhere."""
    if not evaluation.as_good_a_guess:
        return ""
    label, share = evaluation.as_good_a_guess
    return words(
        "The net may be no better than a guess: answering {label} every time would be right for "
        "{share}.",
        label=label,
        share=words.share(share),
    )


def _sentences(
    evaluation: Evaluation, numbers: Mapping[str, object], words: Words
) -> tuple[str, ...]:
    low, high = numbers["accuracy_interval_95"]
    count = words.count
    return (
        words(
            "{right} of {count} right",
            right=count(evaluation.num_correct),
            count=count(evaluation.num_examples),
        ),
        words(
            "{value} right, 95 % interval {low} to {high}",
            value=words.share(evaluation.accuracy, 2),
            low=words.share(low),
            high=words.share(high),
        ),
        *filter(None, [remark_on_guessing(evaluation, words)]),
    )


def _numbers(numbers: Mapping[str, object], words: Words) -> list[tuple[str, str, str]]:
    """Name, value and interval of each number in metrics.json."""
    rows = []
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        interval = numbers.get(f"{name}_interval_95")
        written = functools.partial(_written, name, words=words)
        rows.append(
            (
                _named(name, words),
                written(value),
                words("{low} to {high}", low=written(interval[0]), high=written(interval[1]))
                if interval
                else "",
            )
        )
    return rows


def _named(number: str, words: Words) -> str:
    if number.startswith("recall_"):
        return words("recall at {k}", k=number.removeprefix("recall_"))
    return words(number.replace("_", " "))


def _written(name: str, value: float, words: Words) -> str:
    if isinstance(value, int):
        return words.count(value)
    if name == "accuracy" or name.startswith("recall_"):
        return words.share(value, 2)
    return words.number(value, 1 if name == "images_per_second" else 4)


def _matrix(evaluation: Evaluation, words: Words) -> list[dict[str, object]]:
    """The rows of the matrix: their class and their cells."""
    names, confusion = evaluation.class_names, evaluation.confusion
    support = np.maximum(confusion.sum(axis=1), 1)
    return [
        {
            "name": name,
            "cells": [
                {
                    "count": times,
                    "shade": round(math.sqrt(times / support[label]), 3),
                    "words": _cell_words(names, label, taken, times, support[label], words),
                }
                for taken, times in enumerate(confusion[label].tolist())
            ],
        }
        for label, name in enumerate(names)
    ]


def _cell_words(names, label: int, taken: int, times: int, support: int, words: Words) -> str:
    pair = "{label} recognised" if label == taken else "{label} taken for {taken}"
    return (
        words(pair, label=names[label], taken=names[taken])
        + ": "
        + words(
            "{count} examples, {share} of {label}",
            count=words.count(times),
            share=words.share(times / support),
            label=names[label],
        )
    )


def _data(evaluation: Evaluation, gallery: Gallery, words: Words) -> dict[str, object]:
    """What the page's script needs.

    `cells` are [true class, predicted class, count, positions of pictures]; `examples` have
    [file, probability, JPEG in base64] by position; `heat` has [width, levels in base64].
    """
    confusion = evaluation.confusion
    cells = [
        [label, taken, int(confusion[label, taken]), gallery.cell(label, taken)]
        for label, taken in np.argwhere(confusion).tolist()
    ]
    return {
        "names": evaluation.class_names,
        "support": confusion.sum(axis=1).tolist(),
        "cells": cells,
        "examples": {
            position: [
                evaluation.filenames[position],
                words.share(evaluation.top_probabilities[position, 0]),
                base64.b64encode(jpeg).decode(),
            ]
            for position, jpeg in gallery.images.items()
        },
        "heat": {
            position: [levels.shape[1], base64.b64encode(levels.tobytes()).decode()]
            for position, levels in gallery.heat.items()
        },
        "words": {
            name: words(name)
            for name in (
                "{label} taken for {taken}",
                "{label} recognised",
                "{count} examples, {share} of {label}",
                "{shown} of {count} are shown",
            )
        },
    }


def _confused(
    evaluation: Evaluation, words: Words, count: int
) -> list[tuple[int, int, str, str, str, str]]:
    """The most frequent confusions: numbers and names of both classes, count, share of the true."""
    names, support = evaluation.class_names, evaluation.confusion.sum(axis=1)
    return [
        (
            *(true, taken, names[true], names[taken]),
            *(words.count(times), words.share(times / support[true])),
        )
        for true, taken, times in metrics.most_confused(evaluation.confusion, count)
    ]


def _example(
    evaluation: Evaluation, gallery: Gallery, position: int, words: Words
) -> dict[str, object]:
    label, taken = evaluation.labels[position], evaluation.predictions[position]
    return {
        "position": position,
        "filename": evaluation.filenames[position],
        "image": data_url("image/jpeg", gallery.images[position]),
        "taken": evaluation.class_names[taken],
        "label": evaluation.class_names[label],
        "right": bool(label == taken),
        "probability": words.share(evaluation.top_probabilities[position, 0]),
    }


def _classes(
    evaluation: Evaluation, training_counts: Mapping[str, int], words: Words
) -> tuple[list[str], list[tuple[str, list[tuple[object, str, bool]]]]]:
    """Headings, and of each class its name and its numbers.

    Of a number: what to sort by, how it is written, and whether it is a share.
    """
    scores, ranking = evaluation.scores._asdict(), evaluation.ranking
    counts = {name: scores.pop(name) for name in ("support", "predicted")}
    if training_counts:
        counts["trained_on"] = [training_counts.get(name, 0) for name in evaluation.class_names]
    shares = scores | (ranking._asdict() if ranking else {})
    rows = []
    for i, name in enumerate(evaluation.class_names):
        numbers = [
            ("", "–", True)
            if math.isnan(column[i])
            else (round(float(column[i]), 6), words.share(column[i]), True)
            for column in shares.values()
        ]
        numbers += [(int(c[i]), words.count(int(c[i])), False) for c in counts.values()]
        rows.append((name, numbers))
    return ["class", *shares, *counts], rows


def _table(values: Mapping[str, object], words: Words) -> dict[str, str]:
    """Names and values in words, numbers as the language writes them."""
    return {words(name.replace("_", " ")): _said(value, words) for name, value in values.items()}


def _said(value: object, words: Words) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said}" for name, said in _table(value, words).items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(entry, words) for entry in value) or "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _words(value, words)
    if isinstance(value, int):
        return words.count(value)
    return words.number(value, 1 if abs(value) >= 100 else 3)


def _words(value: object, words: Words) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, bool):
        return words("yes" if value else "no")
    return "–" if value is None else str(value)
