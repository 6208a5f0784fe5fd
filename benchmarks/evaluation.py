"""An evaluation beside bare inference of the same net, and what it holds in memory.

python -m benchmarks.photographs --output_dir=photographs --count=512
python -m benchmarks.evaluation --dataset_dir=photographs --model_name=mobilenet_v1
python -m benchmarks.evaluation --examples=500000 --classes=1000

With a dataset two loops over the same shards take turns: one only asks the net, the other is the
evaluation with all that it keeps. With `--examples` a tenth of so many made-up answers is evaluated
and then all of them, each in a process of its own, whose memory at the most is shown: the pass
with its probabilities on the disk, and the numbers made of it.
"""

import statistics
import subprocess
import sys
import tempfile
import time

import command_line
from foundation.options import Options, option, options


@options
class EvaluationBenchmark(Options):
    """What is measured."""

    dataset_dir: str | None = option(None, "Shards whose split train is evaluated.", path=True)
    model_name: str = option("mobilenet_v1", "Net.")
    image_size: int = option(224, "Side of the images.", bounds=(1, None))
    batch_size: int = option(32, "Images at once.", bounds=(1, None))
    turns: int = option(5, "Passes of each loop that are timed.", bounds=(1, None))
    examples: int = option(0, "Made-up answers of the larger run.", bounds=(0, None))
    classes: int = option(1000, "Their classes.", bounds=(2, None))


def speed(given: EvaluationBenchmark) -> None:
    import tensorflow as tf

    from datasets import batches, tfrecord_dataset
    from evaluation import evaluator
    from evaluation.log_probabilities import LogProbabilities
    from evaluation.report.gallery import Gallery
    from nets import nets_factory
    from preprocessing import preprocessing_factory

    dataset = tfrecord_dataset.find(given.dataset_dir)
    net, size = nets_factory.get(given.model_name), given.image_size
    model = nets_factory.build(net.name, dataset.num_classes, size)
    recipe = preprocessing_factory.get(net.preprocessing)
    images = tf.TensorSpec([None, size, size, 3], tf.float32)

    @tf.function(input_signature=[images], autograph=False)
    def predict(images):
        return model(images, training=False)["logits"]

    def read():
        return batches.evaluation_batches(
            dataset, lambda encoded: recipe.evaluate(encoded, size), given.batch_size
        )

    def bare():
        for batch in read():
            predict(batch["image"]).numpy()

    def evaluated():
        gallery = Gallery(dataset.num_classes, recipe.value_range)
        kept = LogProbabilities(tempfile.gettempdir(), dataset.num_classes)
        evaluator.evaluate(
            predict, read(), dataset.labels, show=gallery.add, log_probabilities=kept
        )

    loops = {"bare inference": bare, "evaluation": evaluated}
    clock, processor = ({name: [] for name in loops} for _ in range(2))
    for turn in range(given.turns + 1):
        for name, loop in loops.items():
            start = time.perf_counter(), time.process_time()
            loop()
            if turn:
                clock[name].append(time.perf_counter() - start[0])
                processor[name].append(time.process_time() - start[1])
    for kind, taken in (("clock", clock), ("processor time", processor)):
        for name, seconds in taken.items():
            rates = sorted(dataset.num_examples / second for second in seconds)
            middle = statistics.median(rates)
            print(f"{kind}, {name}: {middle:.1f} images/s ({rates[0]:.1f} to {rates[-1]:.1f})")
        ratios = [
            bare / whole
            for bare, whole in zip(taken["bare inference"], taken["evaluation"], strict=True)
        ]
        print(
            f"{kind}, ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


_ONE_RUN = """
import resource, tempfile, time
import numpy as np, tensorflow as tf
from evaluation import evaluator, results
from evaluation.log_probabilities import LogProbabilities
random = np.random.default_rng(0)
def batches():
    for start in range(0, {examples}, 500):
        labels = random.integers({classes}, size=500)
        yield {{"image": tf.constant(labels), "label": tf.constant(labels),
               "filename": tf.constant([f"{{start + i:09}}.jpg" for i in range(500)])}}
def predict(labels):
    logits = random.normal(size=(500, {classes})).astype(np.float32)
    logits[np.arange(500), labels.numpy()] += 3
    return tf.constant(logits)
began = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    kept = LogProbabilities(folder, {classes})
    found = evaluator.evaluate(predict, batches(), [f"class {{i}}" for i in range({classes})],
                               log_probabilities=kept)
    passed = time.perf_counter() - began
    at_pass = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.numbers(found)
print(passed, time.perf_counter() - began - passed, at_pass,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(given: EvaluationBenchmark) -> None:
    print(f"{'examples':>10}{'pass, s':>10}{'numbers, s':>12}{'MiB, pass':>11}{'MiB':>8}")
    most = []
    for count in (given.examples // 10, given.examples):
        script = _ONE_RUN.format(examples=count, classes=given.classes)
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        )
        passed, numbers, at_pass, at_end = map(float, done.stdout.split())
        most.append(at_end)
        print(f"{count:>10,}{passed:>10.1f}{numbers:>12.1f}{at_pass:>11.0f}{at_end:>8.0f}")
    grown = 2**20 * (most[1] - most[0]) / (given.examples - given.examples // 10)
    print(
        f"\nAn example costs {grown:.0f} bytes; all of its probabilities are "
        f"{4 * given.classes} bytes."
    )


def main(given: EvaluationBenchmark) -> None:
    if given.dataset_dir:
        speed(given)
    if given.examples:
        memory(given)


if __name__ == "__main__":
    command_line.run(main, EvaluationBenchmark)
