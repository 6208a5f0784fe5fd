"""What each stage of the input pipeline costs, in one table, and which one bounds it.

python -m benchmarks.input_pipeline --dataset_dir=animals --image_size=250

Pipelines that end after reading, parsing, decoding … take turns, and the median processor time of
each is compared with the one before: processor time, unlike the clock, hardly depends on what
else runs on the machine. Beside them the recipe's evaluation and, for the recipe inception,
TF-Slim's own steps.

With --scaling=1,2,4,8 only the whole pipeline is measured, by the clock, with so many threads: as a
processor gets its batches, and as a GPU does, which is handed bytes and finishes them itself.

With --data_service=HOST:5050,OTHER:5050 the whole pipeline here and by the services take turns.
"""

import os
import statistics
import time
from collections.abc import Sequence

import command_line
from datasets.options import SourceOptions, TrainingReadingOptions
from foundation import machine
from foundation.options import Options, group, option, options


@options
class PipelineBenchmark(Options):
    """What is measured."""

    source: SourceOptions = group(SourceOptions)
    reading: TrainingReadingOptions = group(TrainingReadingOptions)
    preprocessing_name: str = option("inception", "Recipe.")
    image_size: int = option(250, "Side of the images.", bounds=(1, None))
    batch_size: int = option(32, "Images a batch.", bounds=(1, None))
    batches: int = option(20, "Batches that are timed in a turn.", bounds=(1, None))
    turns: int = option(5, "Turns of each pipeline.", bounds=(1, None))
    scaling: tuple[int, ...] = option(
        (), "Numbers of threads to measure the whole pipeline with.", bounds=(1, None)
    )


def pipelines(dataset, recipe, size: int, batch_size: int, num_threads: int | None, cache: str):
    """The pipelines to compare, by name: the stages of training, evaluation, and their peers."""
    import tensorflow as tf

    from benchmarks.peers import tf_slim_preprocessing as tf_slim
    from datasets import batches
    from preprocessing import ops

    is_inception = recipe.name == "inception"

    def training(decode, to_input=None):
        preparation = batches.Preparation(decode, to_input, num_threads=num_threads)
        return batches.training_batches(dataset, preparation, batch_size, cache=cache)

    def evaluation(decode):
        ds = batches.evaluation_batches(
            dataset, decode, batch_size, num_threads=num_threads, cache=cache
        )
        return ds.repeat()

    def corner(image):
        """Keeps the image from being left out of the graph, and from being copied into a batch."""
        return image[0, 0, 0]

    def crop(encoded, boxes, seed):
        if not is_inception:
            return ops.decode(encoded)
        return ops.decode_window(encoded, lambda s: ops.distorted_window(s, boxes, seed))

    decode, to_input = recipe.training_stages(size)

    def drawn(encoded, boxes, seed):
        result = decode(encoded, boxes, seed)
        return corner(result["image"] if isinstance(result, dict) else result)

    records = tf.data.TFRecordDataset(list(dataset.files), dataset.compression, 2**20)
    found = {
        "read": records.repeat().batch(batch_size),
        "parse": training(lambda encoded, boxes, seed: tf.strings.length(encoded)),
        "decode": training(lambda *example: corner(crop(*example))),
        "augment": training(drawn),
        "batch": training(decode, to_input),
        "evaluation's decoding": evaluation(lambda encoded: corner(ops.decode(encoded))),
        "evaluation": evaluation(lambda encoded: recipe.evaluate(encoded, size)),
    }
    if is_inception:
        found |= {
            "TF-Slim": training(lambda encoded, boxes, seed: tf_slim.train(encoded, size)),
            "TF-Slim's evaluation": evaluation(lambda encoded: tf_slim.evaluate(encoded, size)),
        }
    return found


def measure(datasets: dict, num_batches: int, turns: int) -> dict[str, tuple[float, float]]:
    """Median seconds of processor time and of the clock for a batch of each pipeline."""
    taken = {name: [] for name in datasets}
    for _ in range(turns):
        for name, ds in datasets.items():
            iterator = iter(ds)
            for _ in range(4):  # the first batches wait for buffers that are still empty
                next(iterator)
            processor, clock = time.process_time(), time.perf_counter()
            for _ in range(num_batches):
                next(iterator)
            spent = time.process_time() - processor, time.perf_counter() - clock
            taken[name].append([seconds / num_batches for seconds in spent])
    return {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True))
        for name, rows in taken.items()
    }


def scaling(dataset, recipe, size: int, batch_size: int, num_threads: int, cache: str) -> dict:
    """The whole pipeline with so many threads: with the last part of the recipe and without."""
    from datasets import batches

    decode, to_input = recipe.training_stages(size)
    ways = {"finished": to_input, "as bytes": None}
    return {
        way: batches.training_batches(
            dataset,
            batches.Preparation(decode, last, num_threads=num_threads),
            batch_size,
            cache=cache,
        )
        for way, last in ways.items()
    }


def scaling_table(measured: dict[int, dict[str, tuple[float, float]]], batch_size: int):
    """The lines to print, of what `measure` found with each number of threads."""
    yield f"{'threads':<9}{'way':<10}{'images/s':>10}{'a thread':>10}{'cores used':>12}"
    for threads, found in measured.items():
        for way, (processor, clock) in found.items():
            rate = batch_size / clock
            used = processor / clock
            yield f"{threads:<9}{way:<10}{rate:>10,.0f}{rate / threads:>10,.0f}{used:>12.1f}"


def by_services(dataset, recipe, size: int, batch_size: int, services: Sequence[str]) -> dict:
    """The whole pipeline in this process, and in tf.data services."""
    from datasets import batches

    preparation = batches.Preparation(*recipe.training_stages(size))
    return {
        "here": batches.training_batches(dataset, preparation, batch_size),
        "services": batches.training_batches(dataset, preparation, batch_size, services=services),
    }


def services_table(measured: dict[str, tuple[float, float]], batch_size: int) -> list[str]:
    """The lines to print, of what `measure` found."""
    rates = {name: batch_size / clock for name, (_, clock) in measured.items()}
    lines = [f"{name:<10}{rate:>10,.0f} images/s" for name, rate in rates.items()]
    own = measured["services"][0] / measured["here"][0]
    return [
        *lines,
        f"By services: {rates['services'] / rates['here']:.2f} times as fast, for {own:.0%} of the "
        "processor time in this process.",
    ]


STAGES = ("read", "parse", "decode", "augment", "batch")


def table(measured: dict[str, tuple[float, float]], batch_size: int) -> list[str]:
    """The lines to print."""
    cost = {name: processor / batch_size * 1e6 for name, (processor, _) in measured.items()}
    own, before = {}, 0.0
    for stage in STAGES:
        own[stage] = max(cost[stage] - before, 0.0)
        before = max(before, cost[stage])
    total = cost["batch"]
    lines = [f"{'stage':<10}{'µs an image':>13}{'images/s a core':>17}{'share':>8}"]
    for stage, spent in own.items():
        rate = f"{1e6 / spent:,.0f}" if spent else "–"
        lines.append(f"{stage:<10}{spent:>13.0f}{rate:>17}{spent / total:>8.0%}")
    lines.append(f"{'together':<10}{total:>13.0f}{1e6 / total:>17,.0f}{1:>8.0%}")
    bound = max(own, key=own.get)
    rate = batch_size / measured["batch"][1]
    lines += ["", f"Bound by {bound}. By the clock: {rate:,.0f} images/s."]

    def compare(name: str, ours: str, peer: str, what: str):
        if peer in cost:
            text = f"{cost[peer]:.0f} µs to {cost[ours]:.0f}"
            lines.append(f"{name}: {what.format(cost[peer] / cost[ours])} ({text}).")

    reached = "{:.0%} of the speed of bare decoding of the same pixels"
    faster = "{:.2f} times the speed of TF-Slim's"
    compare("Training", "batch", "decode", reached)
    compare("Training", "batch", "TF-Slim", faster)
    compare("Evaluation", "evaluation", "evaluation's decoding", reached)
    compare("Evaluation", "evaluation", "TF-Slim's evaluation", faster)
    return lines


def main(given: PipelineBenchmark) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from datasets import bad_records, tfrecord_dataset
    from preprocessing import preprocessing_factory

    dataset = tfrecord_dataset.find(
        given.source.dataset_dir,
        given.source.dataset_name,
        given.source.dataset_split_name,
        given.source.tfrecord_file,
        given.source.path_to_csv,
        given.source.labels_offset,
    )
    dataset, _ = bad_records.drop(dataset, given.reading.max_bad_records)
    recipe = preprocessing_factory.get(given.preprocessing_name)
    kib = dataset.num_bytes / dataset.num_examples / 1024
    print(
        f"{dataset.num_examples} images of {kib:.0f} KiB, recipe {recipe.name} at "
        f"{given.image_size} x {given.image_size}, batches of {given.batch_size}, "
        f"{given.reading.num_preprocessing_threads or machine.num_processors()} threads\n"
    )
    if given.scaling:
        shape = given.image_size, given.batch_size
        found = {}
        for threads in given.scaling:
            compared = scaling(dataset, recipe, *shape, threads, given.reading.cache)
            found[threads] = measure(compared, given.batches, given.turns)
        print("\n".join(scaling_table(found, given.batch_size)))
        return
    if services := given.reading.data_service:
        compared = by_services(dataset, recipe, given.image_size, given.batch_size, services)
        measured = measure(compared, given.batches, given.turns)
        print("\n".join(services_table(measured, given.batch_size)))
        return
    compared = pipelines(
        dataset,
        recipe,
        given.image_size,
        given.batch_size,
        given.reading.num_preprocessing_threads,
        given.reading.cache,
    )
    measured = measure(compared, given.batches, given.turns)
    print("\n".join(table(measured, given.batch_size)))


if __name__ == "__main__":
    command_line.run(main, PipelineBenchmark)
