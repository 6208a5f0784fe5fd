"""convert_data.py beside TF-Slim's way of converting, and beside copying the same bytes.

python -m benchmarks.conversion --image_dir=photographs --peer_python=PEER/bin/python

The photographs, JPEG files in class folders, are linked together `--copies` times, so that starting
a process counts for little. Each way is timed as a whole process, in turns.
"""

import glob
import os
import statistics
import subprocess
import sys
import tempfile
import time

import command_line
from foundation.options import Options, option, options


@options
class ConversionBenchmark(Options):
    """What is converted, and how often."""

    image_dir: str = option("photographs", "Photographs in class folders.", path=True)
    copies: int = option(4, "How many times each photograph is converted.", bounds=(1, None))
    turns: int = option(3, "Turns of each way.", bounds=(1, None))
    peer_python: str = option(sys.executable, "Python that runs TF-Slim's way.")


_COPY = """
import glob, sys
with open(sys.argv[2], "wb") as out:
    for path in sorted(glob.glob(sys.argv[1] + "/*/*")):
        with open(path, "rb") as file:
            out.write(file.read())
"""


def main(given: ConversionBenchmark) -> None:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(given.image_dir))) as work:
        found = glob.glob(os.path.join(given.image_dir, "*", "*"))
        for path in found:
            label, name = path.split(os.sep)[-2:]
            os.makedirs(f"{work}/images/{label}", exist_ok=True)
            for i in range(given.copies):
                os.link(path, f"{work}/images/{label}/{i}_{name}")
        count = len(found) * given.copies
        ours = [sys.executable, "convert_data.py", f"--image_dir={work}/images", "--overwrite"]
        ours += [f"--output_dir={work}/data", "--validation_fraction=0"]
        peer = [given.peer_python, "benchmarks/peers/tf_slim_conversion.py"]
        ways = {
            "TF-Slim's way": [*peer, f"{work}/images", f"{work}/peer.tfrecord"],
            "ours, one thread": [*ours, "--num_workers=1"],
            "ours": ours,
            "ours, --verify=header": [*ours, "--verify=header"],
            "copying": [sys.executable, "-c", _COPY, f"{work}/images", f"{work}/copy"],
        }
        taken = {name: [] for name in ways}
        for _ in range(given.turns):
            for name, command in ways.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                taken[name].append(count / (time.perf_counter() - began))
    rates = {name: statistics.median(each) for name, each in taken.items()}
    print(f"{count} photographs, median of {given.turns} turns, whole processes\n")
    for name, rate in rates.items():
        spread = f"{min(taken[name]):,.0f} to {max(taken[name]):,.0f}"
        print(f"{name:<24}{rate:>8,.0f} images/s  ({spread})")
    print(f"\nFully verified: {rates['ours'] / rates[next(iter(ways))]:.2f} times TF-Slim's way.")
    share = rates["ours, --verify=header"] / rates["copying"]
    print(f"Headers only: {share:.0%} of the speed of copying.")


if __name__ == "__main__":
    command_line.run(main, ConversionBenchmark)
