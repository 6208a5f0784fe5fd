"""Turns photographs and their labels into sharded TFRecords that the other scripts read.

Labels come from one of:
  Pascal-VOC XML      --image_dir=DIR --annotations_dir=DIR   (YOLO's .txt files likewise)
  a CSV               --image_dir=DIR --csv_file=FILE
  a folder per class  --image_dir=DIR   (train/, validation/, test/ above them are the splits)
  TensorFlow Datasets --dataset_name=tfds:stanford_dogs

  python convert_data.py --image_dir=photographs --dataset_name=animals --output_dir=animals
"""

import sys
from collections.abc import Generator, Iterable

import command_line
from runs.options import ConvertOptions


def main(options: ConvertOptions) -> None:
    from runs import convert  # here, for the start-up time of --help

    convert.convert(options, _say, _bar)


def _say(line: str) -> None:
    """Prints a line of its own, where a bar may be on the screen."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        command_line.say(line)


def _bar(items: Iterable, text: str, total: int | None = None) -> Generator:
    """Shows on standard error how many photographs came, at a screen often, in a log seldom."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10
    hidden = not command_line.printer.shows_bars
    with tqdm(
        items, text, total, unit=" images", mininterval=interval, file=sys.stderr, disable=hidden
    ) as progress:
        yield from progress


if __name__ == "__main__":
    command_line.run(main, ConvertOptions)
