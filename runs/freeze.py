"""Freezes a graph of TF-Slim's with a checkpoint: the job of TensorFlow's freeze_graph.py."""

import os
from collections.abc import Callable

import numpy as np

from foundation import files
from foundation.errors import InputError
from nets import checkpoints
from runs.options import ExportModelOptions
from serving import exporter, freezing, frozen_graph, latency

# Where neither the graph nor the options say how large the images are.
_SIDE = 299


def freeze(options: ExportModelOptions, say: Callable[[str], None] = print) -> str:
    """Writes --output_file: the graph of --freeze_graph with the weights of --checkpoint_path.

    The file is opened again and answers an image of noise before it takes its name.

    Returns:
      its path.

    Raises:
      InputError: no graph, a checkpoint that does not fit it, answers that are not finite, or the
        destination is taken.
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
    with files.whole(target, "wb") as file:
        file.write(frozen.SerializeToString())
        file.flush()
        net, shape = frozen_graph.load_foreign(file.name)
        side = given.image_size or (shape[1] if len(shape) == 4 and shape[1] else _SIDE)
        channels = shape[3] if len(shape) == 4 and shape[3] else 3
        times = _measured(net, (side, side, channels), shape[0] if shape else None, reader.path)
    say(
        f"{target}  {os.path.getsize(target) / 2**20:.1f} MiB, {len(frozen.node)} nodes, weights "
        f"of {reader.path}; {', '.join(times)}"
    )
    first = next(node.name for node in frozen.node if node.op == "Placeholder")
    last = (given.output_node_names or (frozen.node[-1].name,))[0]
    say(f"Graph nodes: {first} -> {last}")
    say(
        f"Next: python classify_image.py --model={target} --labels=labels.txt "
        f"--input_layer={first} --output_layer={last} --image_size={side} photo.jpg"
    )
    return target


def _measured(
    net: frozen_graph.Net, shape: tuple[int, int, int], batch_size: int | None, checkpoint: str
) -> list[str]:
    """How long the net takes; raises InputError where its answers are not finite."""
    sizes = (batch_size,) if batch_size else (1, 8)
    noise = np.random.default_rng(0).uniform(-1, 1, (sizes[0], *shape)).astype(np.float32)
    if not np.isfinite(net(noise)["logits"]).all():
        raise InputError(
            f"{checkpoint}: the graph gives no finite numbers with these weights. Nothing was "
            "written.",
            remedy="Take an earlier checkpoint.",
        )
    found = latency.of_net(net, shape, sizes)
    return [f"{time:.1f} ms for a batch of {size}" for size, time in found.items()]
