"""What a conversion holds in memory, for a tenth of a list of generated photographs and for all.

python -m benchmarks.conversion_memory --images=1000000

The photographs are one tiny JPEG file with a comment that makes each of them another; a CSV names
them. Every one is decoded. The growth from the one count to the other is what an image costs.
"""

import io
import os
import resource
import subprocess
import sys
import tempfile
import time

from PIL import Image

import command_line
from foundation.options import Options, option, options


@options
class MemoryBenchmark(Options):
    """What is converted."""

    images: int = option(100_000, "Photographs of the larger run.", bounds=(10, None))
    folder: str | None = option(
        None, "Where they are made, and removed again; unset: a temporary one.", path=True
    )


_IN_A_FOLDER = 10_000


def _write(folder: str, first: int, last: int, rows) -> None:
    """Photographs with the numbers `first` to `last` less one, and their rows of the table."""
    file = io.BytesIO()
    Image.effect_noise((16, 16), 60).convert("RGB").save(file, "JPEG")
    start, rest = file.getvalue()[:2], file.getvalue()[2:]
    for i in range(first, last):
        name = f"{i // _IN_A_FOLDER}/{i}.jpg"
        if i % _IN_A_FOLDER == 0 or i == first:
            os.makedirs(os.path.join(folder, os.path.dirname(name)), exist_ok=True)
        comment = f"{i:010}".encode()
        with open(os.path.join(folder, name), "wb") as image:
            image.write(
                start + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + rest
            )
        rows.write(f"{name},class {i % 10}\n")


def main(given: MemoryBenchmark) -> None:
    print(f"{'images':>10}{'seconds':>10}{'images/s':>10}{'MiB at most':>13}")
    measured = []
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        done = 0
        with open(f"{work}/photographs.csv", "w", encoding="utf-8") as rows:
            # The smaller first: the most of all finished processes is what the system tells.
            for count in (given.images // 10, given.images):
                _write(f"{work}/images", done, count, rows)
                rows.flush()
                done = count
                command = [sys.executable, "convert_data.py", f"--image_dir={work}/images"]
                command += [f"--csv_file={work}/photographs.csv", f"--output_dir={work}/{count}"]
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds = time.perf_counter() - began
                most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
                measured.append((count, most))
                print(f"{count:>10,}{seconds:>10.1f}{count / seconds:>10,.0f}{most:>13.0f}")
    (few, small), (many, large) = measured
    print(f"\nAn image costs {(large - small) * 1024 / (many - few):.2f} KiB.")


if __name__ == "__main__":
    command_line.run(main, MemoryBenchmark)
