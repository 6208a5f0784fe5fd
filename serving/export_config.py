"""export.json: what a user of exported files needs to know of them."""

import dataclasses
import json
import os
from typing import Any

FILE_NAME = "export.json"
LABELS_NAME = "labels.txt"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """How to feed an exported model, and where it comes from.

    The frozen graph, TFLite and ONNX files take pixels that went through the recipe
    `preprocessing_name` at `image_size`; the SavedModel holds the recipe itself. `files` maps a
    format to its path inside the export; `nodes` are the frozen graph's names of "input",
    "logits" and "probabilities". `check` tells how the files were held against the checkpoint.
    """

    model_name: str
    num_classes: int
    image_size: int
    channels: int
    preprocessing_name: str
    use_grayscale: bool
    preprocessing_options: dict[str, Any]
    batch_size: int | None
    labels_offset: int
    checkpoint: str
    global_step: int | None
    moving_averages: bool
    files: dict[str, str]
    nodes: dict[str, str]
    check: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


def save(path: str, config: ExportConfig) -> None:
    """Writes the file `path`; raises OSError."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, **dataclasses.asdict(config)}, file, indent=2)
        file.write("\n")


def load(path: str) -> ExportConfig:
    """Reads the file `path`.

    Raises:
      ValueError: it is not an export.json that this version reads.
      OSError: there is no such file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if content.pop("format") != _FORMAT:
            raise ValueError("another format version")
        return ExportConfig(**content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} can't be read ({error}). It was damaged, or written by another version: "
            "export again with export_model.py --overwrite."
        ) from error


def beside(model_file: str, name: str) -> str:
    """The path of `name` ("labels.txt" or "export.json") that belongs to a model file.

    `frozen_graph.pb` has them beside it; a single file written by --output_file=X.pb has
    `X.labels.txt` and `X.export.json`, so that two such files share a folder.
    """
    own = f"{os.path.splitext(model_file)[0]}.{name}"
    if os.path.exists(own):
        return own
    return os.path.join(os.path.dirname(model_file), name)


def save_labels(path: str, labels: tuple[str, ...]) -> None:
    """Writes one `index:name` a line."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{index}:{label}\n" for index, label in enumerate(labels))


def load_labels(path: str) -> tuple[str, ...]:
    """Reads `index:name` lines in any order, or plain names in the order of the classes.

    Raises:
      ValueError: the indices are not 0 to n-1, each once.
      OSError: there is no such file.
    """
    with open(path, encoding="utf-8-sig") as file:
        lines = [line.strip() for line in file if line.strip()]
    pairs = [line.partition(":") for line in lines]
    if not all(index.isdecimal() and colon for index, colon, _ in pairs):
        return tuple(lines)
    names = {int(index): name for index, _, name in pairs}
    if sorted(names) != list(range(len(lines))):
        raise ValueError(f"{path}: the class numbers are not 0 to {len(lines) - 1}, each once.")
    return tuple(names[index] for index in range(len(lines)))
