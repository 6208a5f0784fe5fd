"""Where the numbers of a run go: the screen, TensorBoard, history.csv, MLflow."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from runs import config as run_config
from training import loop, summaries, tracking


class Log:
    """Sends what happens to the screen, to TensorBoard, to history.csv and to MLflow."""

    def __init__(self, run, say: Callable[[str], None], tracked: tracking.MlflowRun | None = None):
        self._run, self._say, self._tracked = run, say, tracked
        self._files = summaries.RunLog(run.options.train_dir, run.first_step, say)
        self._files.text("flags", _as_table(run.config.flags.items()))
        self._files.hyperparameters(run.hyperparameters())
        self._shown_at, self._spread_at = -math.inf, time.monotonic()

    def progress(self, progress: loop.Progress) -> None:
        self._files.progress(progress)
        if self._tracked:
            self._tracked.progress(progress)
        self._say(_progress_line(progress, self._run.options.last_step))
        interval = self._run.options.save_summaries_secs
        images = self._run.step.images
        shown = self._run.options.add_image_summaries and tf.is_tensor(images)
        if shown and 0 < interval <= time.monotonic() - self._shown_at:
            self._files.images(images.numpy(), progress.step)
            self._shown_at = time.monotonic()
        if 0 < interval <= time.monotonic() - self._spread_at:
            self.histograms(progress.step)

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        """What an evaluation inside the run found."""
        self._files.evaluation(metrics, step)
        if self._tracked:
            self._tracked.metrics({f"eval/{name}": v for name, v in metrics.items()}, step)
        shown = "  ".join(f"eval/{name}[{value:.4f}]" for name, value in metrics.items())
        self._say(f"step {step}  {shown}")

    def rewind(self, step: int) -> None:
        """Forgets what came after `step`: the run goes on from there."""
        self._files.rewind(step)

    def histograms(self, step: int) -> None:
        """TF-Slim's summaries of variables and end points; they cost seconds, so not at once."""
        if self._run.options.save_summaries_secs:
            self._files.histograms(*self._run.tensors(), step)
            self._spread_at = time.monotonic()

    def save(self) -> None:
        """Writes history.csv; raises OSError."""
        self._files.save()

    def draw(self) -> None:
        """Draws curves.png; a picture is no reason to end a run."""
        try:
            self._files.draw()
        except OSError as error:
            self._say(f"Warning: {error}")

    def close(self, status: str) -> None:
        """Ends it: "FINISHED", "KILLED" by a signal, or "FAILED"."""
        if status == "FAILED":
            # What led there would else be lost with the rows since the last checkpoint.
            with contextlib.suppress(OSError):
                self._files.save()
            self.draw()
        self._files.close()
        if self._tracked:
            for name in (summaries.HISTORY, summaries.CURVES, run_config.FILE_NAME):
                path = os.path.join(self._run.options.train_dir, name)
                if os.path.exists(path):
                    self._tracked.file(path)
            self._tracked.close(status)


class Silence:
    """What workers besides the chief log."""

    def progress(self, progress: loop.Progress) -> None:
        pass

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def histograms(self, step: int) -> None:
        pass

    def save(self) -> None:
        pass

    def draw(self) -> None:
        pass

    def close(self, status: str) -> None:
        pass


def _progress_line(progress: loop.Progress, last: int | None) -> str:
    parts = [f"step {progress.step}" + (f"/{last}" if last else "")]
    parts.append(f"loss {progress.losses['loss']:.4f}")
    parts.append(f"learning rate {progress.learning_rate:.3g}")
    if progress.compiled:
        parts.append(f"(took {progress.seconds_per_step:.1f} s: the first compiles the others)")
        return "  ".join(parts)
    parts.append(f"{progress.images_per_second:.1f} images/s")
    if progress.input_share >= 0.05:
        parts.append(f"waiting {progress.input_share:.0%} of the time for images")
    if progress.seconds_left:
        minutes, seconds = divmod(math.ceil(progress.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    return "  ".join(parts)


def _as_table(rows: Iterable[tuple[str, object]]) -> str:
    lines = (f"| {name} | {value} |" for name, value in sorted(rows))
    return "\n".join(["| flag | value |", "|---|---|", *lines])
