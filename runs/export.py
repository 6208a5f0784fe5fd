"""Exports a trained net: SavedModel, frozen graph, TensorFlow Lite, ONNX."""

import contextlib
import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from datasets import schema, tfrecord_dataset
from datasets.conversion import image_bytes
from datasets.splits import TEST, TRAIN
from foundation import labels
from foundation.errors import InputError
from runs import checks, opened, registration, splits, temperature, unusual_pictures
from runs.config import RunConfig
from runs.opened import OpenRun
from runs.options import ExportModelOptions
from serving import comparison, exporter, frozen_graph, onnx, tflite
from serving.export_config import ExportConfig
from serving.subject import Subject
from training import tracking

# Drawn where there is no dataset.
_NUM_DRAWN = 8
# Pictures that show a quantizer the range of a net's numbers.
_NUM_CALIBRATION = 128
# Of the pictures that are drawn to be compared, in pixels.
_UNUSUAL_SIDE = 400


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
      path: the folder, or the one file.
      files: format → path.
      config: what export.json says.
    """

    path: str
    files: dict[str, str]
    config: ExportConfig


def export(options: ExportModelOptions, say: Callable[[str], None] = print) -> Export:
    """Restores a net and writes it in the formats that are asked for.

    Args:
      options: what to export, and where to. What run.json says may be left out.
      say: gets lines for the screen.

    Raises:
      InputError: checkpoint and options do not fit each other, the destination is taken, or a
        written file does not give the checkpoint's numbers.
      OSError: a file could not be written.
    """
    config = checks.export(options)
    exporter.check_destination(options.export)
    for name, room in (("onnx", onnx), ("tflite", tflite)):
        if name in options.export.formats:
            room.require()
    if options.tracking.tracking == "mlflow":
        tracking.require()
    run = opened.open_run(
        options.checkpoint.checkpoint_path,
        options,
        names=None if config else _names(options),
        say=say,
    )
    say(str(run))
    divisor = temperature.of_run(options.temperature.temperature, run)
    if divisor != 1:
        say(f"Logits are divided by the temperature {divisor:.4g}.")
    examples = _examples(run, options)
    calibration = _calibration(run, options) if options.export.is_calibrated else ()
    with _errors_only():
        subject = _subject(run, examples, calibration, divisor)
        done = _export(options, exporter.export(subject, options.export))
    for line in _described(done):
        say(line)
    if options.tracking.tracking == "mlflow":
        _track(done, run, examples.encoded, options, say)
    model = shlex.quote(f"--model={done.path}")
    say(f"Next: python classify_image.py {model} --image=photo.jpg")
    return done


def _names(options: ExportModelOptions) -> Sequence[str] | None:
    """Class names for a checkpoint that brings none: those of the labels file or the dataset."""
    if options.export.labels_file:
        return labels.read(options.export.labels_file)
    return _dataset(None, options).labels if options.source.is_given else None


def _dataset(config: RunConfig | None, options: ExportModelOptions):
    wanted = options.source.dataset_split_name
    return splits.first_there(config, options.source, (wanted, TEST, TRAIN)).dataset


def _subject(
    run: OpenRun, examples: "_Examples", calibration: Sequence[bytes], divisor: float
) -> Subject:
    config, net = run.config, run.net
    pixels = {"size": config.image_size, "use_grayscale": config.use_grayscale}
    described = ExportConfig(
        run=_shareable(config),
        checkpoint=os.path.basename(run.checkpoint),
        global_step=run.step,
        moving_averages=run.uses_averages,
        temperature=divisor,
        versions={"tensorflow": tf.__version__, "keras": keras.__version__},
    )
    return Subject(
        model=_at_temperature(run.model, divisor),
        nodes=frozen_graph.Nodes(
            net.logits_node, net.predictions_node or frozen_graph.PROBABILITIES_NODE
        ),
        labels=run.labels,
        decode=functools.partial(run.recipe.evaluate, **pixels),
        prepare=functools.partial(run.recipe.evaluate_image, **pixels),
        picture=run.recipe.pictures,
        config=described,
        examples=examples.encoded,
        examples_source=examples.source,
        truth=examples.truth,
        calibration=calibration,
        unusual=_unusual(examples.encoded),
        input_words=f"{run.recipe.crop} (recipe {run.recipe.name})",
        moments=run.recipe.moments,
        companions={name: os.path.join(run.folder, name) for name in described.companions},
    )


def _at_temperature(model: keras.Model, divisor: float) -> keras.Model:
    """The same net whose logits are divided by a temperature."""
    if divisor == 1:
        return model
    outputs = model.output | {"logits": model.output["logits"] / divisor}
    return keras.Model(model.input, outputs)


def _shareable(config: RunConfig) -> dict[str, object]:
    """The run's configuration without the address of MLflow, which may hold a password."""
    flags = {name: value for name, value in config.flags.items() if name != "mlflow_uri"}
    return dataclasses.asdict(dataclasses.replace(config, flags=flags, mlflow_uri=None))


@dataclasses.dataclass(frozen=True)
class _Examples:
    """Pictures to compare an export on.

    Attributes:
      encoded: their bytes.
      source: what they are, in words.
      truth: the net's number of each one's class; None where that is unknown.
    """

    encoded: Sequence[bytes]
    source: str
    truth: Sequence[int] | None = None


def _examples(run: OpenRun, options: ExportModelOptions) -> _Examples:
    """Pictures of the dataset of the options or of the run.

    Where that of the run can't be reached, they are made up.
    """
    try:
        dataset = _dataset(run.config, options)
        if run.labels not in (dataset.labels, (opened.BACKGROUND, *dataset.labels)):
            raise InputError(
                f"The dataset's classes are {labels.shortened(dataset.labels)}, the model's "
                f"{labels.shortened(run.labels)}.",
                remedy="Leave the dataset's flags out, or give its own.",
            )
        records = _records(dataset.files, dataset.compression, options.export.check_examples)
    except (InputError, OSError):
        if options.source.is_given:
            raise
        return _Examples(_waves(), "drawn pictures (the run's dataset is not within reach)")
    background = len(run.labels) - dataset.num_classes
    numbers = [int(record["label"]) - dataset.labels_offset + background for record in records]
    # A label that the offset takes below the classes is of none of them.
    is_known = all(background <= number < len(run.labels) for number in numbers)
    return _Examples(
        [_upright(record["encoded"].numpy()) for record in records],
        f"pictures of {dataset.name or 'the dataset'}, split {dataset.split}",
        numbers if is_known else None,
    )


def _calibration(run: OpenRun, options: ExportModelOptions) -> list[bytes]:
    """Pictures of --representative_dataset, or of the training split of the options or the run."""
    given = options.export.representative_dataset
    try:
        if given:
            dataset = tfrecord_dataset.find(tfrecord_file=given)
        else:
            source = options.source.replace(dataset_split_name="train")
            dataset = splits.first_there(run.config, source, ("train",)).dataset
        records = _records(dataset.files, dataset.compression, _NUM_CALIBRATION)
    except (InputError, OSError) as error:
        problem = error.problem if isinstance(error, InputError) else str(error)
        raise InputError(
            problem if given else f"int8 needs pictures to be calibrated on. {problem}",
            option="representative_dataset",
            value=given,
            remedy="Name TFRecord files with pictures as the net will see them.",
        ) from error
    return [_upright(record["encoded"].numpy()) for record in records]


def _records(files: Sequence[str], compression: str, number: int) -> list[dict[str, tf.Tensor]]:
    """The first examples of a split, in turns from each of its files."""
    records = tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        lambda file: tf.data.TFRecordDataset(file, compression), cycle_length=len(files)
    )
    try:
        return list(records.take(number).map(schema.parse_example))
    except tf.errors.OpError as error:
        raise InputError(f"{files[0]}: can't be read: {error.message}") from error


def _upright(encoded: bytes) -> bytes:
    """The picture as conversion stores it; those of other tools' records may not be upright."""
    try:
        return image_bytes.Photograph(encoded).encode().data
    except ValueError:  # the recipe decides whether it can be used
        return encoded


def _unusual(examples: Sequence[bytes]) -> list[tuple[bytes, np.ndarray]]:
    """Turned and transparent pictures made of one of the examples."""
    image = tf.io.decode_image(examples[0], 3, expand_animations=False).numpy()
    return list(unusual_pictures.drawn(image[:_UNUSUAL_SIDE, :_UNUSUAL_SIDE]))


def _waves() -> list[bytes]:
    """JPEG and PNG pictures of waves in all colours with noise; always the same."""
    pictures = []
    noise = np.random.default_rng(0)
    for i in range(_NUM_DRAWN):
        height, width = 240 + 30 * i, 360 - 20 * i
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
        phase = noise.uniform(0, 6, 3)
        waves = np.sin((3 + 2 * i) * x + phase) * np.cos((9 - i) * y + phase[::-1])
        image = 127.5 + 100 * waves + noise.uniform(-25, 25, (height, width, 3))
        encode = tf.io.encode_png if i % 2 else tf.io.encode_jpeg
        pictures.append(encode(image.astype(np.uint8)).numpy())
    return pictures


def _export(options: ExportModelOptions, written: ExportConfig) -> Export:
    given = options.export
    if given.output_file:
        return Export(given.output_file, {"frozen_graph": given.output_file}, written)
    files = {name: os.path.join(given.output_dir, file) for name, file in written.files.items()}
    return Export(given.output_dir, files, written)


def _described(done: Export) -> Iterator[str]:
    check = done.config.check
    accuracy = check["accuracy_of_checkpoint"]
    right = (
        "" if accuracy is None else f", of which the checkpoint has {100 * accuracy:.1f} % right"
    )
    shown = f"{check['examples']} {check['source']}"
    yield f"Each file was compared with the checkpoint on {shown}{right}:"
    yield from _table(done)
    for problem in check["beyond_tolerance"]:
        yield f"Beyond the tolerance, kept by --allow_mismatch: {problem}"
    if "saved_model" in done.files:
        difference = done.config.check["largest_difference"][comparison.UNUSUAL]
        yield (
            "The SavedModel turns photographs as their EXIF says and lays transparency on white, "
            f"as conversion does: logits within {difference:.1e} on pictures drawn for it."
        )
        yield (
            "Its outputs logits and probabilities are in class order; classes, labels and scores "
            "are best first; valid and status say which pictures it could not read."
        )
    if "frozen_graph" in done.files:
        nodes = done.config.nodes
        yield f"Graph nodes: {nodes['input']} -> {nodes['logits']}, {nodes['probabilities']}"


def _table(done: Export) -> Iterator[str]:
    """A line for each file: what it computes in, how true, how large and how fast it is."""
    width = max(map(len, done.files.values()))
    yield (
        f"  {'file':{width}}  {'numbers':8}  {'size':>9}  {'same class':>10}  "
        f"{'logits within':>13}  {'right':>7}  {'1 image':>8}  {'8 images':>8}"
    )
    for name, path in done.files.items():
        proof = done.config.check["formats"][name]
        difference = done.config.check["largest_difference"][name]
        right = "-" if proof["accuracy"] is None else f"{100 * proof['accuracy']:.1f} %"
        one, eight = (f"{proof['milliseconds'][size]:.1f} ms" for size in (1, 8))
        yield (
            f"  {path:{width}}  {proof['numbers']:8}  {proof['size_in_bytes'] / 2**20:5.1f} MiB  "
            f"{100 * proof['top_1_agreement']:8.1f} %  {difference:13.1e}  {right:>7}  {one:>8}  "
            f"{eight:>8}"
        )


def _track(
    done: Export,
    run: OpenRun,
    examples: Sequence[bytes],
    options: ExportModelOptions,
    say: Callable[[str], None],
) -> None:
    """Adds the export to the artifacts of a run in MLflow, and registers it if that is asked.

    A training that was not tracked has no run there: a new one holds the export alone.
    """
    name, measured, config = options.tracking.register, None, run.config
    if name:
        measured = registration.measure(done.files["saved_model"], config, options, say)
    trained = os.path.basename(os.path.abspath(run.folder))
    tracked = tracking.MlflowRun(
        config.mlflow_uri, name or trained, config.mlflow_run_id, say, name=trained
    )
    if not config.mlflow_run_id:
        tracked.parameters(
            {"model_name": config.model_name, "checkpoint": os.path.abspath(run.checkpoint)}
        )
        say(f"MLflow: the training was not tracked; run {tracked.run_id} in {tracked.uri} is new")
    tracked.file(done.path, "exported_model")
    if not tracked.lost:
        say(f"MLflow: among the artifacts of run {tracked.run_id} as exported_model")
        if name:
            saved_model = done.files["saved_model"]
            registration.register(name, saved_model, examples, tracked, measured, say)
    tracked.close("FINISHED")
    if name and tracked.lost:
        raise InputError(
            f"MLflow took no upload; nothing was registered. The export is in {done.path}.",
            option="register",
            value=name,
            remedy="Export again with --overwrite once it answers.",
        )


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Silences TensorFlow's warnings about functions that it calls itself while it exports."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
