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

from absl import app, flags

flags.DEFINE_string("image_dir", None, "Photographs in class folders.", required=True)
flags.DEFINE_integer("copies", 4, "How many times each photograph is converted.", lower_bound=1)
flags.DEFINE_integer("turns", 3, "Turns of each way.", lower_bound=1)
flags.DEFINE_string(
    "peer_python", sys.executable, "Python that runs TF-Slim's way; unset: this one."
)
FLAGS = flags.FLAGS

_COPY = """
import glob, sys
with open(sys.argv[2], "wb") as out:
    for path in sorted(glob.glob(sys.argv[1] + "/*/*")):
        with open(path, "rb") as file:
            out.write(file.read())
"""


def main(_) -> None:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(FLAGS.image_dir))) as work:
        found = glob.glob(os.path.join(FLAGS.image_dir, "*", "*"))
        for path in found:
            label, name = path.split(os.sep)[-2:]
            os.makedirs(f"{work}/images/{label}", exist_ok=True)
            for i in range(FLAGS.copies):
                os.link(path, f"{work}/images/{label}/{i}_{name}")
        count = len(found) * FLAGS.copies
        ours = [sys.executable, "convert_data.py", f"--image_dir={work}/images", "--overwrite"]
        ours += [f"--output_dir={work}/data", "--validation_fraction=0"]
        peer = [FLAGS.peer_python, "benchmarks/peers/tf_slim_conversion.py"]
        ways = {
            "TF-Slim's way": [*peer, f"{work}/images", f"{work}/peer.tfrecord"],
            "ours, one thread": [*ours, "--num_workers=1"],
            "ours": ours,
            "ours, --verify=header": [*ours, "--verify=header"],
            "copying": [sys.executable, "-c", _COPY, f"{work}/images", f"{work}/copy"],
        }
        taken = {name: [] for name in ways}
        for _ in range(FLAGS.turns):
            for name, command in ways.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                taken[name].append(count / (time.perf_counter() - began))
    rates = {name: statistics.median(each) for name, each in taken.items()}
    print(f"{count} photographs, median of {FLAGS.turns} turns, whole processes\n")
    for name, rate in rates.items():
        spread = f"{min(taken[name]):,.0f} to {max(taken[name]):,.0f}"
        print(f"{name:<24}{rate:>8,.0f} images/s  ({spread})")
    print(f"\nFully verified: {rates['ours'] / rates[next(iter(ways))]:.2f} times TF-Slim's way.")
    share = rates["ours, --verify=header"] / rates["copying"]
    print(f"Headers only: {share:.0%} of the speed of copying.")


if __name__ == "__main__":
    app.run(main)
