"""What a run shows: TensorBoard events, history.csv and curves.png."""

import contextlib
import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from foundation import files
from training import curves
from training.log import Sink
from training.loop import Progress

HISTORY = "history.csv"
CURVES = "curves.png"
# More of a tensor than this, evenly taken, draws no better histogram.
_HISTOGRAM_VALUES = 100_000


class RunLog(Sink):
    """Writes what TensorBoard, a spreadsheet and a picture need of a run."""

    def __init__(self, train_dir: str, first_step: int, say: Callable[[str], None] = print):
        """Opens the files.

        Args:
          train_dir: folder of the run.
          first_step: that the run goes on from; later rows of history.csv are dropped.
          say: gets a line where history.csv is damaged and set aside.
        """
        self._train_dir = train_dir
        self._events = tf.summary.create_file_writer(train_dir)
        self._rows = [row for row in _read_history(train_dir, say) if row["step"] <= first_step]

    def progress(self, progress: Progress) -> None:
        """Adds one log line's numbers."""
        tagged = progress.tagged()
        with self._writing(progress.step):
            for tag, value in tagged.items():
                tf.summary.scalar(tag, value)
            self._events.flush()
        self._rows.append({"step": progress.step} | {_column(tag): tagged[tag] for tag in tagged})

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds what an evaluation found: name → number."""
        with self._writing(step):
            for name, value in metrics.items():
                tf.summary.scalar(f"eval/{name}", value)
        named = {f"eval_{name.lower()}": value for name, value in metrics.items()}
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1] |= named
        else:
            self._rows.append({"step": step, **named})

    def rewind(self, step: int) -> None:
        """Takes rows after `step` back: the run goes on from there."""
        self._rows = [row for row in self._rows if row["step"] <= step]

    def images(self, images: np.ndarray, step: int) -> None:
        """Shows a few pictures as the net sees them, stretched to 0..1.

        Args:
          images: float32 [N, H, W, C] in any range.
          step: of the batch.
        """
        few = np.asarray(images, np.float32)
        low, high = few.min(), few.max()
        with self._writing(step):
            tf.summary.image("inputs", (few - low) / max(high - low, 1e-6), max_outputs=len(few))

    def text(self, name: str, content: str) -> None:
        """Shows a text (Markdown)."""
        with self._writing(0):
            tf.summary.text(name, content)

    def hyperparameters(self, values: Mapping[str, object]) -> None:
        """Lists the run in TensorBoard's HParams; values are bool, int, float or str."""
        from tensorboard.plugins.hparams import api

        metrics = [api.Metric(tag) for tag in ("losses/total", "eval/Accuracy")]
        with self._writing(0):
            api.hparams_config([api.HParam(name) for name in values], metrics)
            api.hparams(dict(values))

    def histograms(
        self, variables: Mapping[str, np.ndarray], activations: Mapping[str, np.ndarray], step: int
    ) -> None:
        """Shows how values are spread, under TF-Slim's tags, and what share of each end point is 0.

        Args:
          variables: values by slim name.
          activations: end points by name, as a few images gave them.
          step: of the values.
        """
        from tensorboard.plugins.histogram import summary

        named = variables | {f"activations/{name}": value for name, value in activations.items()}
        with self._writing(step):
            for name, value in named.items():
                # TensorBoard's own tf.summary.histogram takes 240 bytes for each value.
                part = np.ravel(value)[:: math.ceil(np.size(value) / _HISTOGRAM_VALUES)]
                histogram = summary.histogram_pb(name, part[np.isfinite(part)])
                tf.summary.experimental.write_raw_pb(histogram.SerializeToString())
            for name, value in activations.items():
                tf.summary.scalar(f"sparsity/{name}", np.mean(value == 0))

    def save(self) -> None:
        """Writes history.csv; call it before each checkpoint. Raises OSError."""
        self._write_history()

    def plot(self) -> None:
        """Plots curves.png; raises OSError."""
        if len(self._rows) < 2:
            return
        title = f"Training in {os.path.basename(os.path.abspath(self._train_dir))}"
        content = curves.png(self._rows, title)
        with files.whole(os.path.join(self._train_dir, CURVES), "wb") as file:
            file.write(content)

    def close(self, status: str) -> None:
        """Flushes what is still in memory."""
        self._events.close()

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        """Summaries of the block go to the events; raises OSError where they can't be written."""
        try:
            with self._events.as_default(step=step):
                yield
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise OSError(f"{self._train_dir}: events can't be written: {reason}") from error

    def _write_history(self) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with files.whole(os.path.join(self._train_dir, HISTORY), newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)


def _column(tag: str) -> str:
    """The column of history.csv for a tag of TensorBoard."""
    return "loss" if tag == "losses/total" else tag.rpartition("/")[2]


def _read_history(train_dir: str, say: Callable[[str], None]) -> list[dict[str, float]]:
    """The rows of history.csv; none where it is absent, or damaged and therefore renamed."""
    path = os.path.join(train_dir, HISTORY)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                {name: _number(value) for name, value in row.items() if value}
                for row in csv.DictReader(file, strict=True)
            ]
        if any("step" not in row for row in rows):
            raise ValueError("a row without a step")
        return rows
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        aside = f"{path}.damaged"
        os.replace(path, aside)
        say(f"Warning: {path} is damaged ({error}); it is now {aside}, and a new one is begun.")
        return []


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)
