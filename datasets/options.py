"""Options of the datasets: where records lie, how they are read, and how they are made."""

import re

from foundation.errors import UsageError
from foundation.options import Options, option, options

SOURCES_RULES = ("largest", "first", "each", "skip")


@options
class SourceOptions(Options):
    """Data."""

    dataset_dir: str | None = option(
        None,
        "Folder with the shards, labels.txt and dataset.json of a dataset.",
        path=True,
        remote=True,
    )
    dataset_name: str | None = option(
        None,
        "Name the shards begin with (NAME_SPLIT-00000-of-00004.tfrecord). "
        "Not needed when the folder holds one dataset.",
    )
    dataset_split_name: str = option("train", "Split to read: train, validation, test, …")
    tfrecord_file: str | None = option(
        None,
        "One TFRecord file, a comma-separated list or a glob, in place of --dataset_dir.",
        aliases=("chemin_tfrecords",),
        path=True,
        remote=True,
    )
    path_to_csv: str | None = option(
        None,
        "CSV of image-label pairs that the records were made from; only its class names are read: "
        "for records that carry none, and to check the names that they carry.",
        aliases=("csv_file", "chemin_csv"),
        path=True,
        remote=True,
    )
    labels_offset: int = option(
        0,
        "Subtracted from every label and from the number of classes: 1 when the records number "
        "their classes from 1, with 0 for the background.",
        bounds=(0, None),
    )

    @property
    def is_given(self) -> bool:
        """Whether any option that says where the examples lie was set by hand."""
        named = self.dataset_dir, self.dataset_name, self.tfrecord_file, self.path_to_csv
        return any(named) or "dataset_split_name" in self.given


@options
class ThreadsOptions(Options):
    """Reading the records."""

    num_preprocessing_threads: int | None = option(
        None,
        "Threads that decode and augment; unset means as many as processors.",
        bounds=(1, None),
    )


@options
class ReadingOptions(ThreadsOptions):
    """Reading the records."""

    max_bad_records: int = option(
        0,
        "How many records that can't be read are passed over. Unless it is 0, all images are "
        "decoded once at the start to find them.",
        bounds=(0, None),
    )
    cache: str = option(
        "none",
        "Copy the TFRecord files into memory or onto the local disk first; for files on a network "
        "or compressed ones.",
        choices=("none", "memory", "disk"),
    )


@options
class TrainingReadingOptions(ReadingOptions):
    """Reading the records."""

    data_service: tuple[str, ...] = option(
        (),
        "HOST:PORT of a tf.data service (data_service.py) that prepares the images; several, "
        "separated by commas, take turns.",
    )
    balanced_sampling: bool = option(
        False, "Draw images of rare classes more often, as often as of the most frequent one."
    )

    def check(self) -> None:
        for address in self.data_service:
            if ":" not in address:
                raise UsageError("write HOST:PORT.", option="data_service", value=address)
        if self.data_service and self.cache != "none":
            raise UsageError(
                "--data_service reads the records on other machines, this copies them on this "
                "one: leave one of them out.",
                option="cache",
                value=self.cache,
            )


@options
class PhotographsOptions(Options):
    """Photographs and their labels."""

    image_dir: str | None = option(
        None,
        "Folder of the photographs; nothing outside of it is read. Or the URL of one in a bucket, "
        "such as gs://bucket/photographs (extra beam, and fsspec's package for that kind).",
        path=True,
        remote=True,
    )
    annotations_dir: str | None = option(
        None,
        "Folder of annotations, at any depth: Pascal-VOC's .xml files, files without extension as "
        "Stanford Dogs has them, or YOLO's .txt files with their data.yaml or classes.txt.",
        aliases=("labels_dir",),
        path=True,
        remote=True,
    )
    csv_file: str | None = option(
        None,
        "CSV with the columns filename, label and, where wanted, split, xmin, ymin, xmax, ymax; "
        "comma, semicolon or tab; header or none. Several, separated by commas, are each a split "
        "by its name (train.csv,test.csv). With --annotations_dir, one that does not exist is "
        "written first, and one that exists is used as it is.",
        aliases=("path_to_csv", "chemin_csv"),
        path=True,
    )
    csv_columns: tuple[str, ...] = option(
        (),
        "Columns of --csv_file whose headings are not understood: filename:Plate,label:Kind; also "
        "split, xmin, ymin, xmax, ymax, width, height. A number counts columns from 1.",
    )
    classes: str | None = option(
        None,
        "File with the class names in the order of their numbers: one a line, as name or 0:name, "
        "JSON, the names of a YAML file, a label map; or the names themselves, separated by "
        "commas (cat,dog or 0:cat,1:dog). Unset: the sorted names of the labels.",
        path=True,
    )
    split_lists: tuple[str, ...] = option(
        (),
        "Lists of the photographs of each split, by their names train, validation or test: text "
        "with a name a line, or Stanford Dogs' train_list.mat,test_list.mat. They win over what "
        "the source says; photographs in none of them are left out and listed.",
        path=True,
    )
    unannotated: str = option(
        "skip",
        "What becomes of a photograph in --image_dir that no annotation names: it is left out and "
        "listed, its folder's name is its label, or it is an error.",
        choices=("skip", "folder", "error"),
    )
    tfds_data_dir: str | None = option(
        None,
        "Where TensorFlow Datasets keeps its data; unset: its own choice.",
        path=True,
        remote=True,
    )
    multiple_objects: str = option(
        "largest",
        "What becomes of a photograph with several objects: it takes the label of the largest or "
        "of the first, it becomes an example for each, or it is left out.",
        choices=SOURCES_RULES,
    )


@options
class DestinationOptions(Options):
    """Dataset."""

    output_dir: str | None = option(
        None,
        "Folder for NAME_SPLIT-00000-of-00004.tfrecord, labels.txt, dataset.json and rejected.csv; "
        "or the URL of one in a bucket.",
        aliases=("dataset_dir",),
        path=True,
        remote=True,
    )
    dataset_name: str | None = option(
        None,
        "NAME in the names of the shards. Unset: the name of --output_dir. tfds:NAME takes the "
        "photographs from TensorFlow Datasets (extra tfds), boxes and splits included.",
    )
    output_file: str | None = option(
        None,
        "In place of --output_dir: one TFRecord file for all examples. The rest goes to its "
        "folder, as FILE.labels.txt, FILE.dataset.json and FILE.rejected.csv.",
        aliases=("chemin_tfrecords",),
        path=True,
        remote=True,
    )
    validation_fraction: float | None = option(
        None,
        "Share of the photographs for validation, chosen by a hash of the image: more photographs "
        "move none, exact duplicates stay together. Unset: 0.2 where the source has no splits, "
        "else none; set: taken from the source's training photographs, if it has no validation "
        "split.",
        bounds=(0, 1),
    )
    test_fraction: float | None = option(None, "The same for test; unset: none.", bounds=(0, 1))
    num_shards: int | None = option(
        None,
        "Files of each split. Unset: as many as make about 128 MiB each.",
        bounds=(1, 99_999),
    )
    overwrite: bool = option(False, "Replace a dataset that is there, once the new one is whole.")
    report: bool = option(
        False,
        "Write dataset.html next to the dataset: counts, sizes and ages of the photographs, boxes, "
        "duplicates and, with the extra duplicates, near duplicates as pairs of pictures, and what "
        "was rejected.",
    )
    dry_run: bool = option(
        False, "Read and check every photograph and print the summary; write nothing."
    )

    @property
    def from_tfds(self) -> bool:
        """Whether the photographs come from TensorFlow Datasets."""
        return bool(self.dataset_name) and self.dataset_name.startswith("tfds:")

    def check(self) -> None:
        if bool(self.output_dir) == bool(self.output_file):
            raise UsageError(
                "Give --output_dir for a dataset of shards, or --output_file for one file, not "
                "both."
            )
        if self.report and self.dry_run:
            raise UsageError("--report writes a page, --dry_run nothing: leave one out.")
        for name in ("validation_fraction", "test_fraction", "num_shards"):
            value = getattr(self, name)
            if self.output_file and value and (name != "num_shards" or value > 1):
                raise UsageError(
                    f"--{name} and --output_file: everything goes into the one file. "
                    "Use --output_dir."
                )
        name = self.dataset_name
        if name and not self.from_tfds and not re.fullmatch(r"[\w.-]+", name):
            raise UsageError(
                "letters, digits, '_', '-' and '.' only; it becomes part of file names.",
                option="dataset_name",
                value=name,
            )


@options
class CropOptions(Options):
    """Crop."""

    crop_to_box: bool = option(
        False, "Take the object that an annotation has a box of, and not all of the photograph."
    )
    box_margin: float = option(
        0.0,
        "Added to --crop_to_box on each side, as a fraction of the box's width and height.",
        bounds=(0, None),
    )

    def check(self) -> None:
        if self.box_margin and not self.crop_to_box:
            raise UsageError("--box_margin belongs to --crop_to_box, which is not set.")


@options
class AnnotatedCropOptions(CropOptions):
    """Crop."""

    annotations_dir: str | None = option(
        None,
        "Folder of the Pascal-VOC annotations that --crop_to_box reads: PHOTO.xml, or as Stanford "
        "Dogs has them. Unset: PHOTO.xml beside each photograph.",
        path=True,
        remote=True,
    )

    def check(self) -> None:
        super().check()
        if self.annotations_dir and not self.crop_to_box:
            raise UsageError("--annotations_dir belongs to --crop_to_box, which is not set.")


@options
class ConversionOptions(CropOptions):
    """What is stored of a photograph, and what is refused."""

    max_side: int = option(
        0,
        "Shrink larger photographs to this many pixels, once and for all; 0: keep their size.",
        bounds=(0, None),
    )
    sixteen_bit: str = option(
        "auto",
        "How photographs of 16 bits a channel are brought to 8: auto scales by the bits that the "
        "largest value of all of them needs, full by 16, a number by that; percentile stretches "
        "each one by itself.",
        choices=("auto", "full", "10", "12", "14", "percentile"),
    )
    equalize: bool = option(False, "Spread each channel's histogram evenly, once and for all.")
    denoise: str = option(
        "none", "nlm: non-local means, once and for all (extra opencv).", choices=("none", "nlm")
    )
    zca_size: int | None = option(
        None,
        "Also fit ZCA whitening to the training photographs, shrunk to this many pixels a side, "
        "for training with --normalization=zca on images of this size.",
        bounds=(4, 48),  # the matrix has (3 * side * side) squared entries: 191 MB
    )
    zca_epsilon: float | None = option(
        None,
        "Added to each variance (of values in 0..1) before it is brought to one; more whitens "
        "less. Unset: 0.01.",
        bounds=(1e-8, None),
    )
    verify: str = option(
        "full",
        "full: decode every photograph, so that no training dies of one; header: read no more than "
        "the header of those whose bytes stay, for files that are known to be whole.",
        choices=("full", "header"),
    )
    near_duplicates: str = option(
        "ignore",
        "Find photographs that are almost the same and yet are in different splits or have "
        "different labels (extra duplicates). report: list the pairs in near_duplicates.csv; drop: "
        "also leave out the one that is not for evaluation, or both where the labels differ.",
        choices=("ignore", "report", "drop"),
    )
    on_error: str = option(
        "skip",
        "What to do about a photograph or annotation that is not usable: list it in rejected.csv "
        "and go on, or stop. More than half of them, or a class without training photographs, is "
        "an error in any case.",
        choices=("skip", "fail"),
    )
    num_workers: int | None = option(
        None,
        "Threads that read and check photographs; the files do not depend on it. Unset: one for "
        "each processor.",
        bounds=(1, None),
    )

    def check(self) -> None:
        super().check()
        if self.zca_epsilon and not self.zca_size:
            raise UsageError("--zca_epsilon belongs to --zca_size, which is not set.")


@options
class EngineOptions(Options):
    """Conversion on many machines."""

    runner: str | None = option(
        None,
        "Runner of Apache Beam that reads the photographs and writes the records (extra beam); the "
        "dataset is the same to the byte. Its workers must reach --image_dir and --output_dir: "
        "shared folders or buckets. Unset: threads of this process.",
        choices=("DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"),
    )
    runner_options: str | None = option(
        None,
        "The runner's own options, in one pair of quotation marks, such as "
        "'--direct_num_workers=8 --direct_running_mode=multi_processing' or '--project=p "
        "--region=r --temp_location=gs://bucket/tmp --sdk_container_image=IMAGE'.",
    )

    def check(self) -> None:
        if self.runner_options and not self.runner:
            raise UsageError("--runner_options belongs to --runner, which is not set.")


@options
class ServiceOptions(Options):
    """tf.data service."""

    port: int = option(5050, "Where training asks; 0: any that is free.", bounds=(0, 65_535))
    worker_port: int = option(0, "Where the images come from; 0: any free.", bounds=(0, 65_535))
    host: str = option("localhost", "Name or address of this machine, as the others know it.")
