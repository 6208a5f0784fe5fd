"""Names what is in pictures, with a model of any kind."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from foundation.labels import printable
from runs import answer_files, checks, classifiers, pictures, reading
from runs.answer_files import Answers
from runs.classifiers import OpenModel
from runs.options import ClassifyImageOptions
from runs.pictures import Found
from runs.reading import Picture
from serving.classifier import Classifier

Say = Callable[[str], None]


def classify(
    options: ClassifyImageOptions,
    say: Say = print,
    warn: Say | None = None,
    found: Found | None = None,
) -> Answers:
    """Classifies pictures, and writes the answers into the files that the options name.

    Args:
      options: with which model, which pictures, and what to write.
      say: gets a table, line by line, as the answers come.
      warn: gets lines on the model, and one for each picture that can't be used; unset: `say`.
      found: what `pictures.find` made of the options, where it is known.

    Raises:
      InputError: no model, a damaged one, or a folder without pictures.
      OSError: the answers could not be written.
    """
    warn = warn or say
    found = found or pictures.find(options.classify.image)
    checks.classification(options, found.pictures)
    for line in found.described():
        warn(printable(line))
    opened = classifiers.open_model(
        options.model, options.alone, options.temperature.temperature, warn
    )
    return shown(opened, options, found, say, warn)


def shown(
    opened: OpenModel, options: ClassifyImageOptions, found: Found, say: Say, warn: Say
) -> Answers:
    """Shows pictures to an open model; see `classify`."""
    given, model = options.classify, opened.classifier
    answers = Answers(given.unsure_below)
    explain = opened.explainer() if options.drawn.explain else None
    table = _Table(answers, found.pictures, model.labels, say)
    drawings = answer_files.Drawings(options.drawn, answers, len(found.pictures) > 1, explain)
    for batch in reading.batches(found.pictures, given.batch_size, options.crop, found.contents):
        usable = []
        for picture, answer in answered(model, batch):
            answers.add(picture, answer, model.labels, given.top_k)
            if picture.problem:
                warn(f"{printable(picture.path)}: {picture.problem}")
            else:
                table.show(picture.path)
                usable.append(picture)
        drawings.add(usable)
    answer_files.write(answers, given.csv, given.json)
    drawings.finish()
    return answers


def answered(
    model: Classifier, batch: Sequence[Picture]
) -> Iterator[tuple[Picture, np.ndarray | None]]:
    """Each picture with its probabilities, float32 [num_classes], or with its problem and None.

    Where TensorFlow refuses a picture, those of its batch are asked one by one.
    """
    usable = [picture for picture in batch if not picture.problem]
    problem = ""
    try:
        found = model.outputs([picture.encoded for picture in usable])["probabilities"]
    except (InputError, tf.errors.InvalidArgumentError) as error:
        if len(batch) > 1:
            for picture in batch:
                yield from answered(model, [picture])
            return
        problem, found = " ".join(str(error).split()), [None]
    rows = iter(found)
    for picture in batch:
        if problem:
            picture = dataclasses.replace(picture, problem=problem)
        yield picture, None if picture.problem and not problem else next(rows)


class _Table:
    """Picture, class and probability in columns, as the answers come."""

    def __init__(self, answers: Answers, paths: Sequence[str], labels: Sequence[str], say: Say):
        self._say, self._answers = say, answers
        self._widths = [
            max(map(len, ["picture", *map(printable, paths)])),
            max(map(len, ["class", *labels])),
        ]
        self._row("picture", "class", "probability")

    def show(self, path: str) -> None:
        name, remark = printable(path), "  unsure" if self._answers.is_unsure(path) else ""
        for label, probability in self._answers.classes[path]:
            self._row(name, label, f"{100 * probability:9.2f} %{remark}")
            name = remark = ""

    def _row(self, name: str, label: str, probability: str) -> None:
        first, second = self._widths
        self._say(f"{name:{first}}  {label:{second}}  {probability}")
