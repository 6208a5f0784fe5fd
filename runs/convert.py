"""The conversion job: photographs and their labels to a dataset of TFRecords."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping

from datasets import tfrecord_dataset
from datasets.buckets import is_url
from datasets.conversion import convert as conversion
from datasets.conversion import image_bytes, near_duplicates, summary
from datasets.conversion.beam_engine import BeamEngine
from datasets.conversion.destination import Destination
from datasets.conversion.job import Engine, Job, Progress, Source, unshown
from datasets.conversion.local_engine import LocalEngine
from datasets.conversion.survey import Survey
from datasets.conversion.tally import Conversion
from datasets.findings import Effect, Finding, until_error
from datasets.options import ConversionOptions, EngineOptions
from datasets.schema import LabeledImage
from datasets.sources import class_folders, class_list, csv_table, image_folder, tfds, voc_xml, yolo
from datasets.sources.bucket_folder import folder_at
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject
from datasets.sources.split_lists import SplitLists
from datasets.sources.statements import UNNAMED, Rest, Statement
from foundation import labels
from foundation import options as foundation_options
from foundation.errors import InputError
from preprocessing import zca
from runs import dataset_page, first_hour
from runs.options import ConvertOptions

_Say = Callable[[str], None]

# Options that shape the dataset; dataset.json holds them in this order.
_NOTED = (
    "image_dir annotations_dir csv_file classes validation_fraction test_fraction num_shards "
    "multiple_objects crop_to_box box_margin max_side equalize denoise verify near_duplicates "
    "on_error zca_size zca_epsilon"
).split()
# Younger ones, which dataset.json holds only where they are not at their defaults.
_NOTED_IF_CHANGED = ("split_lists", "unannotated", "sixteen_bit", "csv_columns")


def convert(options: ConvertOptions, say: _Say = print, progress: Progress = unshown) -> Conversion:
    """Converts photographs into a dataset, and says what came of it.

    Args:
      options: where the photographs are, where the dataset goes, and what is stored.
      say: gets each line for the screen.
      progress: shows how many photographs have been read.

    Raises:
      InputError: options that make no sense; photographs or labels that can't be used; another
        dataset is in the place.
      OSError: the dataset cannot be written.
    """
    foundation_options.check(options)
    if options.conversion.denoise == "nlm":
        image_bytes.opencv()  # so that a missing extra is noticed before all else
    values = foundation_options.values(options)
    whitening = None
    if size := options.conversion.zca_size:
        whitening = zca.Fit(size, options.conversion.zca_epsilon or 0.01)
    job = Job(
        options.destination,
        _searching(options),
        _engine(options.engine),
        flags={name: values[name] for name in (*_NOTED, *_changed(values))},
        whitening=whitening,
        say=say,
        progress=progress,
    )
    destination, page = Destination.of(options.destination), ""
    with _source(options, say) as source:
        if options.destination.report:
            job = dataclasses.replace(job, survey=Survey(source.folder))
        made = conversion.convert(source, job)
        if job.survey:
            page = dataset_page.write(made, job.survey, source.folder, destination)
    following = first_hour.lines(made, destination)
    for line in summary.lines(made, destination, options.destination.dry_run, following):
        say(line)
    if page:
        say(f"\n{page} shows the dataset, and what was found in it.")
    return made


def _engine(given: EngineOptions) -> Engine:
    return BeamEngine(given.runner, given.runner_options) if given.runner else LocalEngine()


def _searching(options: ConvertOptions) -> ConversionOptions:
    """The options of the conversion, with near duplicates where the report can show them."""
    given = options.conversion
    if options.destination.report and given.near_duplicates == "ignore":
        with contextlib.suppress(InputError):
            near_duplicates.require()
            return given.replace(near_duplicates="report")
    return given


def _changed(values: Mapping[str, object]) -> list[str]:
    defaults = foundation_options.values(ConvertOptions())
    return [name for name in _NOTED_IF_CHANGED if values[name] != defaults[name]]


@contextlib.contextmanager
def _source(options: ConvertOptions, say: _Say) -> Iterator[Source]:
    """What the options say the labels come from, ready to be read."""
    given = options.photographs
    if not options.destination.from_tfds:
        folder = folder_at(given.image_dir)
        items = _labelled(folder, options, say)
        if given.split_lists:
            items = SplitLists(given.split_lists).place(items)
        yield Source(items, folder, _classes(given.classes, say))
        return
    parent = None
    if not options.destination.dry_run:  # which leaves nothing there
        place = options.destination.output_dir or options.destination.output_file
        place = "." if is_url(place) else place
        parent = os.path.dirname(os.path.abspath(place))
        os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tfds_", dir=parent) as place:
        items = tfds.read(options.destination.dataset_name, given.tfds_data_dir, place, say)
        yield Source(items, ImageFolder(place), _classes(given.classes, say))


def _classes(given: str | None, say: _Say) -> tuple[str, ...]:
    if not given:
        return ()
    found = class_list.read(given)
    say(f"--classes: {labels.shortened(found.names)}, read as {found.form}.")
    return found.names


def _labelled(
    folder: ImageFolder, options: ConvertOptions, say: _Say
) -> Iterable[LabeledImage | Finding]:
    given = options.photographs
    if not given.csv_file and not given.annotations_dir:
        _check_place(folder, options)
        return _by_folders(folder, options, say)
    if not given.csv_file:
        return _annotated(given.annotations_dir, folder, options, say)
    tables = [given.csv_file]
    if "," in given.csv_file and not os.path.exists(given.csv_file):
        tables = [os.path.expanduser(part.strip()) for part in given.csv_file.split(",")]
    if all(map(os.path.exists, tables)):
        if given.annotations_dir:
            say(
                f"{given.csv_file} is there and is used; {given.annotations_dir} is not read. "
                "Remove it where they have changed."
            )
        for findings in filter(os.path.exists, map(csv_table.findings_file, tables)):
            say(f"What was rejected when it was written is in {findings}, and counts.")
    elif not given.annotations_dir or len(tables) > 1:
        raise InputError(
            "there is no such file. It is made from annotations when --annotations_dir is given "
            "too.",
            option="csv_file",
            value=next(table for table in tables if not os.path.exists(table)),
        )
    else:
        annotated = _annotated(given.annotations_dir, folder, options, say)
        if options.destination.dry_run:
            return annotated
        stops = options.conversion.on_error == "fail"
        csv_table.write(given.csv_file, until_error(annotated) if stops else annotated)
        say(f"Wrote {given.csv_file} from {given.annotations_dir}.")
    rest = _rest(folder, options)
    return csv_table.read(
        tables, folder, given.multiple_objects, say, rest, chosen=given.csv_columns
    )


def _by_folders(
    folder: ImageFolder, options: ConvertOptions, say: _Say
) -> Iterable[LabeledImage | Finding]:
    """By the folders' names, or by annotations among the photographs where these are no classes."""
    one_is_enough = bool(options.photographs.classes)
    try:
        class_folders.layout(folder, one_is_enough)
    except InputError as error:
        if is_url(folder.path):
            raise
        if voc_xml.are_in(folder.path):
            say(f"Labels come from the .xml files among the photographs: {error.problem}")
        elif yolo.are_in(folder.path):
            say(f"Labels come from the .txt files among the photographs: {error.problem}")
        elif records := tfrecord_dataset.files_in(folder.path):
            raise InputError(
                f"it holds TFRecord files ({records[0]}), and no photographs.",
                option="image_dir",
                value=folder.path,
                remedy="They need no conversion: give the folder to train_image_classifier.py "
                "--dataset_dir, or files by --tfrecord_file.",
            ) from error
        elif json := next(image_folder.walk(folder.path, (".json").__eq__), ""):
            remedy = f"{json} may be COCO's, which is not read: {voc_xml.EXPORT}"
            raise error.about(error.option, remedy) from error
        else:
            raise
        return _annotated(folder.path, folder, options, say)
    return class_folders.read(folder, say, one_is_enough)


def _annotated(
    annotations_dir: str, folder: ImageFolder, options: ConvertOptions, say: _Say
) -> Iterable[LabeledImage | Finding]:
    """By the annotations in a folder: XML files, or YOLO's text files where there are no such."""
    given, rest = options.photographs, _rest(folder, options)
    if os.path.isdir(annotations_dir) and not voc_xml.are_in(annotations_dir):
        if yolo.are_in(annotations_dir):
            classes = class_list.read(given.classes).names if given.classes else ()
            rule = given.multiple_objects
            return yolo.read(annotations_dir, folder, rule, classes, say, rest)
    return voc_xml.read(annotations_dir, folder, given.multiple_objects, rest)


def _rest(folder: ImageFolder, options: ConvertOptions) -> Rest:
    """What to make of photographs that nothing in the source names."""

    def others(path: str) -> Statement | Finding:
        label, split = class_folders.label_of(path)
        if label and options.photographs.unannotated == "folder":
            return Statement(path, (LabeledObject(label, None),), split, origin=path)
        if options.photographs.unannotated == "error":
            raise InputError(
                f"{os.path.join(folder.path, path)} has no annotation.",
                option="unannotated",
                value="error",
            )
        hint = f": its folder is called {label} (--unannotated=folder)" if label else ""
        return Finding(path, f"{UNNAMED}{hint}", Effect.LEFT_OUT)

    return Rest(folder, others)


def _check_place(folder: ImageFolder, options: ConvertOptions) -> None:
    """Raises InputError where the dataset would lie among the folders that are classes."""
    file = options.destination.output_file
    place = options.destination.output_dir or os.path.dirname(file or "") or "."
    if is_url(place) or is_url(folder.path):
        if f"{place}/".startswith(f"{folder.path}/"):
            raise InputError(f"{place} lies in --image_dir.", remedy="Choose a place elsewhere.")
        return
    if pathlib.Path(folder.path).resolve() in pathlib.Path(place).resolve().parents:
        raise InputError(
            f"{place} lies in --image_dir, whose folders are the classes.",
            remedy="Choose a place elsewhere.",
        )
