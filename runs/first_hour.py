"""What to do with a dataset that was just made: which recipe fits it and this machine."""

import os
import shlex
from collections.abc import Iterator

from datasets import splits
from datasets.conversion.destination import Destination
from datasets.conversion.tally import WHOLE, Conversion
from foundation import machine
from nets import speed
from runs import durations
from runs.options import TrainOptions

_MANY = 100_000  # photographs, from which a training of all layers is worth its time
_FEW, _ENOUGH = 20, 200  # photographs a class


def lines(conversion: Conversion, destination: Destination) -> Iterator[str]:
    """Commands that train on a dataset, the best first, each with its time and what to expect."""
    split = conversion.counts.get(splits.TRAIN) or conversion.counts.get(WHOLE) or {}
    count, classes = sum(split.values()), max(1, len(conversion.classes))
    if count >= _MANY:
        yield from _advice(destination, "fine_tune", count)
        yield "      starts from ImageNet's weights, which it downloads once."
        yield "  On eight GPUs, from random weights: --recipe=imagenet_8gpu."
        return
    yield from _advice(destination, "quick_transfer", count)
    yield "      starts from ImageNet's weights, which it downloads once."
    yield f"      {_expect(count // classes)}"
    yield "  or, without them:"
    yield from _advice(destination, "from_scratch_small", count)
    yield "      knows only what these photographs show it: expect clearly less."


def _advice(destination: Destination, recipe: str, count: int) -> Iterator[str]:
    options = TrainOptions.of(recipe=recipe)
    where = f"on {machine.num_processors()} processors"
    time = speed.duration(durations.estimated(options, durations.work_of(options, count)))
    if speed.has_gpu():
        where += ", less on the GPU"
    yield f"  {_command(destination, recipe)}"
    yield f"      {count} photographs, {time} {where};"


def _expect(per_class: int) -> str:
    if per_class < _FEW:
        return f"With {per_class} photographs a class it is a first impression: add more."
    if per_class < _ENOUGH:
        return f"{per_class} photographs a class do for classes that differ at a glance."
    return f"With {per_class} photographs a class --recipe=fine_tune may gain some points more."


def _command(destination: Destination, recipe: str) -> str:
    words = ["python", "train_image_classifier.py"]
    if destination.is_file:
        words.append(f"--tfrecord_file={os.path.join(destination.folder, destination.name)}")
    else:
        words += [f"--dataset_dir={destination.folder}", f"--dataset_name={destination.name}"]
    name = destination.name.split(".")[0]
    return shlex.join([*words, f"--train_dir={name}_train", f"--recipe={recipe}"])
