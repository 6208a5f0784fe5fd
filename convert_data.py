"""Turns photographs and their labels into sharded TFRecords that the other scripts read.

Labels come from one of:
  Pascal-VOC XML      --image_dir=DIR --annotations_dir=DIR
  a CSV               --image_dir=DIR --csv_file=FILE
  a folder per class  --image_dir=DIR   (train/, validation/, test/ above them are the splits)
  TensorFlow Datasets --dataset_name=tfds:stanford_dogs

  python convert_data.py --image_dir=photographs --dataset_name=animals --output_dir=animals
"""

import collections
import dataclasses
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Sequence

from absl import flags

import shared_flags

_IMAGE_DIR = flags.DEFINE_string(
    "image_dir", None, "Folder of the photographs; nothing outside of it is read."
)
_ANNOTATIONS_DIR = flags.DEFINE_string(
    "annotations_dir",
    None,
    "Folder of Pascal-VOC annotations, at any depth: .xml files, or files without extension as "
    "Stanford Dogs has them.",
)
flags.DEFINE_alias("labels_dir", "annotations_dir")
_CSV_FILE = flags.DEFINE_string(
    "csv_file",
    None,
    "CSV with the columns filename, label and, where wanted, split, xmin, ymin, xmax, ymax; comma, "
    "semicolon or tab; header or none. With --annotations_dir, one that does not exist is written "
    "first, and one that exists is used as it is.",
)
flags.DEFINE_alias("path_to_csv", "csv_file")
flags.DEFINE_alias("chemin_csv", "csv_file")
_CLASSES = flags.DEFINE_string(
    "classes",
    None,
    "File with the class names in the order of their numbers, one a line, as name or 0:name; or "
    "the names themselves, separated by commas. Unset: the sorted names of the labels.",
)

_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Folder for NAME_SPLIT-00000-of-00004.tfrecord, labels.txt, dataset.json and rejected.csv.",
)
flags.DEFINE_alias("dataset_dir", "output_dir")
_DATASET_NAME = flags.DEFINE_string(
    "dataset_name",
    None,
    "NAME in the names of the shards. Unset: the name of --output_dir. tfds:NAME takes the "
    "photographs from TensorFlow Datasets (extra tfds), boxes and splits included.",
)
_TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir", None, "Where TensorFlow Datasets keeps its data; unset: its own choice."
)
_OUTPUT_FILE = flags.DEFINE_string(
    "output_file",
    None,
    "In place of --output_dir: one TFRecord file for all examples. The rest lies beside it, as "
    "FILE.labels.txt, FILE.dataset.json and FILE.rejected.csv.",
)
flags.DEFINE_alias("chemin_tfrecords", "output_file")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace a dataset that is there, once the new one is whole."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Read and check every photograph and print the summary; write nothing."
)

_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction",
    None,
    "Share of the photographs for validation, chosen by a hash of the image: more photographs "
    "move none, exact duplicates stay together. Unset: 0.2 where the source has no splits, else "
    "none; set: taken from the source's training photographs, if it has no validation split.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction", None, "The same for test; unset: none.", lower_bound=0.0, upper_bound=1.0
)
_NUM_SHARDS = flags.DEFINE_integer(
    "num_shards",
    None,
    "Files of each split. Unset: as many as make about 128 MiB each.",
    lower_bound=1,
    upper_bound=99_999,
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers",
    None,
    "Threads that read and check photographs; the files do not depend on it. Unset: one for "
    "each processor.",
    lower_bound=1,
)

_MULTIPLE_OBJECTS = flags.DEFINE_enum(
    "multiple_objects",
    "largest",
    ["largest", "first", "each", "skip"],
    "What becomes of a photograph with several objects: it takes the label of the largest or of "
    "the first, it becomes an example for each, or it is left out.",
)
_CROP_TO_BOX = flags.DEFINE_bool(
    "crop_to_box", False, "Store the object that gives the label, and not all of the photograph."
)
_BOX_MARGIN = flags.DEFINE_float(
    "box_margin",
    0.0,
    "Added to --crop_to_box on each side, as a fraction of the box's width and height.",
    lower_bound=0.0,
)
_MAX_SIDE = flags.DEFINE_integer(
    "max_side",
    0,
    "Shrink larger photographs to this many pixels, once and for all; 0: keep their size.",
    lower_bound=0,
)
_EQUALIZE = flags.DEFINE_bool(
    "equalize", False, "Spread each channel's histogram evenly, once and for all."
)
_DENOISE = flags.DEFINE_enum(
    "denoise", "none", ["none", "nlm"], "nlm: non-local means, once and for all (extra opencv)."
)
_ZCA_SIZE = flags.DEFINE_integer(
    "zca_size",
    None,
    "Also fit ZCA whitening to the training photographs, shrunk to this many pixels a side, for "
    "training with --normalization=zca on images of this size.",
    lower_bound=4,
    upper_bound=48,  # the matrix has (3 * side * side) squared entries: 191 MB
)
_ZCA_EPSILON = flags.DEFINE_float(
    "zca_epsilon",
    None,
    "Added to each variance (of values in 0..1) before it is brought to one; more whitens less. "
    "Unset: 0.01.",
    lower_bound=1e-8,
)
_VERIFY = flags.DEFINE_enum(
    "verify",
    "full",
    ["full", "header"],
    "full: decode every photograph, so that no training dies of one; header: read no more than "
    "the header of those whose bytes stay, for files that are known to be whole.",
)
_NEAR_DUPLICATES = flags.DEFINE_enum(
    "near_duplicates",
    "ignore",
    ["ignore", "report", "drop"],
    "Look for photographs that are almost the same and yet are in different splits or have "
    "different labels (extra duplicates). report: list the pairs in near_duplicates.csv; drop: "
    "also leave out the one that is not for evaluation, or both where the labels differ.",
)
_ON_ERROR = flags.DEFINE_enum(
    "on_error",
    "skip",
    ["skip", "fail"],
    "What to do about a photograph or annotation that is not usable: list it in rejected.csv and "
    "go on, or stop. More than half of them, or a class without training photographs, is an "
    "error in any case.",
)

# Flags that shape the dataset; dataset.json holds them.
_NOTED = (
    "image_dir annotations_dir csv_file classes validation_fraction test_fraction num_shards "
    "multiple_objects crop_to_box box_margin max_side equalize denoise verify near_duplicates "
    "on_error zca_size zca_epsilon"
).split()
_LISTED = 20  # files that the summary names of each sort


def main() -> None:
    # Class and file names need not fit the terminal's encoding.
    sys.stdout.reconfigure(errors="backslashreplace")
    _check_flags()
    # Imported here, so that --help answers at once.
    from datasets.sources.image_folder import ImageFolder

    if not _from_tfds():
        folder = ImageFolder(_IMAGE_DIR.value)
        return _convert(_source(folder), folder)
    import tempfile

    from datasets.sources import tfds

    name = _DATASET_NAME.value.removeprefix(tfds.PREFIX)
    beside = None
    if not _DRY_RUN.value:  # which leaves nothing there
        beside = os.path.dirname(os.path.abspath(_OUTPUT_DIR.value or _OUTPUT_FILE.value))
        os.makedirs(beside, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tfds_", dir=beside) as place:
        _convert(tfds.read(name, _TFDS_DATA_DIR.value, place), ImageFolder(place))


def _from_tfds() -> bool:
    return bool(_DATASET_NAME.value) and _DATASET_NAME.value.startswith("tfds:")


def _convert(source, folder) -> None:
    from datasets.conversion import convert, image_bytes

    if _DENOISE.value == "nlm":
        image_bytes.opencv()
    filters = ("denoise",) * (_DENOISE.value == "nlm") + ("equalize",) * _EQUALIZE.value
    destination = _destination()
    num_workers = _NUM_WORKERS.value or _num_processors()
    screened = _Screened(folder, num_workers, destination)
    summary = convert.convert(
        source,
        folder,
        destination,
        convert.Settings(
            classes=_classes(),
            validation_fraction=_VALIDATION_FRACTION.value,
            test_fraction=_TEST_FRACTION.value,
            num_shards=_NUM_SHARDS.value or 0,
            crop_to_box=_CROP_TO_BOX.value,
            box_margin=_BOX_MARGIN.value,
            max_side=_MAX_SIDE.value,
            filters=filters,
            verify=_VERIFY.value == "full",
            zca_size=_ZCA_SIZE.value or 0,
            zca_epsilon=_ZCA_EPSILON.value or 0.01,
            stop_on_error=_ON_ERROR.value == "fail",
        ),
        flags={name: flags.FLAGS[name].value for name in _NOTED},
        num_workers=num_workers,
        overwrite=_OVERWRITE.value,
        dry_run=_DRY_RUN.value,
        show_progress=True,
        screen=None if _NEAR_DUPLICATES.value == "ignore" else screened,
    )
    _print_summary(summary, destination)
    screened.tell()


class _Screened:
    """Finds near duplicates, and leaves them out where that is wished."""

    def __init__(self, folder, num_workers: int, destination):
        self._folder, self._num_workers, self._destination = folder, num_workers, destination
        self._pairs, self._gone = [], set()

    def __call__(self, photographs) -> set[str]:
        from datasets import splits
        from datasets.conversion import near_duplicates

        given = {image.split for image in photographs}
        fractions = _VALIDATION_FRACTION.value, _TEST_FRACTION.value
        looked_at = photographs
        if self._destination.is_file:  # which has no splits
            looked_at = [dataclasses.replace(image, split="") for image in photographs]
            given, fractions = {""}, (0.0, 0.0)
        choice = splits.Choice(given, *fractions)
        print("Looking for near duplicates …")
        self._pairs = near_duplicates.find(looked_at, self._folder, choice, self._num_workers)
        if _NEAR_DUPLICATES.value == "drop":
            self._gone = near_duplicates.dropped(self._pairs)
        return self._gone

    def tell(self) -> None:
        from datasets.conversion import near_duplicates
        from datasets.conversion.destination import NEAR_DUPLICATES

        if _NEAR_DUPLICATES.value == "ignore":
            return
        print(f"\nNear duplicates across splits or labels: {len(self._pairs)} pairs")
        _print_some(
            [
                f"{one.first.path} ({one.first.label}, {one.splits[0]}) and {one.second.path} "
                f"({one.second.label}, {one.splits[1]})"
                for one in self._pairs
            ]
        )
        if self._gone:
            print(f"  {len(self._gone)} photographs were left out.")
        if self._pairs and not _DRY_RUN.value:
            name = self._destination.side(NEAR_DUPLICATES)
            near_duplicates.write(os.path.join(self._destination.folder, name), self._pairs)
            print(f"  All of them are in {os.path.join(self._destination.folder, name)}.")


def _check_flags() -> None:
    if _from_tfds():
        given = shared_flags.explicit(
            "image_dir", "annotations_dir", "csv_file", "multiple_objects"
        )
        if given:
            raise shared_flags.UsageError(
                f"--{next(iter(given))} and --dataset_name={_DATASET_NAME.value}: the photographs "
                "come from TensorFlow Datasets. Leave one of them out."
            )
    elif not _IMAGE_DIR.value:
        raise shared_flags.UsageError("--image_dir is missing: the folder of the photographs.")
    if bool(_OUTPUT_DIR.value) == bool(_OUTPUT_FILE.value):
        raise shared_flags.UsageError(
            "Give --output_dir for a dataset of shards, or --output_file for one file, not both."
        )
    if _OUTPUT_FILE.value:
        for name in ("validation_fraction", "test_fraction", "num_shards"):
            if flags.FLAGS[name].value and (name != "num_shards" or _NUM_SHARDS.value > 1):
                raise shared_flags.UsageError(
                    f"--{name} and --output_file: everything goes into the one file. "
                    "Use --output_dir."
                )
    if _BOX_MARGIN.value and not _CROP_TO_BOX.value:
        raise shared_flags.UsageError("--box_margin belongs to --crop_to_box, which is not set.")
    if _ZCA_EPSILON.value and not _ZCA_SIZE.value:
        raise shared_flags.UsageError("--zca_epsilon belongs to --zca_size, which is not set.")
    if (
        _DATASET_NAME.value
        and not _from_tfds()
        and not re.fullmatch(r"[\w.-]+", _DATASET_NAME.value)
    ):
        raise shared_flags.UsageError(
            f"--dataset_name={_DATASET_NAME.value}: letters, digits, '_', '-' and '.' only; it "
            "becomes part of file names."
        )


def _destination():
    from datasets.conversion.destination import Destination

    if _OUTPUT_FILE.value:
        return Destination.of_file(_OUTPUT_FILE.value)
    folder_name = os.path.basename(os.path.abspath(_OUTPUT_DIR.value))
    given = "" if _from_tfds() else _DATASET_NAME.value
    name = given or re.sub(r"[^\w.-]+", "_", folder_name) or "dataset"
    return Destination(_OUTPUT_DIR.value, name)


def _source(folder):
    """What the flags say the labels come from, ready to be read."""
    from datasets.conversion import convert
    from datasets.sources import class_folders, csv_table, voc_xml

    annotations_dir, csv_file = _ANNOTATIONS_DIR.value, _CSV_FILE.value
    rule = _MULTIPLE_OBJECTS.value
    if not csv_file and not annotations_dir:
        place = _OUTPUT_DIR.value or os.path.dirname(_OUTPUT_FILE.value) or "."
        if pathlib.Path(folder.path).resolve() in pathlib.Path(place).resolve().parents:
            raise ValueError(
                f"{place} lies in --image_dir, whose folders are the classes. Choose a place "
                "elsewhere."
            )
        return class_folders.read(folder)
    if not csv_file:
        return voc_xml.read(annotations_dir, folder, rule)
    if os.path.exists(csv_file):
        if annotations_dir:
            print(
                f"{csv_file} is there and is used; {annotations_dir} is not read. Remove it where "
                "they have changed."
            )
        if os.path.exists(beside := csv_table.rejected_file(csv_file)):
            print(f"What was rejected when it was written is in {beside}, and counts.")
        return csv_table.read(csv_file, folder, rule)
    if not annotations_dir:
        raise ValueError(
            f"--csv_file={csv_file}: there is no such file. It is made from annotations when "
            "--annotations_dir is given too."
        )
    annotated = voc_xml.read(annotations_dir, folder, rule)
    if _DRY_RUN.value:
        return annotated
    stops = _ON_ERROR.value == "fail"
    csv_table.write(csv_file, convert.until_error(annotated) if stops else annotated)
    print(f"Wrote {csv_file} from {annotations_dir}.")
    return csv_table.read(csv_file, folder, rule)


def _classes() -> tuple[str, ...]:
    from datasets import class_names

    value = _CLASSES.value
    if not value:
        return ()
    if not os.path.isfile(value):
        if "," not in value:
            raise ValueError(
                f"--classes={value}: there is no such file. Names are separated by commas, with "
                f"one after a single name (--classes={value},). Unset: the names of the labels, "
                "sorted."
            )
        return _distinct(value.removesuffix(",").split(","))
    return _distinct(class_names.read(value))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    names = [" ".join(name.split()) for name in names]
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(f"--classes={_CLASSES.value}: a name is missing or there twice.")
    return tuple(names)


def _num_processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _print_summary(summary, destination) -> None:
    """Tells what was made, what was wrong, and what to type next."""
    total = sum(sum(count.values()) for count in summary.counts.values())
    print(f"\n{destination.name}: {total} examples of {len(summary.classes)} classes")
    _print_counts(summary)
    if summary.already_done:
        print(f"\nAlready converted, nothing to do: {destination.folder} holds this dataset.")
    else:
        _print_findings(summary, destination)
    if _DRY_RUN.value:
        print("\nNothing was written (--dry_run).")
        return
    print(f"\nFiles in {destination.folder}:")
    _print_some(summary.files)
    print("\nNext:")
    print(f"  {_next_command(destination)}")


def _print_counts(summary) -> None:
    names = sorted(summary.counts, key=("train", "validation", "test", "all").index)
    columns = [summary.counts[name] for name in names]
    rows = [(name, *(column.get(name, 0) for column in columns)) for name in summary.classes]
    more = len(rows) - _LISTED
    if more > 1:
        rows = [*rows[:_LISTED], (f"… {more} more", *[""] * len(columns))]
    rows.append(("all", *(sum(column.values()) for column in columns)))
    width = max(len(str(row[0])) for row in [("class",), *rows])
    for name, *counts in [("class", *names), *rows]:
        name = shared_flags.printable(name)
        print(f"  {name:{width}}  " + "  ".join(f"{count:>10}" for count in counts))


def _print_findings(summary, destination) -> None:
    present = set().union(*(count.keys() for count in summary.counts.values()))
    if absent := [name for name in summary.classes if name not in present]:
        print(f"\nWARNING: no example of {len(absent)} of the classes:")
        _print_some(absent)
    if summary.mixed_splits:
        mixed = ", ".join(split or "none" for split in summary.mixed_splits)
        print(f"\nWARNING: the source's splits ({mixed}) are mixed in the one file;")
        print("  --output_dir keeps them apart.")
    if summary.changes:
        print(f"\nEncoded anew: {_counted(summary.changes)}")
    if summary.rejected:
        kinds = collections.Counter(item.kind for item in summary.rejected)
        where = "" if _DRY_RUN.value else f", in {destination.side('rejected.csv')}"
        print(f"\nRejected or corrected{where}: {_counted(kinds)}")
        _print_some([f"{item.file}: {item.reason}" for item in summary.rejected])
    if summary.duplicates:
        print(f"\nExact duplicates of other photographs: {len(summary.duplicates)}")
        problems = [item for item in summary.duplicates if item.problem]
        _print_some([f"{item.file} is {item.same_as}" for item in summary.duplicates])
        if problems:
            print(f"\nWARNING: {len(problems)} of the duplicates contradict each other:")
            _print_some([f"{i.file} is {i.same_as}: {i.problem}" for i in problems])


def _print_some(lines: list[str]) -> None:
    for line in lines[:_LISTED]:
        print(f"  {shared_flags.printable(line)}")
    if len(lines) > _LISTED:
        print(f"  … and {len(lines) - _LISTED} more")


def _counted(kinds) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))


def _next_command(destination) -> str:
    words = ["python", "train_image_classifier.py"]
    if destination.is_file:
        words.append(f"--tfrecord_file={os.path.join(destination.folder, destination.name)}")
    else:
        words += [f"--dataset_dir={destination.folder}", f"--dataset_name={destination.name}"]
    return shlex.join([*words, f"--train_dir={destination.name.split('.')[0]}_train"])


if __name__ == "__main__":
    shared_flags.run(main)
