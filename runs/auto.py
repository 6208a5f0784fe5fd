"""--model_name=auto: the best net whose training fits --max_minutes on this machine, measured."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import keras

from datasets.tfrecord_dataset import Dataset
from foundation.errors import InputError
from foundation.options import changed
from nets import names, published, speed
from nets.options import PRETRAINED
from runs import durations
from runs.options import TrainOptions
from training import batch_size
from training.distribution import Distribution
from training.restoring import NetConfig

# From random weights: by what they reach on ImageNet, which all of them were trained on like that.
_FROM_SCRATCH = (
    *("mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v1", "mobilenet_v2"),
    *("inception_v1", "resnet_v1_50", "inception_v3"),
)
# They drop paths at random all over the net, so that an image has other features in each epoch.
_NOT_CACHED = ("efficientnet", "convnext", "nasnet_large", "pnasnet_large")
# A rule of thumb: with more weights than this an image, a net learns its few pictures by heart.
_WEIGHTS_AN_IMAGE = 5_000
_LARGEST = 14e9  # multiply-adds; larger nets take more than a minute to be measured
_MEASURING_SECS = 30.0  # after which no further net is measured
_BATCH = 8
_SHARE = 0.9  # of the time; the rest is for evaluation and checkpoints
_SHOWN = 3  # nets in the table on either side of those that were measured


@dataclasses.dataclass
class _Candidate:
    """A net, and how many images a second its training sees: estimated, then perhaps measured."""

    name: str
    rank: float
    size: int
    per_second: float
    measured: bool = False
    problem: str = ""


def choose(
    options: TrainOptions,
    dataset: Dataset,
    distribution: Distribution,
    say: Callable[[str], None] = print,
) -> TrainOptions:
    """The options with a net in place of `auto`, and why, as a table for the screen.

    Where not even the fastest net can do all epochs in time, it gets as many as fit.

    Args:
      options: of the training, with --max_minutes.
      dataset: the training split.
      distribution: where the net is measured.
      say: gets lines for the screen.

    Raises:
      InputError: no net sees every image once in the time.
    """
    return _Choice(options, dataset, distribution, say).made()


class _Choice:
    def __init__(
        self,
        options: TrainOptions,
        dataset: Dataset,
        distribution: Distribution,
        say: Callable[[str], None],
    ):
        self._options, self._dataset, self._say = options, dataset, say
        self._distribution = distribution
        self._began = time.monotonic()
        self._limit = _SHARE * options.training.length.max_seconds
        self._work = durations.work_of(options, dataset.num_examples)
        self._candidates = sorted(self._found(), key=lambda one: -one.rank)

    def made(self) -> TrainOptions:
        work, say = self._work, self._say
        length = self._options.training.length
        unit = "minute" if length.max_minutes == 1 else "minutes"
        epochs = "" if work.epochs is None else f", {work.epochs:.3g} epochs"
        say(
            f"--model_name=auto: {work.num_examples} images, {length.max_minutes:g} {unit}{epochs}"
            f", {self._way()}. Measuring for less than a minute …"
        )
        # The first measurement mends all estimates, which know nothing of a GPU or of other work.
        self._measure(max(self._candidates, key=lambda one: one.per_second))
        chosen = self._best(self._time) or self._best(self._first_epoch) or self._fastest()
        for line in self._table(chosen):
            say(line)
        changes: dict[str, object] = {"model_name": chosen.name}
        if work.epochs is not None and self._time(chosen) > self._limit:
            changes["num_epochs"] = self._fitting_epochs(chosen)
            say(f"{changes['num_epochs']} of {work.epochs:.3g} epochs fit into the time.")
        return changed(self._options, changes)

    def _fastest(self) -> _Candidate:
        """The fastest net; raises InputError where even it is too slow for a single epoch."""
        usable = [one for one in self._candidates if not one.problem]
        fastest = max(usable, key=lambda one: one.per_second, default=None)
        if fastest is None:
            raise InputError(
                f"no net can be built so: {self._candidates[0].problem}",
                option="model_name",
                value=names.AUTO,
            )
        if not fastest.measured:
            self._measure(fastest)
        if not fastest.problem and self._first_epoch(fastest) <= self._limit:
            return fastest
        needed = math.ceil(self._first_epoch(fastest) / _SHARE / 60)
        raise InputError(
            f"is too little for a single look at {self._work.num_examples} images: "
            f"{fastest.name}, the fastest net, takes {needed}.",
            option="max_minutes",
            value=f"{self._options.training.length.max_minutes:g}",
            remedy="Give more, or a smaller --train_image_size.",
        )

    def _found(self) -> Iterator[_Candidate]:
        """All nets that come into question, with estimates."""
        transfer = self._options.training.restoring.checkpoint_path == PRETRAINED
        for name in published.TOP_1 if transfer else _FROM_SCRATCH:
            few = _WEIGHTS_AN_IMAGE * self._work.num_examples
            if self._work.draws and name.startswith(_NOT_CACHED):
                continue
            if not transfer and names.parameters(name) > few and name != _FROM_SCRATCH[0]:
                continue
            size = self._options.training.batch.train_image_size or names.image_size(name)
            if names.multiply_adds(name) * (size / names.image_size(name)) ** 2 > _LARGEST:
                continue
            estimate = self._work.step(speed.forward_per_second(name, size))
            yield _Candidate(name, published.TOP_1[name], size, estimate)

    def _best(self, seconds: Callable[[_Candidate], float]) -> _Candidate | None:
        """The best net that is measured to take no longer than the time, or None."""
        while True:
            usable = [one for one in self._candidates if not one.problem]
            fitting = [one for one in usable if seconds(one) <= self._limit]
            if not fitting or fitting[0].measured:
                return fitting[0] if fitting else None
            if time.monotonic() - self._began > _MEASURING_SECS:
                return next((one for one in fitting if one.measured), None)
            self._measure(fitting[0])

    def _measure(self, candidate: _Candidate) -> None:
        """Replaces a net's estimate by a measurement, and mends the others' by its error."""
        net = NetConfig(
            candidate.name,
            self._dataset.num_classes,
            candidate.size,
            1 if self._options.recipe.use_grayscale else 3,
            self._options.net.net_options,
        )
        try:
            found = batch_size.images_per_second(
                self._options.training, net, self._distribution, _BATCH
            )
        except InputError as error:  # such as images too small for it
            candidate.problem = error.problem
            return
        finally:
            keras.backend.clear_session()
        error = found / candidate.per_second
        candidate.per_second, candidate.measured = found, True
        for other in self._candidates:
            if not other.measured:
                other.per_second *= error

    def _time(self, candidate: _Candidate) -> float:
        total = self._work.total(candidate.per_second)
        return self._first_epoch(candidate) if math.isinf(total) else total

    def _first_epoch(self, candidate: _Candidate) -> float:
        return self._work.first_epoch(candidate.per_second)

    def _fitting_epochs(self, candidate: _Candidate) -> int:
        first, work = self._first_epoch(candidate), self._work
        second = dataclasses.replace(work, epochs=2.0).total(candidate.per_second) - first
        return max(1, 1 + math.floor((self._limit - first) / max(second, 1e-9)))

    def _way(self) -> str:
        if self._work.draws:
            return "the frozen layers' features computed once"
        return "the head alone is trained" if self._work.frozen else "all layers are trained"

    def _table(self, chosen: _Candidate) -> Iterator[str]:
        """The nets around the chosen one, the best first."""
        at = [i for i, one in enumerate(self._candidates) if one.measured or one.problem]
        rows = [("net", "ImageNet", "size", "images/s", "first epoch", "all", "")]
        for one in self._candidates[max(0, min(at) - _SHOWN) : max(at) + _SHOWN + 1]:
            about = "" if one.measured else "~"
            total = self._work.total(one.per_second)
            rows.append(
                (
                    one.name,
                    f"{one.rank:.1f} %",
                    str(one.size),
                    f"{about}{one.per_second:.3g}",
                    f"{about}{_clock(self._first_epoch(one))}",
                    "" if math.isinf(total) else f"{about}{_clock(total)}",
                    self._verdict(one, chosen),
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [
                cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)
            ]
            yield f"  {'  '.join([*cells, row[-1]]).rstrip()}"
        yield "  ~: estimated. ImageNet: top-1 accuracy of the net's published weights."

    def _verdict(self, one: _Candidate, chosen: _Candidate) -> str:
        all_fits = self._time(chosen) <= self._limit
        cost = self._time if all_fits else self._first_epoch
        if one is chosen:
            return (
                f"chosen: the best of those {'that fit' if all_fits else 'whose first epoch fits'}"
            )
        if one.problem:
            return f"can't be built: {one.problem}"
        if cost(one) > self._limit:
            return "too slow"
        return "fits, but is less accurate" if one.rank <= chosen.rank else "not measured"


def _clock(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"
