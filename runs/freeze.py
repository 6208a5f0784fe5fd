"""Freezes a graph of TF-Slim's with a checkpoint: the job of TensorFlow's freeze_graph.py."""

import os
import shlex
from collections.abc import Callable

import numpy as np

from foundation import files
from foundation.errors import InputError
from nets import checkpoints
from runs.options import ExportModelOptions
from serving import comparison, exporter, freezing, frozen_graph, latency

# Where neither the graph nor the options say how large the images are.
_SIDE = 299


def freeze(options: ExportModelOptions, say: Callable[[str], None] = print) -> str:
    """Writes --output_file: the graph of --freeze_graph with the weights of --checkpoint_path.

    Before the file takes its name it is opened again, and compared on images of noise with the
    graph as it was, whose variables get the checkpoint's values. No export.json is written: what it
    says of the net, the classes and the recipe is unknown here.

    Returns:
      its path.

    Raises:
      InputError: no graph, a checkpoint that does not fit it, answers that are not finite or not
        those of the graph, or the destination is taken.
      OSError: could not be written.
    """
    given = options.export
    exporter.check_destination(given)
    path, target = given.freeze_graph, given.output_file
    if not os.path.isfile(path):
        raise InputError("there is no such file.", option="freeze_graph", value=path)
    graph_def = freezing.read(path)
    reader = checkpoints.read(options.checkpoint.checkpoint_path)
    averages = bool(options.checkpoint.moving_average_decay)
    frozen = freezing.frozen(graph_def, path, reader, given.output_node_names, averages)
    last = (given.output_node_names or (frozen.node[-1].name,))[0]
    with files.whole(target, "wb") as file:
        file.write(frozen.SerializeToString())
        file.flush()
        net, shape = frozen_graph.load_foreign(file.name, output_layer=last)
        first = next(node.name for node in frozen.node if node.op == "Placeholder")
        side = given.image_size or (shape[1] if len(shape) == 4 and shape[1] else _SIDE)
        channels = shape[3] if len(shape) == 4 and shape[3] else 3
        batch_size = shape[0] if shape else None
        noise = np.random.default_rng(0).uniform(-1, 1, (batch_size or 4, side, side, channels))
        noise = noise.astype(np.float32)
        expected = freezing.answers(graph_def, path, reader, (first, last), noise, averages)
        off = _compared(net(noise)["logits"], expected, reader.path, given.allow_mismatch)
        times = latency.of_net(net, noise.shape[1:], (batch_size,) if batch_size else (1, 8))
    say(
        f"{target}  {os.path.getsize(target) / 2**20:.1f} MiB, {len(frozen.node)} nodes, weights "
        f"of {reader.path}; "
        + ", ".join(f"{time:.1f} ms for a batch of {size}" for size, time in times.items())
    )
    say(
        f"Compared with {path} itself on {len(noise)} images of noise: logits within {off:.1e} of "
        "the largest."
    )
    say(f"Graph nodes: {first} -> {last}")
    layers = [f"--input_layer={first}", f"--output_layer={last}", f"--image_size={side}"]
    words = [f"--model={target}", "--labels=labels.txt", *layers, "photo.jpg"]
    say(f"Next: {shlex.join(['python', 'classify_image.py', *words])}")
    return target


def _compared(
    found: np.ndarray, expected: np.ndarray, checkpoint: str, allow_mismatch: bool
) -> float:
    """How far logits are from what the graph itself gives, as a fraction of the largest."""
    if not np.isfinite(found).all():
        raise InputError(
            f"{checkpoint}: the graph gives no finite numbers with these weights. Nothing was "
            "written.",
            remedy="Take an earlier checkpoint.",
        )
    wanted = frozen_graph.answers(expected.reshape(found.shape))["logits"]
    off = comparison.difference(found, wanted)
    allowed = comparison.TOLERANCE["float32"]
    if off > allowed and not allow_mismatch:
        raise InputError(
            f"The frozen graph does not give the numbers of the graph itself: logits off by "
            f"{off:.2g} of the largest, where {allowed:g} is allowed. Nothing was written.",
            remedy="Report it. --allow_mismatch would keep it.",
        )
    return off
