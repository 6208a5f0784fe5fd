"""Names what is in pictures, with an exported model."""

import csv
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import tensorflow as tf

from datasets.conversion import image_bytes
from foundation import files
from foundation.labels import printable
from runs import checks, opened, pictures, preparation, temperature
from runs import config as run_config
from runs.options import ClassifyImageOptions
from serving import classifier
from serving.export_config import ExportConfig


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model says of pictures.

    Attributes:
      classes: file → its likeliest (label, probability), likeliest first.
      failures: file → why it could not be classified.
    """

    classes: dict[str, list[tuple[str, float]]]
    failures: dict[str, str]


def classify(
    options: ClassifyImageOptions,
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] | None = None,
) -> Answers:
    """Classifies pictures, and writes the answers into the files that the options name.

    Args:
      options: with which model, which pictures, and what to write.
      say: gets a table, line by line, as the answers come.
      warn: gets a line for each picture that can't be used; unset: `say`.

    Raises:
      InputError: no model, a damaged one, or a folder without pictures.
      OSError: the answers could not be written.
    """
    warn = warn or say
    given = options.classify
    checks.classification(options)
    found = pictures.find(given.image)
    for line in found.described():
        warn(printable(line))
    paths = found.pictures
    opened.share_gpus()
    model = classifier.load(given.model, _decoder)
    if asked := options.temperature.temperature:
        export = classifier.config_of(given.model)
        wanted = temperature.number(asked, export.run.get("temperature"), given.model)
        model = model.at_temperature(wanted / export.temperature)
    answers = Answers({}, {})
    table = _Table(paths, model.labels, say)
    for names, encoded in _batches(paths, given.batch_size, answers.failures, warn):
        for name, best in zip(names, model.classify(encoded, given.top_k), strict=True):
            answers.classes[name] = best
            table.show(name, best)
    for path, write in ((given.csv, _write_csv), (given.json, _write_json)):
        if path:
            # Names of files need not be text.
            with files.whole(path, errors="surrogateescape", newline="") as file:
                write(answers.classes, file)
    return answers


def _decoder(
    export: ExportConfig, path_of: Callable[[str], str]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The preprocessing of a file that holds the net alone; `path_of` finds files of the export."""
    config = run_config.parsed(export.run)
    recipe = preparation.recipe_of(config, path_of)
    return functools.partial(
        recipe.evaluate, size=config.image_size, use_grayscale=config.use_grayscale
    )


def _batches(
    paths: Sequence[str], size: int, failures: dict[str, str], warn: Callable[[str], None]
) -> Iterator[tuple[list[str], list[bytes]]]:
    """Names and bytes of readable pictures; the others go into `failures`.

    The bytes are prepared as convert_data.py does it: turned as their EXIF says, and in a format
    that TensorFlow decodes. So a picture looks as it would have in training.
    """
    names, encoded = [], []
    for path in paths:
        try:
            with open(path, "rb") as file:
                encoded.append(image_bytes.Photograph(file.read()).encode().data)
        except (ValueError, OSError) as error:
            failures[path] = getattr(error, "strerror", None) or str(error)
            warn(f"{printable(path)}: {failures[path]}")
            continue
        names.append(path)
        if len(names) == size:
            yield names, encoded
            names, encoded = [], []
    if names:
        yield names, encoded


class _Table:
    """Picture, class and probability in columns, as the answers come."""

    def __init__(self, paths: Sequence[str], labels: Sequence[str], say: Callable[[str], None]):
        self._say = say
        self._widths = [
            max(map(len, ["picture", *map(printable, paths)])),
            max(map(len, ["class", *labels])),
        ]
        self._row("picture", "class", "probability")

    def show(self, path: str, answer: Sequence[tuple[str, float]]) -> None:
        name = printable(path)
        for label, probability in answer:
            self._row(name, label, f"{100 * probability:9.2f} %")
            name = ""

    def _row(self, name: str, label: str, probability: str) -> None:
        first, second = self._widths
        self._say(f"{name:{first}}  {label:{second}}  {probability}")


_Classes = Mapping[str, Sequence[tuple[str, float]]]


def _write_csv(answers: _Classes, file: IO[str]) -> None:
    writer = csv.writer(file)
    writer.writerow(["filename", "rank", "label", "probability"])
    for name, answer in answers.items():
        for rank, (label, probability) in enumerate(answer, start=1):
            writer.writerow([name, rank, label, f"{probability:.6f}"])


def _write_json(answers: _Classes, file: IO[str]) -> None:
    content = [
        {
            "filename": name,
            "classes": [{"label": label, "probability": value} for label, value in answer],
        }
        for name, answer in answers.items()
    ]
    json.dump(content, file, indent=2, ensure_ascii=False)
    file.write("\n")
