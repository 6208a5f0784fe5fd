"""Writes an export whole or not at all, after comparing each file with the checkpoint's net."""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from foundation import labels
from foundation.errors import InputError
from serving import (
    comparison,
    export_config,
    frozen_graph,
    onnx,
    placing,
    saved_model,
    tensorflow_serving,
    tflite,
    tflite_metadata,
)
from serving.export_config import ExportConfig
from serving.options import FILES, ExportOptions
from serving.subject import Subject

_TEXT = f"{FILES['frozen_graph']}txt"


def check_destination(options: ExportOptions) -> None:
    """Raises InputError where something is that must not be replaced."""
    if options.output_file:
        _check_file(options.output_file, options.overwrite)
        return
    folder = os.path.realpath(options.output_dir)
    if "saved_model" in options.formats:
        saved_model.check_place(folder)
    if not _adds_version(folder, options):
        _check_folder(folder, options.overwrite)


def export(subject: Subject, options: ExportOptions) -> ExportConfig:
    """Writes the files of the formats, labels.txt and export.json.

    They are written into a hidden folder and compared with the model there; until then a former
    export stays as it is. `output_dir` takes its place by one renaming. With `output_file`, a
    frozen graph X.pb is written alone, with X.labels.txt and X.export.json in its folder.

    A SavedModel has its warm-up in assets.extra, and beside it, in the folder of its versions, the
    settings and example requests of `tensorflow_serving`. A version that an export lacks is added
    to it: the SavedModel alone, which holds its labels and, in assets.extra, its own export.json.

    Returns:
      what export.json says.

    Raises:
      InputError: the destination is taken, or a file does not give the model's numbers, or the
        format "onnx" lacks its extra.
      OSError: can't be written.
    """
    if options.output_file:
        return _export_file(subject, options)
    folder = os.path.realpath(options.output_dir)
    with placing.partial_folder(folder) as partial:
        placing.recover(folder, export_config.FILE_NAME)
        adds_version = _adds_version(folder, options)
        version = options.saved_model_version or max(_versions(folder), default=0) + 1
        options = options.replace(saved_model_version=version)
        if adds_version:
            return _export_version(partial, folder, subject, options)
        _check_folder(folder, options.overwrite)
        config = _write(partial, subject, options)
        placing.replace_folder(partial, folder, export_config.FILE_NAME)
    return config


def _export_version(
    partial: str, folder: str, subject: Subject, options: ExportOptions
) -> ExportConfig:
    """Adds a version of the SavedModel to the export in `folder`."""
    config = _write(partial, subject, options.replace(formats=("saved_model",)))
    written = config.files["saved_model"]
    place = os.path.join(folder, written)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.rename(os.path.join(partial, written), place)
    return config


def _export_file(subject: Subject, options: ExportOptions) -> ExportConfig:
    output_file = options.output_file
    stem = os.path.splitext(output_file)[0]
    with placing.partial_folder(stem) as partial:
        _check_file(output_file, options.overwrite)
        config = _write(partial, subject, options.replace(formats=("frozen_graph",)))
        names = (labels.FILE_NAME, export_config.FILE_NAME, *subject.companions)
        files = {output_file: FILES["frozen_graph"]} | {f"{stem}.{name}": name for name in names}
        # The former graph's text goes with it.
        if options.write_text_graphdef or os.path.exists(output_file):
            files[f"{stem}.pbtxt"] = _TEXT
        placing.replace_files(partial, files)
    return config


def _write(folder: str, subject: Subject, options: ExportOptions) -> ExportConfig:
    """Writes and compares everything in the new folder `folder`."""
    labels_file = os.path.join(folder, labels.FILE_NAME)
    labels.write(labels_file, subject.labels)
    for name, path in subject.companions.items():
        shutil.copyfile(path, os.path.join(folder, name))
    files = {name: file for name, file in FILES.items() if name in options.formats}
    if "saved_model" in files:  # a folder of versions, as TensorFlow Serving has it
        files["saved_model"] += f"/{options.saved_model_version}"
    paths = {name: os.path.join(folder, file) for name, file in files.items()}
    _write_models(paths, subject, labels_file, options)
    config = dataclasses.replace(
        subject.config,
        batch_size=options.batch_size,
        files=files,
        outputs=saved_model.OUTPUTS if "saved_model" in files else {},
        nodes={"input": frozen_graph.INPUT_NODE, **dataclasses.asdict(subject.nodes)},
    )
    config_file = os.path.join(folder, export_config.FILE_NAME)
    export_config.save(config_file, config)  # the files are loaded by it
    proofs = comparison.prove(paths, subject, options)
    config = dataclasses.replace(config, check=_check(subject, proofs))
    export_config.save(config_file, config)
    if "saved_model" in paths:
        _complete_saved_model(paths["saved_model"], config_file, subject.examples)
    return config


def _complete_saved_model(path: str, config_file: str, pictures: Sequence[bytes]) -> None:
    """Adds what TensorFlow Serving and people look for in a SavedModel's folder and beside it."""
    tensorflow_serving.write_warm_up(path, pictures)
    tensorflow_serving.write_settings(os.path.dirname(path), pictures[0])
    # Versions may be of different runs; what is not TensorFlow's own belongs into assets.extra.
    extra = os.path.join(path, "assets.extra")
    shutil.copyfile(config_file, os.path.join(extra, export_config.FILE_NAME))


def _check(subject: Subject, proofs: comparison.Proofs) -> dict[str, object]:
    """What export.json says of the comparison."""
    return {
        "examples": len(subject.examples),
        "source": subject.examples_source,
        "accuracy_of_checkpoint": proofs.accuracy,
        "largest_difference": proofs.differences,
        "formats": {name: dataclasses.asdict(proof) for name, proof in proofs.by_format.items()},
        "beyond_tolerance": [error.problem for error in proofs.mismatches],
    }


def _write_models(
    paths: Mapping[str, str], subject: Subject, labels_file: str, options: ExportOptions
) -> None:
    """Writes the file or folder of each format."""
    forward = frozen_graph.forward(subject.model, subject.nodes, options.batch_size)
    calibration = _calibration(subject, options.batch_size) if options.is_calibrated else []
    if "saved_model" in paths:
        saved_model.write(
            *(paths["saved_model"], subject.model, subject.prepare, subject.picture, labels_file),
            precision=options.precision,
        )
    if "frozen_graph" in paths:
        frozen_graph.write(paths["frozen_graph"], forward, subject.nodes, options.precision)
        if options.write_text_graphdef:
            frozen_graph.write_text(f"{paths['frozen_graph']}txt", paths["frozen_graph"])
    if "tflite" in paths:
        quantization = tflite.Quantization(
            options.tflite_quantization, calibration, options.tflite_uint8
        )
        about = tflite_metadata.About(
            subject.config.run["model_name"],
            subject.config.checkpoint,
            subject.input_words,
            subject.moments,
        )
        tflite.write(paths["tflite"], forward, subject.model, subject.labels, about, quantization)
    if "onnx" in paths:
        is_int8 = options.onnx_quantization == "int8"
        onnx.write(paths["onnx"], forward, calibration if is_int8 else None)


def _calibration(subject: Subject, batch_size: int | None) -> list[np.ndarray]:
    """Batches of preprocessed pictures, of as many as the files take; they lie in memory."""
    pixels = [subject.decode(picture).numpy() for picture in subject.calibration]
    size = batch_size or 1
    pixels += pixels[: -len(pixels) % size]
    return [np.stack(pixels[start : start + size]) for start in range(0, len(pixels), size)]


def _check_file(output_file: str, overwrite: bool) -> None:
    """Refuses a file that must not be replaced."""
    if os.path.isdir(output_file):
        raise InputError(
            "is a folder.",
            option="output_file",
            value=output_file,
            remedy="Name a file, such as graph.pb.",
        )
    if os.path.exists(output_file) and not overwrite:
        raise InputError(
            f"{output_file} exists.", remedy="Replace it with --overwrite, or name another."
        )


def _versions(folder: str) -> list[int]:
    """The versions of the SavedModel in an export's folder."""
    path = os.path.join(folder, FILES["saved_model"])
    names = os.listdir(path) if os.path.isdir(path) else []
    return [int(name) for name in names if name.isdecimal()]


def _adds_version(folder: str, options: ExportOptions) -> bool:
    """Whether the export in `folder` stays, and gets one more version of the SavedModel.

    Raises:
      InputError: it has that version, or other formats are asked for besides.
    """
    version = options.saved_model_version
    is_asked_for = "saved_model_version" in options.given and not options.overwrite
    if not is_asked_for or not os.path.exists(os.path.join(folder, export_config.FILE_NAME)):
        return False
    if version in _versions(folder):
        raise InputError(
            f"{options.output_dir} has this version already.",
            option="saved_model_version",
            value=version,
            remedy="Take the next with --saved_model_version=auto, or replace the whole export "
            "with --overwrite.",
        )
    if "formats" in options.given and options.formats != ("saved_model",):
        raise InputError(
            "a version is added to an export as a SavedModel alone.",
            option="formats",
            value=",".join(options.formats),
            remedy="Leave the flag out, or name another folder.",
        )
    return True


def _check_folder(output_dir: str, overwrite: bool) -> None:
    """Refuses a folder that must not be replaced."""
    if not os.path.exists(output_dir):
        return
    if not os.path.isdir(output_dir):
        raise InputError(
            "is a file.", option="output_dir", value=output_dir, remedy="Name a folder."
        )
    present = set(os.listdir(output_dir))
    if present and not overwrite:
        raise InputError(
            "holds something already.",
            option="output_dir",
            value=output_dir,
            remedy="Replace a former export with --overwrite, or name another folder.",
        )
    if foreign := sorted(present - _names_of_export(output_dir)):
        raise InputError(
            f"holds files that are no part of an export ({', '.join(foreign[:3])}), which "
            "--overwrite would delete.",
            option="output_dir",
            value=output_dir,
            remedy="Name another folder.",
        )


def _names_of_export(folder: str) -> set[str]:
    """Names that belong to an export: those of every export, and what its export.json names."""
    names = {*FILES.values(), _TEXT, labels.FILE_NAME, export_config.FILE_NAME}
    try:
        companions = export_config.load(os.path.join(folder, export_config.FILE_NAME)).companions
    except (InputError, OSError):  # no export, or a damaged one
        companions = ()
    return names.union(companions)
