"""Compares exported files with the net that they were made from."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from serving import classifier, latency, saved_model
from serving.frozen_graph import Net
from serving.options import ExportOptions
from serving.subject import Subject

# What the comparison on pictures as people send them is called.
UNUSUAL = "saved_model (turned and transparent pictures)"
_DECODED = "saved_model (signature on decoded images)"

# How far logits may be from the model's, as a fraction of the largest one, by kind of numbers.
TOLERANCE = {
    "float32": 1e-3,
    "float16": 2e-2,
    "bfloat16": 1e-1,
    "dynamic": 2e-1,
    "int8": 4e-1,
}
# Of the accuracy, where logits may be off by more than a rounding: a point, or as many pictures as
# chance alone moves.
_LARGEST_LOSS, _BY_CHANCE = 0.01, 3
_BATCH = 16
# Pictures of their own sizes go through the net one by one.
_NUM_DECODED = 8


@dataclasses.dataclass(frozen=True)
class Proof:
    """What a file of an export gave when it was opened by its own runtime.

    Attributes:
      numbers: what it computes in, a key of the tolerances.
      top_1_agreement: share of the examples whose most probable class is the model's.
      accuracy: share that is right; None where the labels are unknown.
      size_in_bytes: of the file or folder.
      milliseconds: median time of a batch, by batch size.
    """

    numbers: str
    top_1_agreement: float
    accuracy: float | None
    size_in_bytes: int
    milliseconds: dict[int, float]


@dataclasses.dataclass(frozen=True)
class Proofs:
    """The proofs of an export.

    Attributes:
      accuracy: of the model itself; None where the labels of the examples are unknown.
      num_examples: on how many pictures it was measured.
      by_format: format → its proof.
      differences: format, or a further comparison of the SavedModel → how far the logits are from
        the model's at most, as a fraction of the largest one; in int8 those of the middle picture.
    """

    accuracy: float | None
    num_examples: int
    by_format: dict[str, Proof]
    differences: dict[str, float]

    @property
    def mismatches(self) -> Iterator[InputError]:
        """What is beyond its tolerance."""
        for name, off in self.differences.items():
            numbers = self.by_format[name.split()[0]].numbers
            if not off <= TOLERANCE[numbers]:  # true for NaN, too
                yield _mismatch(
                    name,
                    numbers,
                    f"logits off by {off:.2g} of the largest, where "
                    f"{TOLERANCE[numbers]:g} is allowed",
                )
        allowed = max(_LARGEST_LOSS, _BY_CHANCE / self.num_examples)
        for name, proof in self.by_format.items():
            # A picture's share is not a round number.
            if proof.accuracy is not None and self.accuracy - proof.accuracy > allowed + 1e-9:
                yield _mismatch(
                    name,
                    proof.numbers,
                    f"{100 * proof.accuracy:.1f} % of the pictures right, where the checkpoint has "
                    f"{100 * self.accuracy:.1f} %",
                )


def _mismatch(name: str, numbers: str, what: str) -> InputError:
    remedies = {
        "float32": "Export again, and report it if it stays.",
        "bfloat16": "Take --precision=float32.",
        "int8": "Take another quantization (TFLite: dynamic or float16; ONNX: none).",
    }
    return InputError(
        f"The exported {name} does not give the checkpoint's numbers: {what}. Nothing was "
        "exported.",
        remedy=remedies.get(numbers, "Take --tflite_quantization=float16 or none.")
        + " --allow_mismatch would keep it.",
    )


def prove(paths: Mapping[str, str], subject: Subject, options: ExportOptions) -> Proofs:
    """Opens each file by its own runtime and compares it with the model.

    Args:
      paths: format → file or folder.
      subject: what was exported.
      options: what numbers the files have, and what is asked of them.

    Raises:
      InputError: a file is beyond its tolerance, unless the options allow that; it is right less
        often than they demand; or the model gives numbers that are not finite.
    """
    pixels = [subject.decode(picture) for picture in subject.examples]
    expected = _logits(subject, pixels)
    if not np.isfinite(expected).all():
        raise InputError(
            f"{subject.config.checkpoint}: the model gives no finite numbers on real pictures. "
            "Nothing was exported.",
            remedy="Take an earlier checkpoint.",
        )
    proofs, differences = {}, {}
    for name, path in paths.items():
        if name == "saved_model":
            encoded, net = saved_model.load_both(path)
            shape = (*subject.model.input.shape[1:3], 3)
            logits = _in_batches(encoded, subject.examples)
            differences[name] = difference(logits, expected)
            differences |= _further_differences(encoded, net, subject)
        else:
            net, shape = classifier.load_net(path)
            logits = _in_batches(lambda batch, net=net: net(np.stack(batch)), pixels)
            differences[name] = difference(logits, expected, _numbers(name, options))
        proofs[name] = Proof(
            numbers=_numbers(name, options),
            top_1_agreement=float(np.mean(logits.argmax(axis=1) == expected.argmax(axis=1))),
            accuracy=_accuracy(logits, subject.truth),
            size_in_bytes=latency.size_in_bytes(path),
            milliseconds=latency.of_net(net, shape),
        )
    found = Proofs(_accuracy(expected, subject.truth), len(pixels), proofs, differences)
    if not options.allow_mismatch and (problems := tuple(found.mismatches)):
        raise problems[0]
    _check_accuracy(found, options.assert_accuracy_at_least)
    return found


def _further_differences(
    on_encoded: classifier.Run, on_images: Net, subject: Subject
) -> Iterator[tuple[str, float]]:
    """Of a SavedModel: on pictures as people send them, and on decoded ones."""
    if subject.unusual:
        logits = _in_batches(on_encoded, [encoded for encoded, _ in subject.unusual])
        shown = _logits(subject, [subject.prepare(pixels) for _, pixels in subject.unusual])
        yield UNUSUAL, difference(logits, shown)
    decoded = [
        tf.cast(tf.io.decode_image(picture, 3, expand_animations=False), tf.float32)
        for picture in subject.examples[:_NUM_DECODED]
    ]
    logits = np.concatenate([on_images(picture[None])["logits"] for picture in decoded])
    yield _DECODED, difference(logits, _logits(subject, map(subject.prepare, decoded)))


def _check_accuracy(found: Proofs, least: float | None) -> None:
    """Raises InputError for a file that is right less often than is demanded."""
    for name, proof in found.by_format.items() if least is not None else ():
        if proof.accuracy is None:
            raise InputError(
                "there are no labelled pictures to compare on. Nothing was exported.",
                option="assert_accuracy_at_least",
                value=least,
                remedy="Name the data: --dataset_dir=FOLDER.",
            )
        if proof.accuracy < least:
            raise InputError(
                f"the exported {name} has {100 * proof.accuracy:.1f} % of the pictures right, the "
                f"checkpoint {100 * found.accuracy:.1f} %. Nothing was exported.",
                option="assert_accuracy_at_least",
                value=least,
            )


def _numbers(name: str, options: ExportOptions) -> str:
    """What a file computes in."""
    kinds = {"tflite": options.tflite_quantization, "onnx": options.onnx_quantization}
    kind = kinds.get(name, options.precision)
    return "float32" if kind == "none" else kind


def _in_batches(net: classifier.Run, inputs: Iterable) -> np.ndarray:
    """Logits, float32 [N, num_classes]."""
    inputs = list(inputs)
    batches = [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]
    return np.concatenate([net(batch)["logits"] for batch in batches])


def _logits(subject: Subject, pixels: Iterable[tf.Tensor]) -> np.ndarray:
    return _in_batches(lambda batch: subject.model(tf.stack(batch), training=False), pixels)


def _accuracy(logits: np.ndarray, truth: Sequence[int] | None) -> float | None:
    return None if truth is None else float(np.mean(logits.argmax(axis=1) == np.array(truth)))


def difference(found: np.ndarray, expected: np.ndarray, numbers: str = "float32") -> float:
    """The largest difference; of logits, because a sure net's probabilities hide differences.

    In int8 it is that of the middle picture. What lies outside the range that calibration saw is
    cut off there, and a single picture whose logits do would hide what all others are like.
    """
    if found.shape != expected.shape:
        return float("inf")
    among_pictures = np.median if numbers == "int8" else np.max
    off, largest = (
        among_pictures(np.abs(each).max(axis=1)) for each in (found - expected, expected)
    )
    return float(off / max(largest, np.finfo(np.float32).tiny))
