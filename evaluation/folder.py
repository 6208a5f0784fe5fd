"""What an evaluation leaves in its folder: numbers, tables, pictures, a page and events.

metrics.json · per_class.csv · predictions.csv · confusion_matrix.csv · confusion_matrix.png ·
reliability.png · report.html · TensorBoard events
"""

import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from evaluation import calibration, published, results, tables
from evaluation.evaluator import Evaluation
from evaluation.report import page, pictures
from evaluation.report.words import Words

# Classes that TensorBoard gets a precision-recall curve of: those with the most examples.
_MOST_CURVES = 20


def write(
    eval_dir: str,
    evaluation: Evaluation,
    about: Mapping[str, object],
    *,
    step: int,
    extras: page.Extras | None = None,
    all_probabilities: bool = False,
) -> dict[str, object]:
    """Writes everything, or leaves what a former evaluation wrote.

    Args:
      eval_dir: made when absent.
      evaluation: what to report.
      about: what was evaluated on what, as JSON values; shown and kept as it is.
      step: the checkpoint's global step, at which TensorBoard shows the numbers.
      extras: what the page shows besides.
      all_probabilities: whether predictions.csv gets those of all classes.

    Returns:
      the numbers, as `results.numbers` has them.

    Raises:
      OSError: a file could not be written.
    """
    os.makedirs(eval_dir, exist_ok=True)
    numbers = results.numbers(evaluation)
    bins = calibration.reliability(evaluation.top_probabilities[:, 0], evaluation.correct)
    extras = extras or page.Extras()
    matrix, diagram = _figures(evaluation, bins, about, Words(extras.language))
    figures = {"Reliability of the probabilities": diagram}
    html = page.html(evaluation, numbers, about, extras, figures)
    reliability = {name: column.tolist() for name, column in bins._asdict().items()}
    metrics_json = (
        json.dumps({**numbers, **about, "reliability": reliability}, indent=2, ensure_ascii=False)
        + "\n"
    )
    contents = {
        published.METRICS: metrics_json.encode(),
        "per_class.csv": tables.classes(evaluation),
        "predictions.csv": tables.predictions(evaluation, all_probabilities),
        "confusion_matrix.csv": tables.confusion(evaluation),
        "confusion_matrix.png": matrix,
        "reliability.png": diagram,
        "report.html": html.encode(),
    }
    _write_all(eval_dir, contents)
    images = {"confusion_matrix": [matrix], "reliability": [diagram]}
    if extras.gallery.surest:
        images["surest_mistakes"] = [extras.gallery.images[i] for i in extras.gallery.surest]
    _write_events(eval_dir, evaluation, numbers, images, step)
    return numbers


def _figures(
    evaluation: Evaluation,
    bins: calibration.Reliability,
    about: Mapping[str, object],
    words: Words,
) -> tuple[bytes, bytes]:
    """The confusion matrix and the reliability diagram, PNGs with titles."""
    subject = " ".join(
        str(about[name]) for name in ("model_name", "dataset", "split") if about.get(name)
    )
    right = words(
        "{right} of {count} right",
        right=words.count(evaluation.num_correct),
        count=words.count(evaluation.num_examples),
    )
    title = words("Confusion of {subject}", subject=subject or "a net")
    matrix = pictures.confusion_matrix(
        evaluation.confusion, evaluation.class_names, f"{title}: {right}", words
    )
    title = words("Reliability of {subject}", subject=subject or "a net")
    return matrix, calibration.diagram(bins, title, words)


def _write_all(folder: str, contents: Mapping[str, bytes | tables.Rows]) -> None:
    """Writes files, whose content is bytes or rows of CSV: all of them, or none."""
    with published.publishing(folder) as place:
        for name, content in contents.items():
            path = os.path.join(place, name)
            if isinstance(content, bytes):
                with open(path, "wb") as file:
                    file.write(content)
            else:
                # Names of files need not be text.
                with open(
                    path, "w", encoding="utf-8", newline="", errors="backslashreplace"
                ) as file:
                    tables.write(file, content)


def _write_events(
    eval_dir: str,
    evaluation: Evaluation,
    numbers: Mapping[str, object],
    images: Mapping[str, Sequence[bytes]],
    step: int,
) -> None:
    try:
        writer = tf.summary.create_file_writer(eval_dir)
        with writer.as_default(step=step):
            for name, value in numbers.items():
                if isinstance(value, float):
                    tf.summary.scalar(f"eval/{tag(name)}", value)
            for name, contents in images.items():
                pixels = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
                tf.summary.image(
                    f"eval/{name}", np.stack(list(map(np.asarray, pixels))), max_outputs=len(pixels)
                )
            for name, summary in _curves(evaluation):
                (value,) = summary.value
                tf.summary.write(
                    f"eval/{name}", tf.make_ndarray(value.tensor), metadata=value.metadata
                )
        writer.close()
    except tf.errors.OpError as error:
        raise OSError(f"{eval_dir}: events could not be written: {error.message}") from error


def tag(name: str) -> str:
    """A number's name in TensorBoard: TF-Slim's where it had one, such as Accuracy and Recall_5."""
    is_slims = name == "accuracy" or re.fullmatch(r"recall_\d+", name)
    return name.capitalize() if is_slims else name


def _curves(evaluation: Evaluation) -> Iterator[tuple[str, object]]:
    """Precision-recall curves of the classes with the most examples, where they can be drawn."""
    if evaluation.log_probabilities is None:
        return
    from tensorboard.plugins.pr_curve import summary

    support = evaluation.scores.support
    for number in np.argsort(-support, kind="stable")[:_MOST_CURVES]:
        if support[number]:
            name = evaluation.class_names[number]
            scores = np.exp(evaluation.log_probabilities.of_class(number))
            yield f"precision_recall/{name}", summary.pb(name, evaluation.labels == number, scores)
