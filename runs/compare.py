"""Compares runs on the same examples: accuracy, tests, classes, pictures, time and size."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets import frames, schema
from evaluation import comparison, published
from evaluation.comparison import Answers
from evaluation.report import comparison_page, pictures
from evaluation.report.comparison_page import Compared
from foundation import files
from foundation.errors import InputError
from runs.evaluate import evaluate
from runs.options import CompareRunsOptions, EvaluateOptions
from serving import latency
from training.validation import FOLDER as BEST

Say = Callable[[str], None]
_NO_EXPORT = "-"
# Pictures that flipped either way, for each net that is compared with the first.
_MOST_FLIPPED = 24


def compare(options: CompareRunsOptions, say: Say = print) -> list[Compared]:
    """Writes comparison.csv and comparison.html, and says the table.

    Args:
      options: what to compare. A training that was not evaluated is evaluated first.
      say: gets lines for the screen.

    Returns:
      what is known of each run, in the order of the options; the first is the one that the others
      are compared with.

    Raises:
      InputError: the runs were evaluated on different examples, or a file can't be used.
      OSError: a file could not be written.
    """
    given = options.comparison
    os.makedirs(given.output_dir, exist_ok=True)
    names = _short_names(given.run)
    exports = given.exports or (_NO_EXPORT,) * len(names)
    found = [
        _compared(name, path, export, given.output_dir, say)
        for name, path, export in zip(names, given.run, exports, strict=True)
    ]
    for other in found[1:]:
        comparison.check_same_examples(found[0].answers, other.answers)
    rows = list(comparison_page.rows(found))
    wanted = {
        found[0].answers.examples[i][0]
        for other in found[1:]
        for part in comparison.flipped(found[0].answers, other.answers)
        for i in comparison.spread(part, _MOST_FLIPPED)
    }
    thumbnails = dict(_thumbnails(found[0].numbers.get("files", []), wanted))
    page = comparison_page.html(found, thumbnails, _MOST_FLIPPED, given.language)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    for name, content in (("comparison.csv", table.getvalue()), ("comparison.html", page)):
        with files.whole(os.path.join(given.output_dir, name), newline="") as file:
            file.write(content)
    for line in comparison_page.lines(found):
        say(line)
    say(f"See {os.path.join(given.output_dir, 'comparison.html')}")
    return found


def _short_names(paths: tuple[str, ...]) -> list[str]:
    """The last parts of the paths, as many as it takes to tell them apart."""
    parts = [os.path.abspath(path).split(os.sep) for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("the same folder is named twice.", option="run", value=paths[0])


def _compared(name: str, path: str, export: str, output_dir: str, say: Say) -> Compared:
    folder = path
    if not os.path.exists(os.path.join(path, published.METRICS)):
        folder = os.path.join(output_dir, "evaluations", name.replace("/", "_"))
        best = os.path.join(path, BEST)
        checkpoint = best if os.path.isdir(best) else path
        say(f"{name}: evaluating {checkpoint}")
        evaluate(EvaluateOptions.of(checkpoint_path=checkpoint, eval_dir=folder), say)
    numbers, answers = _read(name, folder)
    if export == _NO_EXPORT:
        return Compared(name, answers, numbers)
    say(f"{name}: measuring {export}")
    return Compared(
        name,
        answers,
        numbers,
        latency.format_of(export),
        latency.size_in_bytes(export),
        latency.milliseconds(export),
    )


def _read(name: str, folder: str) -> tuple[dict, Answers]:
    """metrics.json and predictions.csv of an evaluation."""
    try:
        with published.settled(folder):
            with open(os.path.join(folder, published.METRICS), encoding="utf-8") as file:
                numbers = json.load(file)
            path = os.path.join(folder, "predictions.csv")
            with open(path, encoding="utf-8", newline="") as file:
                answers = Answers.of(name, list(csv.DictReader(file)))
        if len(answers.examples) != numbers["num_examples"]:
            raise ValueError(f"{len(answers.examples)} of {numbers['num_examples']} predictions")
        return numbers, answers
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: {os.path.basename(error.filename)} is missing.",
            remedy="Evaluate again with eval_image_classifier.py.",
        ) from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{folder}: metrics.json and predictions.csv can't be used ({error}).",
            remedy="Evaluate again with eval_image_classifier.py.",
        ) from error


def _thumbnails(paths: list[str], wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """File name → small JPEG of the examples that are wanted; of records that are gone, none."""
    for path in filter(os.path.exists, paths):
        for record in tf.data.TFRecordDataset(path, frames.compression_of(path)):
            example = schema.parse_example(record)
            name = example["filename"].numpy().decode(errors="replace")
            if name in wanted:
                encoded = example["encoded"].numpy()
                with Image.open(io.BytesIO(encoded)) as picture:
                    pixels = np.asarray(picture.convert("RGB"), np.float32)
                yield name, pictures.thumbnail(pixels, (0.0, 255.0))
