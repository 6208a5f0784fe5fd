"""Shards of generated JPEG photographs, as large as ImageNet's, to measure input with.

python -m benchmarks.photographs --output_dir=/tmp/photographs --count=8192
"""

import argparse
import io
import pathlib

import numpy as np
from PIL import Image

from datasets import schema

_DISTINCT = 256
_CLASSES = 10
_HEIGHT, _WIDTH = 375, 500


def jpeg(rng: np.random.Generator) -> bytes:
    """Clouds of colour with some grain: about 80 KiB."""
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.BICUBIC), np.int16)
    grain = rng.normal(0, 9, (_HEIGHT, _WIDTH, 1)).astype(np.int16)
    encoded = io.BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(
        encoded, "JPEG", quality=90
    )
    return encoded.getvalue()


def write(folder: pathlib.Path, count: int, num_shards: int) -> None:
    """Writes the split train of a dataset named photographs; each picture comes several times."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng) for _ in range(min(count, _DISTINCT))]
    for shard in range(num_shards):
        path = folder / f"photographs_train-{shard:05}-of-{num_shards:05}.tfrecord"
        with open(path, "wb") as file:
            for i in range(shard, count, num_shards):
                label = i % _CLASSES
                record = schema.Example(
                    pictures[i % len(pictures)],
                    "jpeg",
                    _HEIGHT,
                    _WIDTH,
                    label,
                    f"class {label}",
                    f"{i}.jpg",
                    (),
                    "",
                ).serialize()
                file.write(schema.frame(record))
    lines = (f"{label}:class {label}\n" for label in range(_CLASSES))
    (folder / "labels.txt").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=8192)
    parser.add_argument("--shards", type=int, default=16)
    args = parser.parse_args()
    write(args.output_dir, args.count, args.shards)
    size = sum(file.stat().st_size for file in args.output_dir.glob("*.tfrecord"))
    print(f"{args.count} photographs, {size / args.count / 1024:.0f} KiB each, {args.output_dir}")


if __name__ == "__main__":
    main()
