"""Classifying a folder beside bare inference, and the time to the first answer.

python -m benchmarks.classification --model=exported --image_dir=photographs

Two loops over the same pictures take turns: one hands the model bytes that are in memory and
prepared, the other is all that classify_image.py does after the model is open: it reads, checks and
prepares the files and makes the table. Each start of the script is a process of its own, in which
one picture is answered.
"""

import statistics
import subprocess
import sys
import time

import command_line
from foundation.options import Options, option, options


@options
class ClassificationBenchmark(Options):
    """What is measured."""

    model: str = option("exported", "As classify_image.py takes it.", path=True)
    image_dir: str = option("photographs", "Folder of pictures.", path=True)
    batch_size: int = option(16, "Pictures at once.", bounds=(1, None))
    turns: int = option(5, "Passes of each loop that are timed.", bounds=(1, None))
    starts: int = option(3, "Processes that are started for one picture.", bounds=(0, None))


def speed(given: ClassificationBenchmark) -> str:
    """Times both loops; returns the path of a picture."""
    from runs import classifiers, classify, pictures, reading
    from runs.options import ClassifyImageOptions

    job = ClassifyImageOptions.of(
        model=given.model, image=[given.image_dir], batch_size=given.batch_size
    )
    found, opened = pictures.find(job.classify.image), classifiers.open_model(job.model)
    batches = [
        [picture.encoded for picture in batch if not picture.problem]
        for batch in reading.batches(found.pictures, given.batch_size)
    ]
    count = sum(map(len, batches))

    def silent(line: str) -> None:
        pass

    loops = {
        "bare inference": lambda: [opened.classifier.outputs(batch) for batch in batches],
        "classify_image.py": lambda: classify.shown(opened, job, found, silent, silent),
    }
    rates = {name: [] for name in loops}
    for turn in range(given.turns + 1):
        for name, loop in loops.items():
            began = time.perf_counter()
            loop()
            if turn:  # the first warms up
                rates[name].append(count / (time.perf_counter() - began))
    for name, found_rates in rates.items():
        low, high = min(found_rates), max(found_rates)
        median = statistics.median(found_rates)
        print(f"{name}: {median:.1f} pictures/s ({low:.1f} to {high:.1f})")
    shares = [b / a for a, b in zip(*rates.values(), strict=True)]
    print(f"share of bare inference: {statistics.median(shares):.3f}")
    return found.pictures[0]


def first_answers(given: ClassificationBenchmark, picture: str) -> None:
    """Times the script from its start to the row of one picture."""
    command = [sys.executable, "classify_image.py", f"--model={given.model}", picture]
    for _ in range(given.starts):
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()  # the heading
            process.stdout.readline()
            print(f"first answer after {time.perf_counter() - began:.1f} s")


def main(given: ClassificationBenchmark) -> None:
    command_line.load_tensorflow()
    first_answers(given, speed(given))


if __name__ == "__main__":
    command_line.run(main, ClassificationBenchmark)
