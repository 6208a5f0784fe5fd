"""What a run shows: TensorBoard events, history.csv and curves.png."""

import csv
import os

import numpy as np
import tensorflow as tf

from training.loop import Progress

HISTORY = "history.csv"
CURVES = "curves.png"


class RunLog:
    """Writes what TensorBoard, a spreadsheet and a picture need of a run."""

    def __init__(self, train_dir: str, first_step: int):
        """Opens the files; rows of history.csv after `first_step` are of a lost stretch and go."""
        self._train_dir = train_dir
        self._events = tf.summary.create_file_writer(train_dir)
        self._rows = [row for row in _read_history(train_dir) if row["step"] <= first_step]

    def progress(self, progress: Progress) -> None:
        """Adds one log line's numbers."""
        row = {
            "step": progress.step,
            **progress.losses,
            "learning_rate": progress.learning_rate,
            "images_per_second": progress.images_per_second,
            "input_share": progress.input_share,
        }
        with self._events.as_default(step=progress.step):
            for name, value in row.items():
                if name != "step":
                    tf.summary.scalar(_TAGS.get(name, f"losses/{name}"), value)
        self._events.flush()
        self._rows.append(row)

    def images(self, images: np.ndarray, step: int) -> None:
        """Shows a few pictures as the net sees them, stretched to 0..1.

        Args:
          images: float32 [N, H, W, C] in any range.
          step: of the batch.
        """
        few = np.asarray(images, np.float32)
        low, high = few.min(), few.max()
        with self._events.as_default(step=step):
            tf.summary.image("inputs", (few - low) / max(high - low, 1e-6), max_outputs=len(few))

    def text(self, name: str, content: str) -> None:
        """Shows a text (Markdown)."""
        with self._events.as_default(step=0):
            tf.summary.text(name, content)

    def save(self) -> None:
        """Writes history.csv and curves.png; call it with each checkpoint."""
        self._write_history()
        self._draw_curves()

    def _draw_curves(self) -> None:
        """Draws loss, learning rate and speed over the steps."""
        if len(self._rows) < 2:
            return
        # Here, not above: it takes a second that no run should wait for at its start.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 9), layout="constrained")
        axes = figure.subplots(3, 1, sharex=True)
        steps = [row["step"] for row in self._rows]
        parts = [name for name in self._rows[-1] if name not in ("step", *_TAGS_APART)]
        for name in parts:
            axes[0].plot(steps, [row.get(name, np.nan) for row in self._rows], label=name)
        axes[0].set_ylabel("loss")
        axes[0].legend()
        for axis, name in zip(axes[1:], ("learning_rate", "images_per_second"), strict=True):
            axis.plot(steps, [row.get(name, np.nan) for row in self._rows])
            axis.set_ylabel(name.replace("_", " "))
        axes[2].set_xlabel("step")
        for axis in axes:
            axis.grid(alpha=0.3)
        path = os.path.join(self._train_dir, CURVES)
        figure.savefig(f"{path}.tmp", format="png", dpi=100)
        os.replace(f"{path}.tmp", path)

    def close(self) -> None:
        """Flushes what is still in memory."""
        self._events.close()

    def _write_history(self) -> None:
        path = os.path.join(self._train_dir, HISTORY)
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with open(f"{path}.tmp", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)
        os.replace(f"{path}.tmp", path)


_TAGS_APART = ("learning_rate", "images_per_second", "input_share")
_TAGS = {
    "loss": "losses/total",
    "learning_rate": "learning_rate",
    "images_per_second": "speed/images_per_second",
    "input_share": "speed/input_share",
}


def _read_history(train_dir: str) -> list[dict[str, float]]:
    try:
        with open(os.path.join(train_dir, HISTORY), newline="", encoding="utf-8") as file:
            return [
                {name: _number(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)
