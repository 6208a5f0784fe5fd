"""curves.png: a run's losses, accuracies, learning rate and speed over its steps."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# The best evaluation is marked in all panels.
_MARK = "#b04a1e"


class _Line(NamedTuple):
    """A column of history.csv, what it is called, and how it is drawn."""

    column: str
    name: str
    style: Mapping[str, object]


_TRAINING, _VALIDATION = {"color": "#2f7fd0"}, {"color": "#d9622b", "marker": "."}
_PART = {"linewidth": 0.8, "linestyle": "--"}
_PANELS = {
    "loss": (
        _Line("loss", "training, with the penalty on weights", _TRAINING),
        _Line("main", "training, main loss", {**_PART, "color": "#7fb2e5"}),
        _Line("auxiliary", "training, auxiliary loss", {**_PART, "color": "#5aa469"}),
        _Line("eval_loss", "validation", _VALIDATION),
    ),
    "accuracy": (
        _Line("accuracy", "training, on augmented images", _TRAINING),
        _Line("eval_accuracy", "validation", _VALIDATION),
        _Line("eval_recall_5", "validation, recall at 5", {**_PART, "color": "#e0a585"}),
    ),
    "learning rate": (_Line("learning_rate", "learning rate", _TRAINING),),
    "images per second": (_Line("images_per_second", "images per second", _TRAINING),),
}


def best_step(rows: Sequence[Mapping[str, float]]) -> tuple[int, float] | None:
    """Step and accuracy of the best evaluation, the first of equal ones; None without any."""
    found = [(row["eval_accuracy"], -row["step"]) for row in rows if "eval_accuracy" in row]
    if not found:
        return None
    accuracy, step = max(found)
    return int(-step), accuracy


def png(rows: Sequence[Mapping[str, float]], title: str) -> bytes:
    """The curves of the rows of history.csv, of which some have other columns than others."""
    # Here, not above: it takes a second that no run should wait for at its start.
    from matplotlib.figure import Figure

    known = {name for row in rows for name in row}
    panels = {
        label: [line for line in lines if line.column in known] for label, lines in _PANELS.items()
    }
    panels = {label: lines for label, lines in panels.items() if lines}
    figure = Figure(figsize=(8, 3 * len(panels)), layout="constrained")
    figure.suptitle(title.replace("$", r"\$"))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    best = best_step(rows)
    for axis, (label, lines) in zip(axes, panels.items(), strict=True):
        for line in lines:
            points = [(row["step"], row[line.column]) for row in rows if line.column in row]
            axis.plot(*zip(*points, strict=True), label=line.name, **line.style)
        if best:
            name = f"best: {best[1]:.4f} at step {best[0]}" if label == "accuracy" else None
            axis.axvline(best[0], color=_MARK, linestyle=":", label=name)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if len(lines) > 1 or label == "accuracy":
            axis.legend(fontsize=8)
    axes[-1].set_xlabel("step")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
