"""Pictures of single answers: a plot of the picture and its classes, and thumbnails."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image

from evaluation.report import pictures

_THUMBNAIL_SIDE = 360  # pixels; the page shows half of it, for screens of double density
_PLOT_SIDE = 900  # of the picture in a plot, in pixels
_LONGEST_NAME = 26  # characters a line


def plot(
    encoded: bytes,
    title: str,
    classes: Sequence[tuple[str, float]],
    heat: np.ndarray | None = None,
) -> bytes:
    """The picture beside a bar chart of its classes, as a PNG.

    Args:
      encoded: the picture, JPEG or PNG.
      title: what stands above, such as the file's name.
      classes: (label, probability), likeliest first.
      heat: uint8 [h, w, 3], which places led to the likeliest class; drawn between both.
    """
    # Imported here because it takes a second.
    from matplotlib.figure import Figure

    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    image.thumbnail((_PLOT_SIDE, _PLOT_SIDE))
    shown = [image] if heat is None else [image, Image.fromarray(heat)]
    height = 3.6
    widths = [height * min(max(one.width / one.height, 0.6), 1.6) for one in shown]
    figure = Figure(figsize=(sum(widths) + 4.6, height + 0.3), layout="constrained")
    *places, bars = figure.subplots(1, len(shown) + 1, width_ratios=[*widths, 4.2])
    for axes, one in zip(places, shown, strict=True):
        axes.imshow(one)
        axes.set_axis_off()
    places[0].set_title(pictures.plain(title, 44), fontsize=10)
    if heat is not None:
        places[1].set_title(f"which places led to {pictures.plain(classes[0][0])}", fontsize=10)
    _draw_bars(bars, classes)
    return pictures.png(figure)


def _draw_bars(axes, classes: Sequence[tuple[str, float]]) -> None:
    names = [textwrap.fill(pictures.plain(label, 60), _LONGEST_NAME) for label, _ in classes]
    shares = [probability for _, probability in classes]
    places = range(len(classes))
    axes.barh(places, shares, color=["#2f7fd0", *["#9dbfe3"] * (len(classes) - 1)], height=0.62)
    axes.set_yticks(places, names, fontsize=10)
    axes.invert_yaxis()
    axes.set_ylim(max(len(classes), 3) - 0.4, -0.6)
    axes.set_xlim(0, 1.16)  # so that there is room for the numbers
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for place, share in zip(places, shares, strict=True):
        axes.text(share + 0.015, place, f"{100 * share:.1f} %", va="center", fontsize=9)


def thumbnail(encoded: bytes) -> bytes:
    """A small JPEG of a picture, JPEG or PNG, in its own proportions."""
    image = Image.open(io.BytesIO(encoded))
    # JPEG decodes to a half, a quarter or an eighth by itself.
    image.draft("RGB", (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return _jpeg(image.convert("RGB"))


def jpeg(pixels: np.ndarray) -> bytes:
    """A small JPEG of pixels, uint8 [h, w, 3]."""
    return _jpeg(Image.fromarray(pixels))


def _jpeg(image: Image.Image) -> bytes:
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
