"""An exported model of any format as a classifier: encoded pictures in, named classes out."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from foundation import labels as class_names
from foundation.errors import InputError
from serving import export_config, frozen_graph, onnx, saved_model, tflite
from serving.options import FILES, FORMATS

# From encoded pictures, or from pixels, to "logits" and "probabilities".
Run = Callable[[Sequence[Any]], dict[str, np.ndarray]]


class Classifier:
    """Names what is in pictures.

    Attributes:
      labels: class names in the order of the probabilities.
    """

    def __init__(self, run: Callable[[Sequence[bytes]], dict], labels: Sequence[str]):
        self._run = run
        self.labels = tuple(labels)

    def called(self, labels: Sequence[str]) -> "Classifier":
        """The same with other class names; raises InputError where their number is another."""
        if len(labels) != len(self.labels):
            raise InputError(f"{len(labels)} names for a model of {len(self.labels)} classes.")
        return Classifier(self._run, labels)

    def at_temperature(self, divisor: float) -> "Classifier":
        """The same with logits divided by `divisor`, and the probabilities of these."""

        def run(encoded_images: Sequence[bytes]) -> dict:
            logits = self._run(encoded_images)["logits"] / np.float32(divisor)
            return {"logits": logits, "probabilities": frozen_graph.softmax(logits)}

        return Classifier(run, self.labels)

    def outputs(self, encoded_images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """What the net gives for N encoded pictures (JPEG, PNG, GIF or BMP bytes).

        Returns:
          "logits" and "probabilities", float32 [N, num_classes] each.

        Raises:
          tf.errors.InvalidArgumentError: TensorFlow can't decode one of them.
        """
        if not encoded_images:
            nothing = np.zeros((0, len(self.labels)), np.float32)
            return {"logits": nothing, "probabilities": nothing}
        return self._run(list(encoded_images))

    def classify(
        self, encoded_images: Sequence[bytes], top_k: int = 5
    ) -> list[list[tuple[str, float]]]:
        """For each picture its `top_k` most probable (label, probability), best first."""
        found = self.outputs(encoded_images)["probabilities"]
        return [likeliest(row, self.labels, top_k) for row in found]


def likeliest(
    probabilities: np.ndarray, labels: Sequence[str], top_k: int
) -> list[tuple[str, float]]:
    """The `top_k` most probable (label, probability), best first; of equal ones the first.

    Args:
      probabilities: float [num_classes].
      labels: in the same order.
      top_k: how many.
    """
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [(labels[i], float(probabilities[i])) for i in best]


def load(
    path: str,
    recipe_for: Callable[[export_config.ExportConfig, Callable[[str], str]], Callable[[Any], Any]],
) -> Classifier:
    """Loads what export_model.py wrote.

    Args:
      path: an export's folder, a SavedModel's folder or the folder of its versions (the highest
        is taken), or a .pb, .tflite or .onnx file with its labels and export.json in its
        folder.
      recipe_for: gives the preprocessing for a file that holds the net alone: a function from
        encoded bytes (scalar string) to float32 [S, S, C]. It is given export.json, and a function
        from the name of a file of the export to its path. A SavedModel needs none.

    Raises:
      InputError: nothing that can be loaded, or damaged; a file that belongs to it is missing; or
        an .onnx file without the extra `onnx`.
    """
    path = model_file(path)
    if os.path.isdir(path):
        return Classifier(*saved_model.load(path))
    config = export_config.load(_companion(path, export_config.FILE_NAME))
    labels = class_names.read(_companion(path, class_names.FILE_NAME))
    if len(labels) != config.num_classes:
        raise InputError(
            f"{path}: {len(labels)} labels for a model of {config.num_classes} classes.",
            remedy="Restore its labels.txt, or export again.",
        )
    net, batch_size = _net(path, config)
    recipe = recipe_for(config, functools.partial(_companion, path))

    def run(encoded_images):
        pixels = np.stack([np.asarray(recipe(encoded)) for encoded in encoded_images])
        return in_batches(net, pixels, batch_size or len(pixels))

    return Classifier(run, labels)


def config_of(path: str) -> export_config.ExportConfig:
    """The export.json of what `load` takes; raises InputError where there is none."""
    return export_config.load(companion(path, export_config.FILE_NAME))


def companion(path: str, name: str) -> str:
    """The path of a file that belongs to what `load` takes; raises InputError where it is not."""
    path = model_file(path)
    # A SavedModel lies in the export as saved_model/VERSION.
    places = [os.path.join(path, *[os.pardir] * i, name) for i in range(3)]
    for place in places if os.path.isdir(path) else ():
        if os.path.exists(place):
            return os.path.normpath(place)
    return _companion(path, name)


def load_net(
    path: str,
) -> tuple[Callable[[np.ndarray], dict[str, np.ndarray]], tuple[int, int, int]]:
    """The net of an export, without reading pictures.

    Args:
      path: as `load` takes it.

    Returns:
      a function from pixels float32 [N, H, W, channels] to "logits" and "probabilities", and the
      shape (H, W, channels). A SavedModel's pixels are in 0..255 and go through its recipe.

    Raises:
      InputError: as `load`.
    """
    config, model = config_of(path), model_file(path)
    side, channels = config.run["image_size"], 1 if config.run.get("use_grayscale") else 3
    if os.path.isdir(model):
        return saved_model.load_images(model), (side, side, 3)
    net, batch_size = _net(model, config)
    shape = (side, side, channels)
    return lambda images: in_batches(net, images, batch_size or len(images)), shape


def _net(path: str, config: export_config.ExportConfig) -> tuple[frozen_graph.Net, int | None]:
    """The net of a file, and N where it is fixed, else None."""
    net, shape = _loaded(path, config)
    side = config.run["image_size"]
    if found := [size for size in shape[1:3] if size not in (None, side)]:
        raise InputError(
            f"{path} takes images of {found[0]} pixels, its {export_config.FILE_NAME} says {side}.",
            remedy="Restore the file, or export again.",
        )
    return net, shape[0] if shape else None


def _loaded(path: str, config: export_config.ExportConfig):
    """The net of a file, and the shape of its images."""
    if path.endswith(".tflite"):
        return tflite.load(path)
    if path.endswith(".onnx"):
        return onnx.load(path)
    names = [config.nodes.get(name, "") for name in ("logits", "probabilities")]
    return frozen_graph.load(path, frozen_graph.Nodes(*names))


def in_batches(net, images: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Runs a net of a fixed batch size on any number of images; pads the last batch."""
    answers = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        missing = batch_size - len(batch)
        padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
        answers.append({name: x[: len(batch)] for name, x in net(padded).items()})
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def model_file(path: str) -> str:
    """The SavedModel folder or model file that `path` means; raises InputError."""
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist.", remedy="Write one with export_model.py.")
    if os.path.basename(path) == "saved_model.pb":
        return os.path.dirname(path) or "."
    if os.path.isfile(path):
        if path.endswith((".pb", ".tflite", ".onnx")):
            return path
        raise InputError(f"{path} is neither a .pb, .tflite or .onnx file nor a folder.")
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return path
    config_file = os.path.join(path, export_config.FILE_NAME)
    if os.path.exists(config_file):
        files = export_config.load(config_file).files
        # Versions that were added later are not in export.json.
        if version := _highest_version(os.path.join(path, FILES["saved_model"])):
            return version
        for name in FORMATS:
            if name in files and os.path.exists(os.path.join(path, files[name])):
                return os.path.join(path, files[name])
    if version := _highest_version(path):
        return version
    raise InputError(f"{path} holds no model of export_model.py.")


def _highest_version(path: str) -> str | None:
    """The SavedModel of the highest version in a folder of versions."""
    versions = [
        name
        for name in (os.listdir(path) if os.path.isdir(path) else ())
        if name.isdecimal() and os.path.exists(os.path.join(path, name, "saved_model.pb"))
    ]
    return os.path.join(path, max(versions, key=int)) if versions else None


def _companion(model_file: str, name: str) -> str:
    path = export_config.path_of(model_file, name)
    if not os.path.exists(path):
        raise InputError(
            f"{path} is missing; {os.path.basename(model_file)} can't be used without it.",
            remedy="Copy it there from the export, or export again.",
        )
    return path
