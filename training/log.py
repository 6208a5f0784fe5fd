"""Where the numbers of a run go: one protocol for the screen, history.csv, TensorBoard, MLflow."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from foundation.lines import Line
from training.loop import Progress

Tensors = Mapping[str, np.ndarray]


class Sink:
    """A place for what happens in a run; each keeps what concerns it."""

    def progress(self, progress: Progress) -> None:
        """The numbers of a log line."""

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        """What an evaluation inside the run found: name → number."""

    def images(self, images: np.ndarray, step: int) -> None:
        """A few images as the net saw them, float32 [N, H, W, C] in any range."""

    def histograms(self, variables: Tensors, activations: Tensors, step: int) -> None:
        """Values of variables by slim name, and end points of a few images by name."""

    def rewind(self, step: int) -> None:
        """What came after `step` did not happen: the run goes on from there."""

    def check(self) -> None:
        """A checkpoint is due; raises InputError where its folder is no longer the run's."""

    def save(self) -> None:
        """A checkpoint follows; raises OSError."""

    def plot(self) -> None:
        """A checkpoint was written; raises OSError."""

    def close(self, status: str) -> None:
        """The run is over: "FINISHED", "KILLED" by a signal, or "FAILED"."""


class Screen(Sink):
    """Lines for the screen."""

    def __init__(
        self, say: Callable[[str], None], last_step: int | None = None, cached: bool = False
    ):
        """`cached`: images come as features from the cache, not as pixels."""
        self._say, self._last_step = say, last_step
        self._images = "cached images" if cached else "images"

    def progress(self, progress: Progress) -> None:
        last = f"/{self._last_step}" if self._last_step else ""
        parts = [f"step {progress.step}{last}", f"loss {progress.losses['loss']:.4f}"]
        parts.append(f"learning rate {progress.learning_rate:.3g}")
        numbers = dataclasses.asdict(progress) | {"last_step": self._last_step}
        if progress.compiled:
            parts.append(f"(took {progress.seconds_per_step:.1f} s: the first compiles the others)")
            return self._say(Line("  ".join(parts), "progress", **numbers))
        parts.append(f"{progress.images_per_second:.1f} {self._images}/s")
        if progress.input_share >= 0.05:
            parts.append(f"waiting {progress.input_share:.0%} of the time for images")
        if progress.seconds_left:
            minutes, seconds = divmod(math.ceil(progress.seconds_left), 60)
            hours, minutes = divmod(minutes, 60)
            parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
        self._say(Line("  ".join(parts), "progress", **numbers))

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        shown = "  ".join(f"eval/{name}[{value:.4f}]" for name, value in metrics.items())
        numbers = {"step": step, "metrics": dict(metrics)}
        self._say(Line(f"step {step}  {shown}", "evaluation", **numbers))


class Log:
    """Passes what happens to several sinks; the costly things every `summaries_secs` seconds.

    Workers besides the chief have one without sinks.
    """

    def __init__(
        self,
        sinks: Sequence[Sink] = (),
        say: Callable[[str], None] = print,
        summaries_secs: float = 0,
        show_images: bool = True,
    ):
        """
        Args:
          sinks: where it goes.
          say: gets a line where a picture can't be written.
          summaries_secs: seconds between two sets of images and of histograms; 0: none.
          show_images: whether images are shown at all.
        """
        self._sinks, self._say = tuple(sinks), say
        self._interval, self._show_images = summaries_secs, show_images
        self._images_at, self._histograms_at = -math.inf, time.monotonic()

    def progress(
        self, progress: Progress, images: object, tensors: Callable[[], tuple[Tensors, Tensors]]
    ) -> None:
        """A log line's numbers; `images` of the last batch, and `tensors` as in `histograms`."""
        for sink in self._sinks:
            sink.progress(progress)
        shown = self._show_images and tf.is_tensor(images)  # features from the cache are no images
        if shown and self._is_time(self._images_at):
            for sink in self._sinks:
                sink.images(images.numpy(), progress.step)
            self._images_at = time.monotonic()
        if self._is_time(self._histograms_at):
            self.histograms(progress.step, tensors)

    def _is_time(self, last: float) -> bool:
        return 0 < self._interval <= time.monotonic() - last

    def histograms(self, step: int, tensors: Callable[[], tuple[Tensors, Tensors]]) -> None:
        """TF-Slim's summaries of variables and end points; they cost seconds."""
        if not self._interval or not self._sinks:
            return
        found = tensors()
        for sink in self._sinks:
            sink.histograms(*found, step)
        self._histograms_at = time.monotonic()

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        for sink in self._sinks:
            sink.evaluation(metrics, step)

    def rewind(self, step: int) -> None:
        for sink in self._sinks:
            sink.rewind(step)

    def check(self) -> None:
        """Call it before anything is written; raises InputError where it must not be."""
        for sink in self._sinks:
            sink.check()

    def save(self) -> None:
        """Call it before each checkpoint; raises OSError."""
        for sink in self._sinks:
            sink.save()

    def plot(self) -> None:
        """Call it after each checkpoint. A picture that can't be written ends no run."""
        for sink in self._sinks:
            try:
                sink.plot()
            except OSError as error:
                self._say(f"Warning: {error}")

    def close(self, status: str) -> None:
        """Ends the log: "FINISHED", "KILLED" by a signal, or "FAILED"."""
        if status == "FAILED":
            # Else the rows since the last checkpoint, which led to the failure, would be lost.
            with contextlib.suppress(InputError):
                self.check()
                with contextlib.suppress(OSError):
                    self.save()
                self.plot()
        for sink in self._sinks:
            sink.close(status)
