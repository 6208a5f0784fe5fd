"""Options of export and classification."""

from foundation.errors import UsageError
from foundation.options import Options, option, options

# Format → its name in an export, fastest to start first; so are an export's files tried.
FILES = {
    "saved_model": "saved_model",
    "frozen_graph": "frozen_graph.pb",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
}
FORMATS = tuple(FILES)
# Of the TFLite file's weights.
QUANTIZATIONS = ("none", "float16", "dynamic")
# A SavedModel's version that follows those in the folder.
NEXT_VERSION = 0


def _version(text: str) -> int:
    """A version by the command line's word; raises ValueError."""
    if text == "auto":
        return NEXT_VERSION
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("is neither a number from 1 nor auto.")
    return int(text)


@options
class ExportOptions(Options):
    """Export."""

    output_dir: str | None = option(None, "Folder to write the export into.", path=True)
    output_file: str | None = option(
        None,
        "Frozen graph to write (X.pb), alone, in place of --output_dir.",
        path=True,
    )
    formats: tuple[str, ...] = option(
        ("saved_model", "frozen_graph"),
        f"What to write, of {', '.join(FORMATS)}.",
        choices=FORMATS,
    )
    overwrite: bool = option(False, "Replace a former export, once the new one is whole.")
    image_size: int | None = option(
        None, "Side of the images; unset: as trained, else the net's.", bounds=(1, None)
    )
    batch_size: int | None = option(
        None,
        "Fixes the number of images that frozen graph, TFLite and ONNX take at once; unset: any.",
        bounds=(1, None),
    )
    saved_model_version: int = option(
        1,
        "The SavedModel is saved_model/VERSION; TensorFlow Serving takes the highest. A version "
        "that an export lacks is added to it, and nothing else is touched; auto takes the next.",
        parse=_version,
        bounds=(NEXT_VERSION, None),
    )
    tflite_quantization: str = option(
        "none",
        "Weights of the TFLite file: float32, float16 (half the size), or int8 with activations in "
        "float (a quarter).",
        choices=QUANTIZATIONS,
    )
    write_text_graphdef: bool = option(
        False, "Also write the frozen graph as text (.pbtxt), without weights, for reading."
    )
    labels_file: str | None = option(
        None,
        "Class names, one a line, for a checkpoint without run.json and without --dataset_dir.",
        path=True,
    )

    def check(self) -> None:
        if bool(self.output_dir) == bool(self.output_file):
            raise UsageError(
                "say where to write: --output_dir=FOLDER for an export, or --output_file=X.pb for "
                "a frozen graph alone."
            )
        if not self.formats:
            raise UsageError(f"--formats is empty. Choose of {', '.join(FORMATS)}.")
        if self.output_file:
            if "formats" in self.given and self.formats != ("frozen_graph",):
                raise UsageError(
                    "--output_file writes a frozen graph alone; --formats needs --output_dir."
                )
            if not self.output_file.endswith(".pb"):
                raise UsageError(
                    "its name must end in .pb.", option="output_file", value=self.output_file
                )
            if "saved_model_version" in self.given:
                raise UsageError(
                    "--output_file writes a frozen graph alone; --saved_model_version needs "
                    "--output_dir."
                )
        if self.write_text_graphdef and "frozen_graph" not in self.formats:
            raise UsageError("--write_text_graphdef needs frozen_graph among --formats.")
        if self.tflite_quantization != "none" and "tflite" not in self.formats:
            raise UsageError("--tflite_quantization needs tflite among --formats.")


@options
class ClassifyOptions(Options):
    """Classification."""

    model: str | None = option(
        None, "Folder of an export, SavedModel folder, or .pb, .tflite or .onnx file.", path=True
    )
    image: tuple[str, ...] = option(
        (),
        "Picture, folder of pictures, glob or comma-separated list. May be repeated; words without "
        "a flag are pictures, too.",
        repeated=True,
        path=True,
    )
    top_k: int = option(5, "How many classes to show of each picture.", bounds=(1, None))
    batch_size: int = option(16, "Pictures that are classified at once.", bounds=(1, None))
    csv: str | None = option(None, "Also write the answers into this CSV file.", path=True)
    json: str | None = option(None, "Also write the answers into this JSON file.", path=True)

    def check(self) -> None:
        if not self.model:
            raise UsageError(
                "say what to classify with: --model=FOLDER as export_model.py wrote it."
            )
        if not self.image:
            raise UsageError("say what to classify: --image=FILE.")
