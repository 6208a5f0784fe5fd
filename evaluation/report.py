"""What an evaluation leaves in its folder: numbers, tables, a picture, a page and events.

metrics.json · per_class.csv · predictions.csv · confusion_matrix.csv · confusion_matrix.png ·
report.html · TensorBoard events
"""

import base64
import csv
import html
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from string import Template

import numpy as np
import tensorflow as tf
from PIL import Image

from evaluation import metrics
from evaluation.evaluator import Evaluation

_THUMBNAIL_SIDE = 144  # pixels
_MOST_NAMED_CLASSES = 60  # in the picture; beyond, names would overlap
_MOST_COUNTED_CLASSES = 25  # beyond, counts would not fit into their cells
_MOST_CONFUSED = 10


def summary(evaluation: Evaluation) -> dict[str, float | int | list[float]]:
    """The numbers of metrics.json; shares are in 0..1, the loss is the mean cross entropy."""
    scores = metrics.class_scores(evaluation.confusion)
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
    class_names: Sequence[str],
    about: Mapping[str, object],
    *,
    step: int,
    value_range: tuple[float, float] | None = None,
) -> None:
    """Writes everything, each file whole or not at all.

    Args:
      eval_dir: made when absent.
      evaluation: what to report.
      class_names: in the order of the logits.
      about: what was evaluated on what, as JSON values; shown and kept as it is.
      step: the checkpoint's global step, at which TensorBoard shows the numbers.
      value_range: least and greatest pixel value of the net's images, for the page; None stretches
        each image to its own.

    Raises:
      OSError: a file could not be written.
    """
    os.makedirs(eval_dir, exist_ok=True)
    numbers = summary(evaluation)
    picture = draw_confusion_matrix(evaluation.confusion, class_names)
    page = _page(evaluation, class_names, numbers, about, picture, value_range)
    metrics_json = json.dumps({**numbers, **about}, indent=2, ensure_ascii=False) + "\n"
    contents = {
        "metrics.json": metrics_json.encode(),
        "per_class.csv": _csv(_class_rows(evaluation.confusion, class_names)),
        "predictions.csv": _csv(_prediction_rows(evaluation, class_names)),
        "confusion_matrix.csv": _csv(_confusion_rows(evaluation.confusion, class_names)),
        "confusion_matrix.png": picture,
        "report.html": page.encode(),
    }
    for name, content in contents.items():
        path = os.path.join(eval_dir, name)
        with open(f"{path}.tmp", "wb") as file:
            file.write(content)
        os.replace(f"{path}.tmp", path)
    _write_events(eval_dir, numbers, picture, step)


def draw_confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The matrix as a PNG: colours are shares of the true class, numbers are examples."""
    # Here, not above: its import takes a second.
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count = len(class_names)
    side = min(max(4.5, 2.0 + 0.42 * count), 14.0)  # inches
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The square root brings out the few errors of a class that is mostly right.
    norm = PowerNorm(0.5, vmin=0.0, vmax=1.0)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, label="share of the true class")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if count <= _MOST_NAMED_CLASSES:
        names = [_literal(_shortened(name, 24)) for name in class_names]
        size = 9 if count <= _MOST_COUNTED_CLASSES else 6
        axes.set_xticks(range(count), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
    if count <= _MOST_COUNTED_CLASSES:
        for row, column in np.argwhere(confusion):
            colour = "white" if shares[row, column] > 0.35 else "black"
            text = f"{confusion[row, column]:d}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _literal(text: str) -> str:
    """matplotlib reads a pair of dollar signs as a formula."""
    return text.replace("$", r"\$")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _write_events(eval_dir: str, numbers: Mapping[str, object], picture: bytes, step: int) -> None:
    try:
        writer = tf.summary.create_file_writer(eval_dir)
        with writer.as_default(step=step):
            # TF-Slim's own tags.
            tf.summary.scalar("eval/Accuracy", numbers["accuracy"])
            tf.summary.scalar("eval/Recall_5", numbers["recall_5"])
            for name in ("loss", "macro_precision", "macro_recall", "macro_f1"):
                tf.summary.scalar(f"eval/{name}", numbers[name])
            image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
            tf.summary.image("eval/confusion_matrix", image[None])
        writer.close()
    except tf.errors.OpError as error:
        raise OSError(f"{eval_dir}: events could not be written: {error.message}") from error


# Tables


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def _class_rows(confusion: np.ndarray, class_names: Sequence[str]) -> Iterable[Sequence[object]]:
    yield "class", "precision", "recall", "f1", "support", "predicted"
    scores = metrics.class_scores(confusion)
    columns = (column.tolist() for column in scores)
    for name, precision, recall, f1, support, predicted in zip(class_names, *columns, strict=True):
        yield name, *map(_share, (precision, recall, f1)), support, predicted


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _prediction_rows(
    evaluation: Evaluation, class_names: Sequence[str]
) -> Iterable[Sequence[object]]:
    places = range(1, evaluation.top_classes.shape[1] + 1)
    top_columns = [name for i in places for name in (f"class_{i}", f"probability_{i}")]
    yield "filename", "label", "prediction", "correct", *top_columns
    columns = evaluation.labels, evaluation.top_classes, evaluation.top_probabilities
    lists = (column.tolist() for column in columns)
    for filename, label, classes, probabilities in zip(evaluation.filenames, *lists, strict=True):
        top = [
            cell
            for number, probability in zip(classes, probabilities, strict=True)
            for cell in (class_names[number], f"{probability:.6f}")
        ]
        correct = int(label == classes[0])
        yield filename, class_names[label], class_names[classes[0]], correct, *top


def _confusion_rows(
    confusion: np.ndarray, class_names: Sequence[str]
) -> Iterable[Sequence[object]]:
    yield "true class \\ predicted class", *class_names
    for name, counts in zip(class_names, confusion.tolist(), strict=True):
        yield name, *counts


# The page


def _page(
    evaluation: Evaluation,
    class_names: Sequence[str],
    numbers: Mapping[str, object],
    about: Mapping[str, object],
    picture: bytes,
    value_range: tuple[float, float] | None,
) -> str:
    low, high = numbers["accuracy_interval_95"]
    title = f"Evaluation of {about.get('model_name', 'a net')}"
    tiles = [
        ("accuracy", f"{evaluation.accuracy:.2%}", f"95 % interval {low:.1%} to {high:.1%}"),
        ("recall at 5", f"{numbers['recall_5']:.2%}", "true class among the five likeliest"),
        ("macro F1", f"{numbers['macro_f1']:.4f}", "every class counting the same"),
        ("loss", f"{evaluation.loss:.4f}", "mean cross entropy"),
        ("examples", f"{evaluation.num_examples:,}", f"{evaluation.num_classes} classes"),
        ("speed", f"{numbers['images_per_second']:.1f}", "images per second"),
    ]
    return _PAGE.substitute(
        title=html.escape(title),
        tiles="".join(
            f"<div class=tile><b>{html.escape(value)}</b><span>{html.escape(name)}</span>"
            f"<small>{html.escape(note)}</small></div>"
            for name, value, note in tiles
        ),
        matrix=_data_url("image/png", picture),
        confused=_confused_table(evaluation.confusion, class_names),
        mistakes=_gallery(evaluation, class_names, value_range),
        classes=_class_table(evaluation.confusion, class_names),
        about="".join(
            f"<tr><th>{html.escape(str(name).replace('_', ' '))}<td>{html.escape(_words(value))}"
            for name, value in about.items()
        ),
    )


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def _confused_table(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    pairs = metrics.most_confused(confusion, _MOST_CONFUSED)
    if not pairs:
        return "<p>There are none.</p>"
    support = confusion.sum(axis=1)
    rows = (
        f"<tr><td>{html.escape(class_names[true])}<td>{html.escape(class_names[taken])}"
        f"<td class=n>{times}<td class=n>{times / support[true]:.1%}"
        for true, taken, times in pairs
    )
    head = "<tr><th>true class<th>taken for<th class=n>times<th class=n>of the true class"
    return f"<table>{head}{''.join(rows)}</table>"


def _class_table(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    rows = iter(_class_rows(confusion, class_names))
    head = "".join(f"<th{' class=n' if i else ''}>{name}" for i, name in enumerate(next(rows)))
    body = []
    for name, *scores, support, predicted in rows:
        cells = "".join(
            f'<td class="n bar" style="--share:{score or 0}">{score or "–"}' for score in scores
        )
        counts = f"<td class=n>{support}<td class=n>{predicted}"
        body.append(f"<tr><td>{html.escape(name)}{cells}{counts}")
    return f"<table class=sortable><thead><tr>{head}<tbody>{''.join(body)}</table>"


def _gallery(
    evaluation: Evaluation,
    class_names: Sequence[str],
    value_range: tuple[float, float] | None,
) -> str:
    if not evaluation.mistakes:
        return "<p>There are none.</p>"
    figures = []
    for mistake in evaluation.mistakes:
        i = mistake.position
        taken, true = (
            class_names[array[i]] for array in (evaluation.predictions, evaluation.labels)
        )
        filename = html.escape(evaluation.filenames[i], quote=True)
        source = _data_url("image/jpeg", _thumbnail(mistake.image, value_range))
        figures.append(
            f'<figure title="{filename}"><img src="{source}" alt="{filename}">'
            f"<figcaption><b>{html.escape(taken)}</b> "
            f"{evaluation.top_probabilities[i, 0]:.1%}<br>is {html.escape(true)}"
            f"<small>{filename}</small></figcaption></figure>"
        )
    return f"<div class=gallery>{''.join(figures)}</div>"


def _thumbnail(image: np.ndarray, value_range: tuple[float, float] | None) -> bytes:
    low, high = value_range or (float(image.min()), float(image.max()))
    pixels = np.clip((image - low) / max(high - low, 1e-6) * 255 + 0.5, 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    # Small images are enlarged by whole pixels, so that they are seen as they are.
    factor = max(1, _THUMBNAIL_SIDE // max(picture.size))
    picture = picture.resize([side * factor for side in picture.size], Image.Resampling.NEAREST)
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  body { font: 15px/1.45 system-ui, sans-serif; color: #1c2733; background: #fff;
         max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; margin: 0 0 1rem; }
  h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #d5dde5; }
  small { color: #5d6b79; }
  table { border-collapse: collapse; }
  th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid #e6ebf0;
           vertical-align: top; overflow-wrap: anywhere; }
  .n { text-align: right; font-variant-numeric: tabular-nums; }
  .bar { background: linear-gradient(to right, #cfe1f3 calc(100% * var(--share)), transparent 0); }
  .sortable th { cursor: pointer; }
  .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .7rem; }
  .tile { background: #f2f6fa; border-radius: 6px; padding: .7rem .9rem; }
  .tile * { display: block; }
  .tile b { font-size: 1.45rem; }
  .matrix { max-width: 100%; max-height: 90vh; }
  .gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr));
             gap: .9rem; }
  figure { margin: 0; }
  figure img { width: 144px; height: 144px; object-fit: contain; background: #f2f6fa; }
  figcaption { font-size: .85rem; }
  figcaption small { display: block; overflow: hidden; text-overflow: ellipsis;
                     white-space: nowrap; }
</style>
<h1>$title</h1>
<div class="tiles">$tiles</div>
<h2>Confusion matrix</h2>
<img class="matrix" src="$matrix" alt="Confusion matrix: rows true, columns predicted classes">
<h2>Most frequent confusions</h2>
$confused
<h2>Mistakes the net was surest of</h2>
<p><small>As the net sees them, with its prediction and its probability.</small></p>
$mistakes
<h2>Classes</h2>
<p><small>Click on a heading to sort.</small></p>
$classes
<h2>What was evaluated</h2>
<table>$about</table>
<script>
  for (const table of document.querySelectorAll(".sortable")) {
    table.querySelectorAll("th").forEach((heading, column) => {
      let ascending = false;
      heading.onclick = () => {
        ascending = !ascending;
        const text = row => row.cells[column].textContent;
        const compare = (a, b) => column ? (parseFloat(text(a)) || 0) - (parseFloat(text(b)) || 0)
                                         : text(a).localeCompare(text(b));
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => ascending ? compare(a, b) : compare(b, a));
        body.append(...rows);
      };
    });
  }
</script>
""")
