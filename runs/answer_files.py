"""What a model says of pictures, and the files that it goes into: CSV, JSON, plots and a page."""

import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from typing import IO

import numpy as np

from evaluation.options import DrawnAnswersOptions
from evaluation.report import answer_pictures, answers_page
from evaluation.report.answers_page import Shown
from foundation import files
from runs.explained import Explainer
from runs.reading import Picture
from serving import classifier


@dataclasses.dataclass
class Answers:
    """What a model says of pictures.

    Attributes:
      unsure_below: least probability of the likeliest class that is not called unsure; or None.
      classes: file → its likeliest (label, probability), likeliest first.
      failures: file → why it could not be classified.
    """

    unsure_below: float | None = None
    classes: dict[str, list[tuple[str, float]]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(
        self,
        picture: Picture,
        probabilities: np.ndarray | None,
        labels: Sequence[str],
        top_k: int,
    ) -> None:
        """Takes the probabilities of a picture, float32 [num_classes]; None where it has none."""
        if picture.problem:
            self.failures[picture.path] = picture.problem
            return
        self.classes[picture.path] = classifier.likeliest(probabilities, labels, top_k)

    def is_unsure(self, path: str) -> bool:
        """Whether the likeliest class of a picture is less likely than asked for."""
        return self.unsure_below is not None and self.classes[path][0][1] < self.unsure_below


def write(answers: Answers, csv_file: str | None, json_file: str | None) -> None:
    """Writes the files that are named, whole; raises OSError."""
    for path, writer in ((csv_file, _write_csv), (json_file, _write_json)):
        if path:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            # Names of files need not be text.
            with files.whole(path, errors="surrogateescape", newline="") as file:
                writer(answers, file)


def rows(answers: Answers) -> list[list[str]]:
    """The CSV: a heading, and a row a picture, those with a problem at the end."""
    most = max((len(found) for found in answers.classes.values()), default=1)
    ranks = [name for i in range(2, most + 1) for name in (f"label_{i}", f"probability_{i}")]
    marks = ["unsure"] if answers.unsure_below is not None else []
    found = [["filename", "label", "probability", *ranks, *marks, "problem"]]
    width = len(found[0])
    for path, classes in answers.classes.items():
        cells = [cell for label, value in classes for cell in (label, f"{value:.6f}")]
        mark = [("yes" if answers.is_unsure(path) else "no")] if marks else []
        found.append([path, *cells, *mark, ""])
    for path, problem in answers.failures.items():
        found.append([path, *[""] * (width - 2), problem])
    return found


def _write_csv(answers: Answers, file: IO[str]) -> None:
    csv.writer(file).writerows(rows(answers))


def _write_json(answers: Answers, file: IO[str]) -> None:
    content = []
    for path, classes in answers.classes.items():
        one = {
            "filename": path,
            "classes": [{"label": label, "probability": value} for label, value in classes],
        }
        if answers.unsure_below is not None:
            one["unsure"] = answers.is_unsure(path)
        content.append(one)
    content += [{"filename": path, "problem": why} for path, why in answers.failures.items()]
    json.dump(content, file, indent=2, ensure_ascii=False)
    file.write("\n")


class Drawings:
    """Plots and the page of the pictures, drawn while these pass by."""

    def __init__(
        self,
        options: DrawnAnswersOptions,
        answers: Answers,
        several: bool,
        explain: Explainer | None = None,
    ):
        """
        Args:
          options: what is drawn.
          answers: to the pictures.
          several: whether there is more than one picture, so that plots go into a folder.
          explain: Grad-CAM; None where that is not asked for.
        """
        self._options, self._answers, self._explain = options, answers, explain
        self._shown: list[Shown] = []
        self._plots = _PlotFiles(options.plot, several) if options.plot else None

    def add(self, pictures: Sequence[Picture]) -> None:
        """Draws pictures that have their answers; raises OSError."""
        if not pictures or not (self._plots or self._options.html):
            return
        heats = [None] * len(pictures)
        if self._explain:
            found = self._explain([picture.encoded for picture in pictures])
            heats = [explanation.overlay for explanation in found]
        for picture, heat in zip(pictures, heats, strict=True):
            path, classes = picture.path, self._answers.classes[picture.path]
            if self._plots:
                png = answer_pictures.plot(picture.encoded, os.path.basename(path), classes, heat)
                self._plots.write(path, png)
            if self._options.html:
                thumbnail = answer_pictures.thumbnail(picture.encoded)
                small = None if heat is None else answer_pictures.jpeg(heat)
                self._shown.append(
                    Shown(path, classes, self._answers.is_unsure(path), thumbnail, small)
                )

    def finish(self) -> None:
        """Writes the page; raises OSError."""
        path = self._options.html
        if path:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with files.whole(path, errors="replace") as file:
                file.write(
                    answers_page.html(
                        self._shown,
                        self._answers.failures,
                        self._answers.unsure_below,
                        self._options.language,
                    )
                )


class _PlotFiles:
    """PNG files: one, or one for each picture in a folder."""

    def __init__(self, path: str, several: bool):
        self._path = path
        self._is_file = path.lower().endswith(".png") and not several
        self._taken: set[str] = set()

    def write(self, picture: str, png: bytes) -> None:
        with files.whole(self._path_of(picture), "wb") as file:
            file.write(png)

    def _path_of(self, picture: str) -> str:
        folder = os.path.dirname(self._path) if self._is_file else self._path
        os.makedirs(folder or ".", exist_ok=True)
        if self._is_file:
            return self._path
        stem = name = os.path.splitext(os.path.basename(picture))[0] or "picture"
        number = 1
        while name in self._taken:  # pictures of several folders have the same names
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return os.path.join(folder, f"{name}.png")
