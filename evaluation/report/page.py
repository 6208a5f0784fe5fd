"""The data of report.html; page.html in this folder is its template."""

import base64
import functools
from collections.abc import Mapping

import jinja2
import numpy as np

from evaluation import metrics, tables
from evaluation.evaluator import Evaluation
from evaluation.report import pictures

_MOST_CONFUSED = 10


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def html(
    evaluation: Evaluation,
    numbers: Mapping[str, object],
    about: Mapping[str, object],
    matrix: bytes,
    value_range: tuple[float, float] | None,
) -> str:
    """One page that needs no other file.

    Args:
      evaluation: what to show.
      numbers: of `folder.summary`.
      about: what was evaluated on what.
      matrix: PNG of the confusion matrix.
      value_range: as `pictures.thumbnail` takes it.
    """
    heading, *rows = (row[:6] for row in tables.classes(evaluation))
    return _template().render(
        title=f"Evaluation of {about.get('model_name', 'a net')}",
        tiles=_tiles(evaluation, numbers),
        matrix=_data_url("image/png", matrix),
        confused=_confused(evaluation),
        mistakes=_mistakes(evaluation, value_range),
        class_heading=heading,
        class_rows=rows,
        about={name.replace("_", " "): _words(value) for name, value in about.items()},
    )


def _tiles(evaluation: Evaluation, numbers: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Name, value and remark of each number at the top."""
    low, high = numbers["accuracy_interval_95"]
    return [
        ("accuracy", f"{evaluation.accuracy:.2%}", f"95 % interval {low:.1%} to {high:.1%}"),
        *(
            (
                f"recall at {k}",
                f"{evaluation.recall_at(k):.2%}",
                f"true class among the {k} likeliest",
            )
            for k in evaluation.recalls
        ),
        ("macro F1", f"{numbers['macro_f1']:.4f}", "every class counting the same"),
        ("loss", f"{evaluation.loss:.4f}", "mean cross entropy"),
        ("examples", f"{evaluation.num_examples:,}", f"{evaluation.num_classes} classes"),
        ("speed", f"{numbers['images_per_second']:.1f}", "images per second"),
    ]


def _confused(evaluation: Evaluation) -> list[tuple[str, str, int, str]]:
    """The most frequent confusions: true class, predicted class, count, share of the true class."""
    names, support = evaluation.class_names, evaluation.confusion.sum(axis=1)
    return [
        (names[true], names[taken], times, f"{times / support[true]:.1%}")
        for true, taken, times in metrics.most_confused(evaluation.confusion, _MOST_CONFUSED)
    ]


def _mistakes(
    evaluation: Evaluation, value_range: tuple[float, float] | None
) -> list[dict[str, str]]:
    names = evaluation.class_names
    return [
        {
            "filename": evaluation.filenames[mistake.position],
            "image": _data_url("image/jpeg", pictures.thumbnail(mistake.image, value_range)),
            "taken": names[evaluation.predictions[mistake.position]],
            "actual": names[evaluation.labels[mistake.position]],
            "probability": f"{np.max(evaluation.top_probabilities[mistake.position]):.1%}",
        }
        for mistake in evaluation.mistakes
    ]


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
