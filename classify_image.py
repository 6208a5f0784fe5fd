"""Names what is in pictures, with a model that export_model.py wrote.

python classify_image.py --model=exported --image=photo.jpg
python classify_image.py --model=exported/frozen_graph.pb --top_k=1 --csv=answers.csv photos/*.jpg
"""

import csv
import functools
import glob
import json
import os
import sys
from collections.abc import Iterator

from absl import flags

import shared_flags
from shared_flags import UsageError

flags.DEFINE_string(
    "model",
    None,
    "Folder of an export, SavedModel folder, or .pb, .tflite or .onnx file.",
)
flags.DEFINE_multi_string(
    "image",
    [],
    "Picture, folder of pictures, glob or comma-separated list. May be repeated; words without a "
    "flag are pictures, too.",
)
flags.DEFINE_integer("top_k", 5, "How many classes to show of each picture.", lower_bound=1)
flags.DEFINE_integer("batch_size", 16, "Pictures that are classified at once.", lower_bound=1)
flags.DEFINE_string("csv", None, "Also write the answers into this CSV file.")
flags.DEFINE_string("json", None, "Also write the answers into this JSON file.")

FLAGS = flags.FLAGS


def main() -> None:
    if not FLAGS.model:
        raise UsageError("say what to classify with: --model=FOLDER as export_model.py wrote it.")
    if not FLAGS.image:
        raise UsageError("say what to classify: --image=FILE.")
    if not os.path.exists(FLAGS.model):
        raise ValueError(f"--model={FLAGS.model} does not exist. Write one with export_model.py.")
    files = find_pictures(FLAGS.image)
    shared_flags.load_tensorflow()
    import tensorflow as tf

    from serving import classifier

    for gpu in tf.config.list_physical_devices("GPU"):
        # A training may be running on it.
        tf.config.experimental.set_memory_growth(gpu, True)
    model = classifier.load(FLAGS.model, _recipe)
    answers, failures = {}, 0
    table = _Table(files, model.labels)
    for names, pictures in _batches(files, FLAGS.batch_size):
        for name, answer in zip(names, model.classify(pictures, FLAGS.top_k), strict=True):
            answers[name] = answer
            table.show(name, answer)
    failures = len(files) - len(answers)
    if FLAGS.csv:
        _write_whole(FLAGS.csv, functools.partial(_write_csv, answers))
    if FLAGS.json:
        _write_whole(FLAGS.json, functools.partial(_write_json, answers))
    if failures:
        raise ValueError(f"{failures} of {len(files)} pictures could not be classified.")


def find_pictures(words: list[str]) -> list[str]:
    """The files that the values of --image mean, each once, in their order.

    A folder means the pictures in it and below, by their extensions, sorted. What is not there is
    returned as it is, to be reported with the others.

    Raises:
      ValueError: a folder or a glob without a picture.
    """
    found = {}
    for word in words:
        if os.path.isdir(word):
            pictures = _pictures_in(word)
        elif os.path.exists(word):
            pictures = [word]
        elif glob.has_magic(word):
            pictures = sorted(glob.glob(word, recursive=True))
        else:
            pictures = [part.strip() for part in word.split(",") if part.strip()]
        if not pictures:
            raise ValueError(f"--image={word}: no picture there.")
        found.update(dict.fromkeys(pictures))
    return list(found)


def _pictures_in(folder: str) -> list[str]:
    from PIL import Image

    from datasets.conversion import image_bytes

    extensions = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in image_bytes.FORMATS
    }
    return sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in extensions
    )


def _recipe(config, find):
    """The preprocessing of a file that holds the net alone; `find` gives paths of companions."""
    recipe = shared_flags.recipe(config, find)
    return functools.partial(
        recipe.evaluate, size=config.image_size, use_grayscale=config.use_grayscale
    )


def _batches(files: list[str], size: int) -> Iterator[tuple[list[str], list[bytes]]]:
    """Names and bytes of readable pictures; the others are reported and left out.

    The bytes go the way of convert_data.py, so that a picture looks as it would have in training:
    turned as its EXIF says, and in a format that TensorFlow decodes.
    """
    from datasets.conversion import image_bytes

    names, pictures = [], []
    for file in files:
        try:
            with open(file, "rb") as opened:
                pictures.append(image_bytes.Photograph(opened.read()).encode().data)
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            print(f"{shared_flags.printable(file)}: {reason}", file=sys.stderr, flush=True)
            continue
        names.append(file)
        if len(names) == size:
            yield names, pictures
            names, pictures = [], []
    if names:
        yield names, pictures


class _Table:
    """Prints picture, class and probability in columns, as the answers come."""

    def __init__(self, files: list[str], labels: tuple[str, ...]):
        self._widths = [
            max(map(len, ["picture", *map(shared_flags.printable, files)])),
            max(map(len, ["class", *labels])),
        ]
        self._print("picture", "class", "probability")

    def show(self, file: str, answer: list[tuple[str, float]]) -> None:
        name = shared_flags.printable(file)
        for label, probability in answer:
            self._print(name, label, f"{100 * probability:9.2f} %")
            name = ""

    def _print(self, name: str, label: str, probability: str) -> None:
        first, second = self._widths
        print(f"{name:{first}}  {label:{second}}  {probability}", flush=True)


def _write_csv(answers: dict, file) -> None:
    writer = csv.writer(file)
    writer.writerow(["filename", "rank", "label", "probability"])
    for name, answer in answers.items():
        for rank, (label, probability) in enumerate(answer, start=1):
            writer.writerow([name, rank, label, f"{probability:.6f}"])


def _write_json(answers: dict, file) -> None:
    content = [
        {
            "filename": name,
            "classes": [{"label": label, "probability": value} for label, value in answer],
        }
        for name, answer in answers.items()
    ]
    json.dump(content, file, indent=2, ensure_ascii=False)
    file.write("\n")


def _write_whole(path: str, write) -> None:
    with open(f"{path}.tmp", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        write(file)
    os.replace(f"{path}.tmp", path)


if __name__ == "__main__":
    shared_flags.run(main, words_flag="image")
