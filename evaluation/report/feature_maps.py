"""Pictures of a net at work: feature maps, the filters of its first layer, and Grad-CAM."""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.report import pictures

_COLUMNS = 8
_CELL = 96  # pixels of a map or a filter, at least
_GAP = 4


def grid(picture: np.ndarray, found: Mapping[str, np.ndarray], num_filters: int) -> bytes:
    """The picture, and below it the maps of each end point as a grid; a PNG.

    Of each end point those filters are shown whose maps vary most over the picture, the most
    varying first, each from its least value (dark) to its greatest.

    Args:
      picture: uint8 [S, S, 3], what the net saw.
      found: end point → its maps, float32 [h, w, C].
      num_filters: how many are shown, where there are as many.
    """
    sheets = {}
    for name, maps in found.items():
        chosen = np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:num_filters]
        height, width, count = maps.shape
        numbers = ", ".join(map(str, chosen[:_COLUMNS])) + (", …" if len(chosen) > _COLUMNS else "")
        title = f"{name}: {height} x {width} x {count}, filters {numbers}"
        sheets[title] = _coloured(_tiles([_stretched(maps[..., i]) for i in chosen]))
    return _page({"what the net saw": picture, **sheets})


def filters(kernel: np.ndarray, name: str) -> bytes:
    """The filters of a convolution as small pictures, each from its least to its greatest value.

    Args:
      kernel: float32 [h, w, channels, filters]; three channels are red, green and blue.
      name: of the layer.
    """
    height, width, channels, count = kernel.shape
    shown = kernel if channels in (1, 3) else kernel.mean(axis=2, keepdims=True)
    tiles = [_stretched(shown[..., i]) for i in range(count)]
    sheet = _tiles([np.broadcast_to(tile, (height, width, 3)) for tile in tiles])
    return _page({f"{name}: {count} filters of {height} x {width} x {channels}": sheet})


def heat(picture: np.ndarray, overlays: Mapping[str, np.ndarray]) -> bytes:
    """The picture, and beside it the same under the heat of each class; a PNG.

    Args:
      picture: uint8 [S, S, 3], what the net saw.
      overlays: words of a class → uint8 [S, S, 3].
    """
    from matplotlib.figure import Figure

    parts = {"what the net saw": picture, **overlays}
    figure = Figure(figsize=(3.2 * len(parts), 3.6), layout="constrained")
    for axes, (title, pixels) in zip(figure.subplots(1, len(parts)), parts.items(), strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(pictures.plain(title, 120), fontsize=10)
        axes.set_axis_off()
    return pictures.png(figure)


def _stretched(values: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-12)


def _tiles(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Cells [h, w] or [h, w, 3] of one size side by side in rows, enlarged; NaN between them."""
    height, width = cells[0].shape[:2]
    factor = max(1, round(_CELL / max(height, width)))
    cells = [np.kron(cell, np.ones((factor, factor, 1)[: cell.ndim])) for cell in cells]
    height, width, *rest = cells[0].shape
    rows = -(-len(cells) // _COLUMNS)
    columns = min(len(cells), _COLUMNS)
    size = rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP
    sheet = np.full((*size, *rest), np.nan)
    for i, cell in enumerate(cells):
        top, left = (i // _COLUMNS) * (height + _GAP), (i % _COLUMNS) * (width + _GAP)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def _coloured(sheet: np.ndarray) -> np.ndarray:
    """[H, W] in 0..1 as colours, float [H, W, 3]; NaN stays."""
    from matplotlib import colormaps

    return np.where(np.isnan(sheet)[..., None], np.nan, colormaps["viridis"](sheet)[..., :3])


def _page(sheets: Mapping[str, np.ndarray]) -> bytes:
    """Sheets of colours, one below the other under their titles; a PNG."""
    from matplotlib.figure import Figure

    heights = [0.35 + 9 * min(sheet.shape[0] / sheet.shape[1], 0.35) for sheet in sheets.values()]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    places = figure.subplots(len(sheets), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (title, sheet) in zip(places, sheets.items(), strict=True):
        colours = sheet if sheet.dtype == np.uint8 else np.nan_to_num(sheet, nan=1.0)
        axes.imshow(colours, interpolation="nearest")
        axes.set_title(pictures.plain(title, 120), fontsize=9, loc="left")
        axes.set_anchor("W")
        axes.set_axis_off()
    return pictures.png(figure)
