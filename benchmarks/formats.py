"""The formats of an export beside each other: how long each takes for the same images.

python -m benchmarks.formats --model_name=inception_v3 --image_size=299

Each file is opened as classify_image.py opens it, and all take turns on the same images in one
process, so that what else runs on the machine slows them alike. The ratio is to ONNX Runtime's
float32 of the same turns. The SavedModel's recipe is left out: the images have the net's size.
"""

import os
import statistics
import tempfile
import time

import numpy as np

import command_line
from foundation.options import Options, option, options

_PEER = "ONNX Runtime"
_REST = 0.1  # seconds, for ONNX Runtime's threads go on spinning after a call


@options
class FormatsBenchmark(Options):
    """What is measured."""

    model_name: str = option("inception_v3", "Net.")
    image_size: int = option(299, "Side of the images.", bounds=(1, None))
    batch_sizes: tuple[int, ...] = option((1, 8), "Images a call.", bounds=(1, None))
    turns: int = option(20, "Calls of each file that are timed, for each size.", bounds=(1, None))


def net_with_statistics(name: str, size: int):
    """A net whose batch norms are not those of a fresh one, which fold to nothing."""
    from nets import nets_factory

    model = nets_factory.build(name, 10, size)
    random = np.random.default_rng(0)
    for variable in model.weights:
        if "moving_variance" in variable.path:
            variable.assign(random.uniform(0.5, 2, variable.shape))
        elif "moving_mean" in variable.path or "beta" in variable.path:
            variable.assign(random.normal(0, 0.1, variable.shape))
    return model


def write(folder: str, name: str, size: int) -> dict:
    """Writes all formats; gives functions from images to logits, by what they are called."""
    import tensorflow as tf

    from foundation import labels
    from nets import nets_factory
    from serving import frozen_graph, onnx, saved_model, tflite

    def prepare(image):
        return tf.reshape(tf.cast(image, tf.float32), [size, size, 3])

    net, model = nets_factory.get(name), net_with_statistics(name, size)
    nodes = frozen_graph.Nodes(net.logits_node, net.predictions_node or "probabilities")
    forward = frozen_graph.forward(model, nodes)
    names = [str(number) for number in range(10)]
    labels_file = os.path.join(folder, "labels.txt")
    labels.write(labels_file, names)
    paths = {
        part: os.path.join(folder, part)
        for part in (
            "graph.pb",
            "graph_bfloat16.pb",
            "saved",
            "saved_bfloat16",
            "x.tflite",
            "x.onnx",
        )
    }
    found = {}
    onnx.write(paths["x.onnx"], forward)
    found[_PEER] = onnx.load(paths["x.onnx"])[0]
    for numbers in ("float32", "bfloat16"):
        suffix = "" if numbers == "float32" else "_bfloat16"
        path = paths[f"graph{suffix}.pb"]
        frozen_graph.write(path, forward, nodes, numbers)
        found[f"frozen graph, {numbers}"] = frozen_graph.load(path, nodes)[0]
        path = paths[f"saved{suffix}"]
        saved_model.write(path, model, prepare, prepare, labels_file, numbers)
        found[f"SavedModel, {numbers}"] = saved_model.load_images(path)
    tflite.write(paths["x.tflite"], forward, model, names)
    found["TFLite"] = tflite.load(paths["x.tflite"])[0]
    return found


def main(given: FormatsBenchmark) -> None:
    random = np.random.default_rng(0)
    shape = (given.image_size, given.image_size, 3)
    with tempfile.TemporaryDirectory() as folder:
        functions = write(folder, given.model_name, given.image_size)
        for batch_size in given.batch_sizes:
            images = random.uniform(-1, 1, (batch_size, *shape)).astype(np.float32)
            seconds = {name: [] for name in functions}
            for turn in range(given.turns + 2):
                for name, function in functions.items():
                    time.sleep(_REST)
                    start = time.perf_counter()
                    function(images)
                    if turn > 1:
                        seconds[name].append(time.perf_counter() - start)
            for name, times in seconds.items():
                ratios = [own / peer for own, peer in zip(times, seconds[_PEER], strict=True)]
                print(
                    f"{batch_size} a call, {name}: median {1000 * statistics.median(times):.1f} ms,"
                    f" best {1000 * min(times):.1f}; of ONNX Runtime's time "
                    f"{statistics.median(ratios):.2f} (best calls "
                    f"{min(times) / min(seconds[_PEER]):.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    command_line.run(main, FormatsBenchmark)
