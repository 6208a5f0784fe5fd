"""Pictures of an evaluation: the confusion matrix, and thumbnails of what the net saw."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from evaluation import comparison

_THUMBNAIL_SIDE = 128  # pixels
_MOST_NAMED_CLASSES = 60  # beyond, names would overlap
_MOST_COUNTED_CLASSES = 25  # beyond, counts would not fit into their cells
_LONGEST_NAME = 24  # characters


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The matrix as a PNG: colours are shares of the true class, numbers are examples."""
    # Imported here because it takes a second, which training need not spend.
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
        names = [_plain(name) for name in class_names]
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
        axes.annotate(_plain(name), (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.margins(x=0.18)
    if max(costs) > 20 * max(min(costs), 1e-9) > 0:
        axes.set_xscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel(accuracy)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _plain(name: str) -> str:
    """A name shortened, its dollar signs escaped: matplotlib reads a pair of them as a formula."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
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
