"""What an evaluation leaves in its folder: numbers, tables, a picture, a page and events.

metrics.json · per_class.csv · predictions.csv · confusion_matrix.csv · confusion_matrix.png ·
report.html · TensorBoard events
"""

import io
import json
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from PIL import Image

from evaluation import metrics, tables
from evaluation.evaluator import Evaluation
from evaluation.report import page, pictures
from foundation import files


def summary(evaluation: Evaluation) -> dict[str, float | int | list[float]]:
    """The numbers of metrics.json; shares are in 0..1, the loss is the mean cross entropy."""
    scores = evaluation.scores
    interval = metrics.wilson_interval(evaluation.num_correct, evaluation.num_examples)
    return {
        "accuracy": evaluation.accuracy,
        "accuracy_interval_95": list(interval),
        "recall_5": evaluation.recall_at(5),
        "loss": evaluation.loss,
        "macro_precision": metrics.macro_average(scores.precision, scores.support),
        "macro_recall": metrics.macro_average(scores.recall, scores.support),
        "macro_f1": metrics.macro_average(scores.f1, scores.support),
        "num_examples": evaluation.num_examples,
        "num_classes": evaluation.num_classes,
        "images_per_second": evaluation.num_examples / evaluation.seconds,
    }


def write(
    eval_dir: str,
    evaluation: Evaluation,
    about: Mapping[str, object],
    *,
    step: int,
    value_range: tuple[float, float] | None = None,
) -> None:
    """Writes everything, each file whole or not at all.

    Args:
      eval_dir: made when absent.
      evaluation: what to report.
      about: what was evaluated on what, as JSON values; shown and kept as it is.
      step: the checkpoint's global step, at which TensorBoard shows the numbers.
      value_range: least and greatest pixel value of the net's images, for the page; None stretches
        each image to its own.

    Raises:
      OSError: a file could not be written.
    """
    os.makedirs(eval_dir, exist_ok=True)
    numbers = summary(evaluation)
    matrix = pictures.confusion_matrix(evaluation.confusion, evaluation.class_names)
    metrics_json = json.dumps({**numbers, **about}, indent=2, ensure_ascii=False) + "\n"
    contents = {
        "metrics.json": metrics_json.encode(),
        "per_class.csv": tables.csv_bytes(tables.classes(evaluation)),
        "predictions.csv": tables.csv_bytes(tables.predictions(evaluation)),
        "confusion_matrix.csv": tables.csv_bytes(tables.confusion(evaluation)),
        "confusion_matrix.png": matrix,
        "report.html": page.html(evaluation, numbers, about, matrix, value_range).encode(),
    }
    for name, content in contents.items():
        with files.whole(os.path.join(eval_dir, name), "wb") as file:
            file.write(content)
    _write_events(eval_dir, numbers, matrix, step)


def _write_events(eval_dir: str, numbers: Mapping[str, object], matrix: bytes, step: int) -> None:
    try:
        writer = tf.summary.create_file_writer(eval_dir)
        with writer.as_default(step=step):
            # TF-Slim's own tags.
            tf.summary.scalar("eval/Accuracy", numbers["accuracy"])
            tf.summary.scalar("eval/Recall_5", numbers["recall_5"])
            for name in ("loss", "macro_precision", "macro_recall", "macro_f1"):
                tf.summary.scalar(f"eval/{name}", numbers[name])
            image = np.asarray(Image.open(io.BytesIO(matrix)).convert("RGB"))
            tf.summary.image("eval/confusion_matrix", image[None])
        writer.close()
    except tf.errors.OpError as error:
        raise OSError(f"{eval_dir}: events could not be written: {error.message}") from error
