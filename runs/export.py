"""Exports a trained net: SavedModel, frozen graph, TensorFlow Lite, ONNX."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from datasets import schema
from datasets.conversion import image_bytes
from datasets.splits import TEST, TRAIN
from foundation import labels
from foundation.errors import InputError
from runs import checks, opened, splits, temperature, unusual_pictures
from runs.config import RunConfig
from runs.opened import OpenRun
from runs.options import ExportModelOptions
from serving import comparison, exporter, frozen_graph, onnx
from serving.export_config import ExportConfig
from serving.subject import Subject
from training import tracking

_NUM_EXAMPLES = 8
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
    if "onnx" in options.export.formats:
        onnx.require()
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
    examples, source = _examples(run, options)
    with _errors_only():
        written = exporter.export(_subject(run, examples, source, divisor), options.export)
    done = _export(options, written)
    for line in _described(done, len(examples), source):
        say(line)
    if options.tracking.tracking == "mlflow":
        _track(done, run.config, say)
    say(f"Next: python classify_image.py --model={done.path} --image=photo.jpg")
    return done


def _names(options: ExportModelOptions) -> Sequence[str] | None:
    """Class names for a checkpoint that brings none: those of the labels file or the dataset."""
    if options.export.labels_file:
        return labels.read(options.export.labels_file)
    return _dataset(None, options).labels if options.source.is_given else None


def _dataset(config: RunConfig | None, options: ExportModelOptions):
    wanted = options.source.dataset_split_name
    return splits.first_there(config, options.source, (wanted, TEST, TRAIN)).dataset


def _subject(run: OpenRun, examples: Sequence[bytes], source: str, divisor: float) -> Subject:
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
        config=described,
        examples=examples,
        examples_source=source,
        unusual=_unusual(examples),
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


def _examples(run: OpenRun, options: ExportModelOptions) -> tuple[list[bytes], str]:
    """Encoded pictures to compare the export on, and what they are.

    They come from the dataset of the options or of the run; where that of the run can't be reached,
    they are made up.
    """
    try:
        dataset = _dataset(run.config, options)
        if run.labels not in (dataset.labels, (opened.BACKGROUND, *dataset.labels)):
            raise InputError(
                f"The dataset's classes are {labels.shortened(dataset.labels)}, the model's "
                f"{labels.shortened(run.labels)}.",
                remedy="Leave the dataset's flags out, or give its own.",
            )
        records = tf.data.TFRecordDataset(dataset.files, dataset.compression)
        try:
            examples = [
                _upright(schema.parse_example(record)["encoded"].numpy())
                for record in records.take(_NUM_EXAMPLES)
            ]
        except tf.errors.OpError as error:
            raise InputError(f"{dataset.files[0]}: can't be read: {error.message}") from error
        return examples, f"pictures of {dataset.name or 'the dataset'}, split {dataset.split}"
    except (InputError, OSError):
        if options.source.is_given:
            raise
    return _waves(), "drawn pictures (the run's dataset is not within reach)"


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
    for i in range(_NUM_EXAMPLES):
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


def _described(done: Export, num_examples: int, source: str) -> Iterator[str]:
    yield f"Each file was compared with the checkpoint on {num_examples} {source}:"
    for name, path in done.files.items():
        difference = done.config.check["largest_difference"][name]
        yield f"  {path}  {_size(path) / 2**20:.1f} MiB, logits within {difference:.1e}"
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


def _track(done: Export, config: RunConfig, say: Callable[[str], None]) -> None:
    """Adds the export to the artifacts of the run in MLflow."""
    tracked = tracking.MlflowRun(config.mlflow_uri, "", config.mlflow_run_id, say)
    tracked.file(done.path, "exported_model")
    tracked.close("FINISHED")
    if not tracked.lost:
        say(f"MLflow: among the artifacts of run {tracked.run_id} as exported_model")


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


def _size(path: str) -> int:
    """Bytes of a file, or of all files of a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    places = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
    return sum(os.path.getsize(place) for place in places)
