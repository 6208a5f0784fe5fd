"""Datasets of TensorFlow Datasets (TFDS), as photographs with labels, boxes and splits."""

import dataclasses
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from datasets import splits
from datasets.conversion.image_bytes import Photograph
from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from foundation.errors import InputError, missing_extra


def read(
    name: str,
    data_dir: str | None,
    folder: str,
    say: Callable[[str], None] = print,
) -> Iterator[LabeledImage | Finding]:
    """Writes a dataset's photographs into a folder, as they were encoded, and yields them.

    Args:
      name: `tfds:` and the name in TFDS, such as tfds:stanford_dogs or tfds:oxford_iiit_pet:3.2.0.
      data_dir: where TFDS keeps its data; None: its own choice.
      folder: empty, for the photographs.
      say: gets a line for what TFDS does.

    Yields:
      Each photograph with its label and boxes; its split, as far as its name is one. A label that
      is none, such as -1 in a split without labels, is a finding.

    Raises:
      InputError: TFDS is not installed, has no such dataset, or one without an image and a label.
    """
    source = _open(name, data_dir)
    say(f"TensorFlow Datasets: {source.builder.info.full_name} in {source.builder.data_dir}")
    source.builder.download_and_prepare()
    for split in source.builder.info.splits:
        if not splits.named(split):
            say(f"Its split {split} is not one of {', '.join(splits.SPLITS)}: it counts as none.")
        os.makedirs(os.path.join(folder, split), exist_ok=True)
        for i, example in enumerate(source.examples(split)):
            yield _extract(example, source, folder, split, i)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A TFDS builder, and the names of its features for image and label."""

    builder: Any
    image: str
    label: str

    def examples(self, split: str) -> Iterator[dict]:
        import tensorflow_datasets as tfds

        decoders = {self.image: tfds.decode.SkipDecoding()}
        return tfds.as_numpy(self.builder.as_dataset(split, decoders=decoders, shuffle_files=False))


def _open(name: str, data_dir: str | None) -> _Source:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise missing_extra("tfds", "TensorFlow Datasets", "dataset_name") from error
    try:
        builder = tfds.builder(name.removeprefix("tfds:"), data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            "TensorFlow Datasets has no such dataset.",
            option="dataset_name",
            value=name,
            remedy="See its catalog for the names.",
        ) from error
    features = builder.info.features
    labels = [key for key, one in features.items() if isinstance(one, tfds.features.ClassLabel)]
    images = [key for key, one in features.items() if isinstance(one, tfds.features.Image)]
    if not labels or not images:
        raise InputError(
            f"it has no image with one class label, only {', '.join(features)}. It is not made for "
            "classification.",
            option="dataset_name",
            value=name,
        )
    return _Source(builder, images[0], "label" if "label" in labels else labels[0])


def _extract(
    example: dict, source: _Source, folder: str, split: str, i: int
) -> LabeledImage | Finding:
    """Writes the photograph of an example, unless its label is none."""
    encoded, number = example[source.image], int(example[source.label])
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpg"
    path = f"{split}/{i:07}.{kind}"
    classes = source.builder.info.features[source.label]
    if not 0 <= number < classes.num_classes:  # as in splits without labels
        return Finding(path, f"label outside the classes: {number}", Effect.LEFT_OUT)
    with open(os.path.join(folder, path), "wb") as file:
        file.write(encoded)
    # A finished dataset knows its photographs by size and time: equal bytes get equal times.
    os.utime(file.name, ns=(0, zlib.crc32(encoded)))
    return LabeledImage(
        path, classes.int2str(number), _boxes(example, encoded), splits.named(split)
    )


def _boxes(example: dict, encoded: bytes) -> tuple[Box, ...]:
    """The `bbox`, or the `bbox` of `objects`, in pixels; TFDS has them in fractions."""
    if "objects" in example and "bbox" in example["objects"]:
        found = example["objects"]["bbox"]
    elif "bbox" in example:
        found = example["bbox"].reshape(-1, 4)
    else:
        return ()
    try:
        width, height = Photograph(encoded).size
    except ValueError:  # the conversion will say what is wrong with it
        return ()
    boxes = [
        Box(ymin * height, xmin * width, ymax * height, xmax * width)
        for ymin, xmin, ymax, xmax in found.tolist()
    ]
    return tuple(sorted(boxes, key=lambda box: -box.area))
