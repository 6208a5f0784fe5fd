"""Pictures of an evaluation: the confusion matrix, and thumbnails of what the net saw."""

import io
import math
import textwrap
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from evaluation import comparison, metrics
from evaluation.report.words import ENGLISH, Words

_THUMBNAIL_SIDE = 128  # pixels
_MOST_NAMED_CLASSES = 60  # beyond, names would overlap
_MOST_COUNTED_CLASSES = 25  # beyond, counts would not fit into their cells
_LONGEST_NAME = 24  # characters
_MOST_LISTED = 30  # confusions
_MOST_CELLS = 1000  # a side; beyond, a cell of the picture stands for several classes


def confusion_matrix(
    confusion: np.ndarray, class_names: Sequence[str], title: str = "", words: Words = ENGLISH
) -> bytes:
    """The matrix as a PNG: colours are shares of the true class, numbers are examples.

    Where the names of the classes have no place, the most frequent confusions stand beside it.
    """
    # Imported here because it takes a second, which training need not spend.
    from matplotlib.figure import Figure

    count = len(class_names)
    has_names = count <= _MOST_NAMED_CLASSES
    side = min(max(4.5, 2.0 + 0.42 * count), 14.0 if has_names else 11.0)  # inches
    figure = Figure(figsize=(side + (1.0 if has_names else 6.0), side), layout="constrained")
    if title:
        # Some ten of its letters take an inch.
        figure.suptitle(textwrap.fill(plain(title, 160), int(9 * figure.get_figwidth())))
    if has_names:
        axes = figure.subplots()
    else:
        axes, list_axes = figure.subplots(1, 2, width_ratios=(side, 5.0))
        _list_confusions(list_axes, confusion, class_names, words)
    _draw_matrix(figure, axes, confusion, words)
    if has_names:
        names = [plain(name) for name in class_names]
        size = 9 if count <= _MOST_COUNTED_CLASSES else 6
        axes.set_xticks(range(count), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
    return png(figure)


def _draw_matrix(figure, axes, confusion: np.ndarray, words: Words) -> None:
    from matplotlib.colors import PowerNorm

    # The square root brings out the few errors of a class that is mostly right.
    norm = PowerNorm(0.5, vmin=0.0, vmax=1.0)
    shown, step = shares(confusion)
    end = len(shown) * step - 0.5
    place = (-0.5, end, end, -0.5)
    image = axes.imshow(shown, cmap="Blues", norm=norm, interpolation="nearest", extent=place)
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, label=words("share of the true class"))
    axes.set_xlabel(words("predicted class"))
    axes.set_ylabel(words("true class"))
    if len(confusion) <= _MOST_COUNTED_CLASSES:
        for row, column in np.argwhere(confusion):
            colour = "white" if shown[row, column] > 0.35 else "black"
            text = f"{confusion[row, column]:d}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def shares(confusion: np.ndarray) -> tuple[np.ndarray, int]:
    """The share of the true class in each cell, float64 [S, S] in 0..1, and the classes a cell.

    Of so many classes that a cell stands for several, it has the largest of their shares.
    """
    step = math.ceil(len(confusion) / _MOST_CELLS)
    rows, columns = np.nonzero(confusion)
    found = np.zeros([math.ceil(len(confusion) / step)] * 2)
    values = confusion[rows, columns] / confusion.sum(axis=1)[rows]
    np.maximum.at(found, (rows // step, columns // step), values)
    return found, step


def _list_confusions(axes, confusion: np.ndarray, class_names: Sequence[str], words: Words) -> None:
    """Writes the most frequent confusions as a list."""
    axes.set_axis_off()
    axes.set_title(words("most frequent confusions"), fontsize=10, loc="left")
    lines = [
        words(
            "{count} × {label} as {taken}",
            count=words.count(times),
            label=plain(class_names[label]),
            taken=plain(class_names[taken]),
        )
        for label, taken, times in metrics.most_confused(confusion, _MOST_LISTED)
    ]
    text = "\n".join(lines) or words("none")
    axes.text(0, 1, text, va="top", fontsize=8, linespacing=1.6, transform=axes.transAxes)


def pareto(
    points: Sequence[tuple[float, float, tuple[float, float], str]], cost: str, accuracy: str
) -> bytes:
    """Accuracy against cost as a PNG; a line joins those that none beats in both.

    Args:
      points: cost, accuracy, the ends of its interval, and name.
      cost, accuracy: what the axes are named.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    costs, accuracies, intervals, names = zip(*points, strict=True)
    front = comparison.pareto_front(costs, accuracies)
    axes.plot([costs[i] for i in front], [accuracies[i] for i in front], color="#2f7fd0", alpha=0.5)
    below = [a - low for a, (low, _) in zip(accuracies, intervals, strict=True)]
    above = [high - a for a, (_, high) in zip(accuracies, intervals, strict=True)]
    axes.errorbar(costs, accuracies, yerr=[below, above], fmt="o", capsize=4, color="#1c2733")
    for x, y, name in zip(costs, accuracies, names, strict=True):
        axes.annotate(plain(name), (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.margins(x=0.18)
    if max(costs) > 20 * max(min(costs), 1e-9) > 0:
        axes.set_xscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel(accuracy)
    axes.grid(alpha=0.3)
    return png(figure)


def png(figure) -> bytes:
    """A figure of matplotlib's as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that no font has is a box in the picture, which says as much.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def plain(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name on one line, shortened.

    Its dollar signs are escaped: matplotlib reads a pair of them as a formula.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    short = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return short.replace("$", r"\$")


def thumbnail(image: np.ndarray, value_range: tuple[float, float] | None) -> bytes:
    """A net's input, float32 [H, W, channels], as a JPEG.

    `value_range` holds the least and the greatest value; None takes those of the image.
    """
    low, high = value_range or (float(image.min()), float(image.max()))
    pixels = np.clip((image - low) / max(high - low, 1e-6) * 255 + 0.5, 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    # Small images are enlarged by whole factors, so that their pixels stay visible.
    factor = max(1, _THUMBNAIL_SIDE // max(picture.size))
    picture = picture.resize([side * factor for side in picture.size], Image.Resampling.NEAREST)
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()
