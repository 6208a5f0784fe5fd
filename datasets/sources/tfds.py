"""Datasets of TensorFlow Datasets, taken apart into photographs and what is known of them."""

import os
import zlib
from collections.abc import Callable, Iterator

from datasets import splits
from datasets.schema import Box, LabeledImage
from datasets.sources.objects import Rejected

PREFIX = "tfds:"


def read(
    name: str,
    data_dir: str | None,
    folder: str,
    say: Callable[[str], None] = print,
) -> Iterator[LabeledImage | Rejected]:
    """Writes a dataset's photographs into a folder, as they were encoded, and yields them.

    Args:
      name: as TFDS has it, such as stanford_dogs or oxford_iiit_pet:3.2.0.
      data_dir: where TFDS keeps its data; None: its own choice.
      folder: empty, for the photographs.
      say: gets a line for what TFDS does.

    Yields:
      Each photograph with its label and boxes; its split, as far as its name is one. Those whose
      label is none, such as -1 in a split without labels, are rejected.

    Raises:
      ImportError: TFDS is not installed.
      ValueError: no such dataset, or one without an image and a label.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"--dataset_name={PREFIX}{name} needs TensorFlow Datasets: "
            'pip install -c constraints.txt ".[tfds]".'
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"--dataset_name={PREFIX}{name}: TensorFlow Datasets has no such dataset. See its "
            "catalog for the names."
        ) from error
    features = builder.info.features
    labels = [key for key, one in features.items() if isinstance(one, tfds.features.ClassLabel)]
    images = [key for key, one in features.items() if isinstance(one, tfds.features.Image)]
    if not labels or not images:
        raise ValueError(
            f"--dataset_name={PREFIX}{name}: it has no image with one class label, only "
            f"{', '.join(features)}. It is not made for classification."
        )
    image, label = images[0], "label" if "label" in labels else labels[0]
    say(f"TensorFlow Datasets: {builder.info.full_name} in {builder.data_dir}")
    builder.download_and_prepare()
    for split in builder.info.splits:
        if not splits.named(split):
            say(f"Its split {split} is not one of {', '.join(splits.SPLITS)}: it counts as none.")
        examples = builder.as_dataset(
            split, decoders={image: tfds.decode.SkipDecoding()}, shuffle_files=False
        )
        os.makedirs(os.path.join(folder, split), exist_ok=True)
        for i, example in enumerate(tfds.as_numpy(examples)):
            encoded = example[image]
            kind = "png" if encoded[:4] == b"\x89PNG" else "jpg"
            path = f"{split}/{i:07}.{kind}"
            number = int(example[label])
            if not 0 <= number < features[label].num_classes:  # as in splits without labels
                yield Rejected(path, f"label outside the classes: {number}", harmless=True)
                continue
            with open(os.path.join(folder, path), "wb") as file:
                file.write(encoded)
            # Photographs are told apart by their times: those of equal ones must be equal.
            os.utime(file.name, ns=(0, zlib.crc32(encoded)))
            yield LabeledImage(
                path,
                features[label].int2str(number),
                _boxes(example, encoded),
                splits.named(split),
            )


def _boxes(example, encoded: bytes) -> tuple[Box, ...]:
    """Of a `bbox` or of the `bbox` of `objects`, in pixels; TFDS has them in fractions."""
    from datasets.conversion.image_bytes import Photograph

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
