"""Options of export and classification."""

from foundation.errors import UsageError
from foundation.options import Options, option, options
from nets.options import MOST_PIXELS

# Format → its name in an export, fastest to start first; so are an export's files tried.
FILES = {
    "saved_model": "saved_model",
    "frozen_graph": "frozen_graph.pb",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
}
FORMATS = tuple(FILES)
# Of the TFLite file, and of the ONNX file.
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
ONNX_QUANTIZATIONS = ("none", "int8")
# What the SavedModel and the frozen graph compute in.
PRECISIONS = ("float32", "bfloat16")
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
        aliases=("output_graph",),
        path=True,
    )
    formats: tuple[str, ...] = option(
        ("saved_model", "frozen_graph"),
        f"What to write, of {', '.join(FORMATS)}.",
        choices=FORMATS,
    )
    overwrite: bool = option(False, "Replace a former export, once the new one is whole.")
    image_size: int | None = option(
        None, "Side of the images; unset: as trained, else the net's.", bounds=(1, MOST_PIXELS)
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
    precision: str = option(
        "float32",
        "What the SavedModel and the frozen graph compute in. bfloat16 halves the frozen graph and "
        "is faster on processors that have instructions for it (AVX512_BF16, AMX), slower on "
        "others.",
        choices=PRECISIONS,
    )
    tflite_quantization: str = option(
        "none",
        "Numbers of the TFLite file: none (float32), float16 (half the size), dynamic (weights in "
        "int8, a quarter of the size, activations in float), or int8 (both in int8; most ReLU nets "
        "keep their accuracy, nets with swish may not).",
        choices=QUANTIZATIONS,
    )
    tflite_uint8: bool = option(
        False,
        "The int8 file takes and gives uint8 in place of float32, with the scale and zero point "
        "stored in the file.",
    )
    onnx_quantization: str = option(
        "none",
        "Numbers of the ONNX file: none (float32), or int8 (weights and activations, by ONNX "
        "Runtime's quantizer).",
        choices=ONNX_QUANTIZATIONS,
    )
    representative_dataset: str | None = option(
        None,
        "TFRecord files (a list or a glob) whose first pictures show int8 the range of its "
        "numbers; unset: the training split of the run.",
        path=True,
        remote=True,
    )
    check_examples: int = option(
        64,
        "Pictures of the dataset on which each file is compared with the checkpoint.",
        bounds=(1, None),
    )
    allow_mismatch: bool = option(
        False, "Keep files that do not give the checkpoint's numbers; the table names them."
    )
    assert_accuracy_at_least: float | None = option(
        None,
        "Export nothing unless each file has at least this share of the compared pictures right.",
        bounds=(0, 1),
    )
    freeze_graph: str | None = option(
        None,
        "Graph of TF-Slim's export_inference_graph.py (.pb or .pbtxt), to which the weights of "
        "--checkpoint_path are added, as freeze_graph.py did; goes into --output_file.",
        aliases=("input_graph",),
        path=True,
    )
    output_node_names: tuple[str, ...] = option(
        (), "Nodes that a graph of --freeze_graph ends with; unset: the last that no other reads."
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
        self._check_quantization()
        self._check_freezing()

    def _check_quantization(self) -> None:
        if self.tflite_quantization != "none" and "tflite" not in self.formats:
            raise UsageError("--tflite_quantization needs tflite among --formats.")
        if self.onnx_quantization != "none" and "onnx" not in self.formats:
            raise UsageError("--onnx_quantization needs onnx among --formats.")
        if self.tflite_uint8 and self.tflite_quantization != "int8":
            raise UsageError("--tflite_uint8 needs --tflite_quantization=int8.")
        if self.representative_dataset and not self.is_calibrated:
            raise UsageError(
                "--representative_dataset is for --tflite_quantization=int8 and "
                "--onnx_quantization=int8."
            )

    def _check_freezing(self) -> None:
        if self.freeze_graph and not self.output_file:
            raise UsageError("--freeze_graph needs --output_file=X.pb.")
        if self.output_node_names and not self.freeze_graph:
            raise UsageError("--output_node_names needs --freeze_graph.")

    @property
    def is_calibrated(self) -> bool:
        """Whether a file needs pictures that show the range of its numbers."""
        return "int8" in (self.tflite_quantization, self.onnx_quantization)


@options
class ModelOptions(Options):
    """Model."""

    model: str | None = option(
        None,
        "Folder of an export, SavedModel folder, or .pb, .tflite or .onnx file; or a training "
        "folder or checkpoint.",
        aliases=("checkpoint", "checkpoint_path", "graph"),
        path=True,
    )
    category_names: str | None = option(
        None,
        "JSON of names to show, such as cat_to_name.json: from class or number to name.",
        path=True,
    )

    def check(self) -> None:
        if not self.model:
            raise UsageError(
                "say what to classify with: --model=FOLDER as export_model.py or training wrote it."
            )


@options
class PlainGraphOptions(Options):
    """A frozen graph or a checkpoint that comes alone."""

    labels: str | None = option(
        None,
        "Class names, one a line, where the model brings none; unset: their numbers.",
        aliases=("labels_file",),
        path=True,
    )
    input_layer: str | None = option(
        None, "Node of a graph that takes the images; unset: its only placeholder."
    )
    output_layer: str | None = option(
        None, "Node of a graph that gives the classes; unset: its last one."
    )
    image_size: int | None = option(
        None,
        "Side of the images; unset: as the graph says, else the net's, else 299 as label_image.",
        aliases=("input_height",),
        bounds=(1, MOST_PIXELS),
    )
    input_width: int | None = option(
        None,
        "The same as --image_size, as label_image has it: only squares are supported.",
        bounds=(1, None),
    )
    input_mean: float | None = option(
        None,
        "Subtracted from each pixel of the stretched images, as by TensorFlow's label_image, for a "
        "graph without --preprocessing_name; unset: 0.",
    )
    input_std: float | None = option(
        None, "Divides the pixels after --input_mean; unset: 255.", bounds=(1e-6, None)
    )

    @property
    def side(self) -> int | None:
        """Side of the images as it was set, by whichever name."""
        return self.image_size or self.input_width

    def check(self) -> None:
        if self.input_width not in (None, self.side):
            raise UsageError(
                f"only squares are supported, and the height is {self.side}.",
                option="input_width",
                value=self.input_width,
            )


@options
class ClassifyOptions(Options):
    """Classification."""

    image: tuple[str, ...] = option(
        (),
        "Picture, folder of pictures, glob or comma-separated list; - for a picture or a list of "
        "names that is piped in. May be repeated; words without a flag are pictures, too.",
        aliases=("input", "image_file"),
        repeated=True,
        path=True,
    )
    top_k: int = option(
        5,
        "How many classes to show of each picture.",
        aliases=("num_top_predictions",),
        bounds=(1, None),
    )
    unsure_below: float | None = option(
        None,
        "A picture whose likeliest class has a lower probability is named unsure.",
        bounds=(0, 1),
    )
    batch_size: int = option(16, "Pictures that are classified at once.", bounds=(1, None))
    csv: str | None = option(
        None, "Also write the answers into this CSV file, a row a picture.", path=True
    )
    json: str | None = option(None, "Also write the answers into this JSON file.", path=True)

    def check(self) -> None:
        if not self.image:
            raise UsageError("say what to classify: --image=FILE.")


@options
class DemoOptions(Options):
    """Page."""

    host: str = option(
        "127.0.0.1",
        "Address to answer at; 0.0.0.0 lets everybody in who reaches this machine.",
    )
    port: int = option(7860, "Port to answer at; 0: any that is free.", bounds=(0, 65_535))
    examples: tuple[str, ...] = option(
        (), "Pictures, folders or globs, of which the first eight are shown to try.", path=True
    )
    report: str | None = option(None, "report.html of an evaluation, to show in a tab.", path=True)
    comparison: str | None = option(
        None, "comparison.html of compare_runs.py, to show in a tab.", path=True
    )
    feedback_dir: str | None = option(
        None,
        "Lets people say what a picture shows. The pictures are kept in images/ of this folder "
        "and their labels in labels.csv, as convert_data.py reads them.",
        path=True,
    )
    max_megabytes: float = option(20.0, "Largest file that is taken.", bounds=(0.01, 1000))
    max_megapixels: float = option(50.0, "Most pixels of a picture.", bounds=(0.001, 89))
    max_files: int = option(200, "Most pictures at once in the tab for many.", bounds=(1, None))
