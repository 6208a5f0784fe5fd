"""Writes an export whole or not at all, after holding each file against the checkpoint's model."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from serving import classifier, export_config, frozen_graph, onnx, saved_model, tflite

FORMATS = ("saved_model", "frozen_graph", "tflite", "onnx")
# How far logits may be from the model's, as a fraction of the largest one, by quantization.
_TOLERANCE = {"none": 1e-3, "float16": 2e-2, "dynamic": 2e-1}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A restored model and all that is exported with it.

    Attributes:
      model: takes float32 [N, S, S, C], gives a dict with "logits".
      nodes: what the frozen graph calls its outputs.
      labels: class names in the order of the logits.
      decode: the recipe on encoded bytes, scalar string → float32 [S, S, C].
      prepare: the recipe on a decoded picture, float32 [h, w, 3] in 0..255 → float32 [S, S, C].
      config: all that export.json says but `files`, `nodes` and `check`, which are filled in here.
      companions: files that export.json names, by the names it has for them.
      examples: encoded pictures on which the export is held against the model.
      examples_source: where they are from, in words.
    """

    model: keras.Model
    nodes: frozen_graph.Nodes
    labels: tuple[str, ...]
    decode: Callable[[tf.Tensor], tf.Tensor]
    prepare: Callable[[tf.Tensor], tf.Tensor]
    config: export_config.ExportConfig
    examples: Sequence[bytes]
    examples_source: str
    companions: Mapping[str, str] = dataclasses.field(default_factory=dict)


def export_folder(
    output_dir: str,
    subject: Subject,
    formats: Sequence[str],
    *,
    saved_model_version: int = 1,
    tflite_quantization: str = "none",
    text: bool = False,
    overwrite: bool = False,
) -> export_config.ExportConfig:
    """Writes the files of `formats`, labels.txt and export.json into the folder `output_dir`.

    They are written into a hidden folder beside `output_dir`, checked there, and take their place
    by one renaming; until then a former export stays as it is.

    Args:
      output_dir: the folder to make.
      subject: what to export.
      formats: some of `FORMATS`.
      saved_model_version: the SavedModel is saved_model/VERSION, as TensorFlow Serving wants it.
      tflite_quantization: one of `tflite.QUANTIZATIONS`.
      text: also write frozen_graph.pbtxt, the graph without its weights, for reading.
      overwrite: replace a former export.

    Returns:
      what export.json says.

    Raises:
      ValueError: `output_dir` is taken, or a file does not give the model's numbers.
      OSError: can't be written.
      ImportError: "onnx" without its extra.
    """
    output_dir = os.path.realpath(output_dir)
    _recover(output_dir)
    _check_replaceable(output_dir, overwrite)
    with _partial(output_dir) as partial:
        config = _write(partial, subject, formats, saved_model_version, tflite_quantization, text)
        _swap(partial, output_dir)
    return config


def export_file(
    output_file: str, subject: Subject, *, text: bool = False, overwrite: bool = False
) -> export_config.ExportConfig:
    """Writes a frozen graph alone: X.pb, with X.labels.txt and X.export.json beside it.

    Args, returns and raises as `export_folder`.
    """
    stem = os.path.splitext(output_file)[0]
    if os.path.isdir(output_file):
        raise ValueError(f"--output_file={output_file} is a folder. Name a file, such as graph.pb.")
    if os.path.exists(output_file) and not overwrite:
        raise ValueError(f"{output_file} exists. Replace it with --overwrite, or name another.")
    with _partial(stem) as partial:
        config = _write(partial, subject, ["frozen_graph"], text=text)
        files = {
            output_file: "frozen_graph.pb",
            f"{stem}.{export_config.LABELS_NAME}": export_config.LABELS_NAME,
            f"{stem}.{export_config.FILE_NAME}": export_config.FILE_NAME,
        }
        files |= {f"{stem}.{name}": name for name in subject.companions}
        if text or os.path.exists(output_file):
            files[f"{stem}.pbtxt"] = "frozen_graph.pbtxt"
        _replace_files(partial, files)
    return config


def _write(
    folder: str,
    subject: Subject,
    formats: Sequence[str],
    saved_model_version: int = 1,
    tflite_quantization: str = "none",
    text: bool = False,
) -> export_config.ExportConfig:
    """Writes and checks everything in the new folder `folder`."""
    labels_file = os.path.join(folder, export_config.LABELS_NAME)
    export_config.save_labels(labels_file, subject.labels)
    for name, path in subject.companions.items():
        shutil.copyfile(path, os.path.join(folder, name))
    files = {
        "saved_model": f"saved_model/{saved_model_version}",
        "frozen_graph": "frozen_graph.pb",
        "tflite": "model.tflite",
        "onnx": "model.onnx",
    }
    files = {name: files[name] for name in FORMATS if name in formats}
    paths = {name: os.path.join(folder, file) for name, file in files.items()}
    forward = frozen_graph.forward(subject.model, subject.nodes, subject.config.batch_size)
    if "saved_model" in paths:
        saved_model.write(
            paths["saved_model"], subject.model, subject.decode, subject.prepare, labels_file
        )
    if "frozen_graph" in paths:
        frozen_graph.write(paths["frozen_graph"], forward, subject.nodes)
        if text:
            frozen_graph.write_text(f"{paths['frozen_graph']}txt", paths["frozen_graph"])
    if "tflite" in paths:
        tflite.write(paths["tflite"], forward, subject.model, tflite_quantization)
    if "onnx" in paths:
        onnx.write(paths["onnx"], forward)
    config = dataclasses.replace(
        subject.config,
        files=files,
        nodes={"input": frozen_graph.INPUT_NODE, **dataclasses.asdict(subject.nodes)},
    )
    config_file = os.path.join(folder, export_config.FILE_NAME)
    export_config.save(config_file, config)
    config = dataclasses.replace(config, check=_check(paths, subject, tflite_quantization))
    export_config.save(config_file, config)
    return config


def _check(paths: dict[str, str], subject: Subject, tflite_quantization: str) -> dict[str, Any]:
    """Loads each file from disk and holds its logits against the model's."""
    expected = _logits(subject, [subject.decode(picture) for picture in subject.examples])
    if not np.isfinite(expected).all():
        raise ValueError(
            f"{subject.config.checkpoint}: the model gives no finite numbers on real pictures. "
            "Nothing was exported; take an earlier checkpoint."
        )
    differences = {}
    for name, path in paths.items():
        found = classifier.load(path, lambda *_: subject.decode).outputs(subject.examples)
        quantization = tflite_quantization if name == "tflite" else "none"
        differences[name] = _held(name, found["logits"], expected, quantization)
    if "saved_model" in paths:
        decoded = [
            tf.cast(tf.io.decode_image(picture, 3, expand_animations=False), tf.float32)
            for picture in subject.examples
        ]
        expected = _logits(subject, [subject.prepare(picture) for picture in decoded])
        on_images = saved_model.load_images(paths["saved_model"])
        found = np.concatenate([on_images(picture[None])["logits"] for picture in decoded])
        name = "saved_model (signature on decoded images)"
        differences[name] = _held(name, found, expected)
    return {
        "examples": len(subject.examples),
        "source": subject.examples_source,
        "largest_difference": differences,
    }


def _logits(subject: Subject, pixels: Sequence[tf.Tensor]) -> np.ndarray:
    return subject.model(tf.stack(pixels), training=False)["logits"].numpy()


def _held(name: str, found: np.ndarray, expected: np.ndarray, quantization: str = "none") -> float:
    """The largest difference as a fraction of the largest logit; ValueError beyond the tolerance.

    Logits, because the probabilities of a sure net hide differences.
    """
    difference = float("inf")
    if found.shape == expected.shape:
        largest = max(np.max(np.abs(expected)), np.finfo(np.float32).tiny)
        difference = float(np.max(np.abs(found - expected)) / largest)
    if difference <= _TOLERANCE[quantization]:  # False for NaN, too.
        return difference
    remedy = (
        "Export again, and report it if it stays."
        if quantization == "none"
        else "The quantization costs too much here: try --tflite_quantization=float16 or none."
    )
    raise ValueError(
        f"The exported {name} does not give the checkpoint's numbers: logits off by "
        f"{difference:.2g} of the largest, where {_TOLERANCE[quantization]:g} is allowed. "
        f"Nothing was exported. {remedy}"
    )


def _check_replaceable(output_dir: str, overwrite: bool) -> None:
    """Refuses a folder that must not be replaced."""
    if not os.path.exists(output_dir):
        return
    if not os.path.isdir(output_dir):
        raise ValueError(f"--output_dir={output_dir} is a file. Name a folder.")
    held = set(os.listdir(output_dir))
    if held and not overwrite:
        raise ValueError(
            f"--output_dir={output_dir} holds something already. Replace a former export with "
            "--overwrite, or name another folder."
        )
    ours = {"saved_model", "frozen_graph.pb", "frozen_graph.pbtxt", "model.tflite", "model.onnx"}
    ours |= {export_config.LABELS_NAME, export_config.FILE_NAME}
    if foreign := sorted(held - ours):
        raise ValueError(
            f"--output_dir={output_dir} holds files that are no part of an export "
            f"({', '.join(foreign[:3])}), which --overwrite would delete. Name another folder."
        )


def _replace_files(partial: str, files: dict[str, str]) -> None:
    """Moves files of `partial` to their places; files there that have no successor go.

    The first of `files` (place → name in `partial`) gives a meaning to the others: it is the first
    to go and the last to come, so that it never stands beside those of another export.
    """
    with contextlib.ExitStack() as undo:
        for place, name in files.items():
            if os.path.isfile(place):
                former = os.path.join(partial, f"former_{name}")
                os.replace(place, former)
                undo.callback(os.replace, former, place)
        for place, name in reversed(files.items()):
            if os.path.exists(os.path.join(partial, name)):
                os.replace(os.path.join(partial, name), place)
        undo.pop_all()


@contextlib.contextmanager
def _partial(target: str) -> Iterator[str]:
    """A fresh hidden folder beside `target` for the time of writing.

    Its name is fixed, so that what a killed export left is cleared by the next one.
    """
    partial = _hidden(target, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: str, output_dir: str) -> None:
    """Puts `partial` in the place of `output_dir`, which stays whole if that fails."""
    previous = _hidden(output_dir, "previous")
    shutil.rmtree(previous, ignore_errors=True)
    if os.path.exists(output_dir):
        os.rename(output_dir, previous)
    try:
        os.rename(partial, output_dir)
    except OSError:
        _recover(output_dir)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _recover(output_dir: str) -> None:
    """Brings back a former export that was set aside when its replacement was killed."""
    previous = _hidden(output_dir, "previous")
    is_export = os.path.exists(os.path.join(previous, export_config.FILE_NAME))
    if is_export and not os.path.exists(output_dir):
        os.rename(previous, output_dir)


def _hidden(target: str, state: str) -> str:
    """A name beside `target` that no user gives to a folder of his own."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{state}")
