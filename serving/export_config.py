"""export.json: what a user of exported files needs to know of them."""

import dataclasses
import json
import math
import os
from typing import Any

from foundation import documents, files
from foundation.errors import InputError
from nets.options import MOST_PIXELS

FILE_NAME = "export.json"
_FORMAT = 2
# Of the run, in format 1, which had no "run".
_FIELDS_OF_RUN_1 = (
    *("model_name", "num_classes", "image_size", "preprocessing_name", "use_grayscale"),
    *("preprocessing_options", "labels_offset"),
)


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """How to feed an exported model, and which run it is of.

    Attributes:
      run: what run.json says of the net's training, by its names. The frozen graph, TFLite and ONNX
        files take pixels that went through its recipe at its image size; the SavedModel holds the
        recipe itself. Of an export in format 1 it has no more than these, and empty "labels".
      checkpoint: name of the checkpoint's file.
      global_step: at which it was written; None where that is unknown.
      moving_averages: whether the weights are moving averages.
      batch_size: number of images that the files other than the SavedModel take; None for any.
      temperature: by which the net's logits were divided to give those of the files.
      files: format → path inside the export.
      nodes: names of "input", "logits" and "probabilities" in the frozen graph.
      outputs: output of the SavedModel → the order it is in, in words.
      check: how the files were compared with the checkpoint's net.
      versions: library → version that wrote the files.
    """

    run: dict[str, Any]
    checkpoint: str
    global_step: int | None
    moving_averages: bool
    batch_size: int | None = None
    temperature: float = 1.0
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    nodes: dict[str, str] = dataclasses.field(default_factory=dict)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    check: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, most in (("num_classes", math.inf), ("image_size", MOST_PIXELS)):
            value = self.run.get(name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"run.{name} is {str(value)[:40]!r}")
        if not isinstance(self.run.get("preprocessing_options"), dict):
            raise ValueError("run has no preprocessing_options")
        for path in (*self.files.values(), *self.companions):
            files.check_is_inside(path)

    @property
    def num_classes(self) -> int:
        return self.run["num_classes"]

    @property
    def companions(self) -> tuple[str, ...]:
        """Names of further files that belong to the export: the recipe's."""
        name = self.run["preprocessing_options"].get("zca_file")
        return (name,) if name else ()


def save(path: str, config: ExportConfig) -> None:
    """Writes the file `path` whole; raises OSError."""
    with files.whole(path) as file:
        content = {"format": _FORMAT, **dataclasses.asdict(config)}
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def load(path: str) -> ExportConfig:
    """Reads the file `path`.

    Raises:
      InputError: it is not an export.json that this version reads.
      OSError: there is no such file.
    """
    try:
        with open(path, "rb") as file:
            content = documents.parsed(file.read())
        version = content.pop("format")
        if version == 1:
            content = _from_format_1(content)
        elif version != _FORMAT:
            raise ValueError("another format version")
        return documents.of(ExportConfig, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} can't be read ({error}). It was damaged, or written by another version.",
            remedy="Export again with export_model.py --overwrite.",
        ) from error


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    run = {name: content.pop(name) for name in _FIELDS_OF_RUN_1}
    content.pop("channels")  # follows from use_grayscale
    return {"run": {**run, "labels": []}, **content}


def path_of(model_file: str, name: str) -> str:
    """The path of a file of that name that belongs to a model file.

    `frozen_graph.pb` has labels.txt and export.json in its folder; a single file written by
    --output_file=X.pb has `X.labels.txt` and `X.export.json`, so that two such files share a
    folder.
    """
    own = f"{os.path.splitext(model_file)[0]}.{name}"
    if os.path.exists(own):
        return own
    return os.path.join(os.path.dirname(model_file), name)
