"""Options of the evaluation."""

from foundation.errors import InputError, UsageError
from foundation.options import Options, option, options
from nets.options import MOST_PIXELS

# What `views` can average over.
VIEWS = ("none", "flip", "five_crop", "ten_crop")
# Of the pages.
LANGUAGES = ("en", "fr")


@options
class EvaluationOptions(Options):
    """Evaluation."""

    eval_dir: str = option(
        "/tmp/tfmodel/", "Folder for the numbers, tables and the report.", path=True
    )
    model: str | None = option(
        None,
        "Evaluate an exported model in place of a checkpoint: folder of an export, SavedModel "
        "folder, or .pb, .tflite or .onnx file.",
        path=True,
    )
    batch_size: int = option(100, "Images at once.", bounds=(1, None))
    max_num_batches: int | None = option(
        None, "Stop after this many batches; unset: all examples.", bounds=(1, None)
    )
    eval_image_size: int | None = option(
        None, "Side of the images; unset: as trained, else the net's.", bounds=(1, MOST_PIXELS)
    )
    top_k: tuple[int, ...] = option(
        (5,),
        "The K of each Recall_K: the share of examples whose class is among the K likeliest. As "
        "many classes, and five at least, are in predictions.csv.",
        bounds=(1, None),
    )
    all_probabilities: bool = option(
        False, "predictions.csv gets the probability of every class, a column each."
    )
    fit_temperature: bool = option(
        False,
        "Find the temperature at which the log loss of this split is least, and keep it in "
        "the checkpoint's run.json; --temperature=fitted applies it.",
    )
    precision: str = option(
        "float32",
        "Arithmetic of the net's layers. tf32: float32 whose factors GPUs round to 10 bits.",
        choices=("float32", "tf32", "bfloat16"),
    )
    tta: str = option(
        "none",
        "Test-time augmentation: the mean over the image and its mirror image, over five crops, or "
        "over these and their mirror images.",
        choices=VIEWS,
    )
    language: str = option("en", "Language of report.html.", choices=LANGUAGES)

    def too_large(self) -> InputError:
        """What to say where memory is short."""
        if self.batch_size == 1:
            return InputError("Memory is short of a single image; --eval_image_size must be less.")
        return InputError(
            "is more than memory holds.",
            option="batch_size",
            value=self.batch_size,
            remedy=f"Try --batch_size={self.batch_size // 2}; the answers are the same.",
        )


@options
class VisualizationOptions(Options):
    """Looking into a net."""

    visualize: tuple[str, ...] = option(
        (),
        "Picture, folder of pictures or glob. Draws what the net makes of them, and stops: feature "
        "maps, the first layer's filters, and Grad-CAM beside the picture, as PNG files in "
        "--eval_dir. May be repeated.",
        repeated=True,
        path=True,
    )
    end_points: tuple[str, ...] = option(
        (),
        "End points whose feature maps are drawn, such as Mixed_5d,Mixed_7c; unset: five spread "
        "over the net.",
    )
    filters: int = option(
        16, "How many maps of each: those that vary most over the picture.", bounds=(1, None)
    )

    def check(self) -> None:
        for name in ("end_points", "filters"):
            if name in self.given and not self.visualize:
                raise UsageError(f"--{name} needs --visualize=FILE.")


@options
class ComparisonOptions(Options):
    """Comparison."""

    run: tuple[str, ...] = option(
        (),
        "An --eval_dir, or a --train_dir, which is evaluated first. May be repeated; words without "
        "a flag are runs, too. The first is what the others are compared with.",
        repeated=True,
        path=True,
    )
    exports: tuple[str, ...] = option(
        (),
        "Exported models of the runs in the same order, whose size and latency are measured; - "
        "for a run without one.",
        path=True,
    )
    output_dir: str = option(
        "comparison", "Folder for comparison.csv and comparison.html.", path=True
    )
    language: str = option("en", "Language of comparison.html.", choices=LANGUAGES)

    def check(self) -> None:
        if len(self.run) < 2:
            raise UsageError("say what to compare: two folders or more, such as eval_a eval_b.")
        if self.exports and len(self.exports) != len(self.run):
            raise UsageError(
                f"{len(self.exports)} exports for {len(self.run)} runs. Write - for a run without.",
                option="exports",
                value=",".join(self.exports),
            )


@options
class WatchingOptions(Options):
    """Watching a training."""

    eval_interval_secs: float | None = option(
        None,
        "Wait for new checkpoints in --checkpoint_path and evaluate each, so many seconds apart at "
        "least; unset: evaluate once.",
        bounds=(0, None),
    )
    timeout_secs: float | None = option(
        None, "Stop when no new checkpoint came for so long; unset: never.", bounds=(0, None)
    )
    max_number_of_evaluations: int | None = option(
        None, "Stop after this many evaluations; unset: never.", bounds=(1, None)
    )

    def check(self) -> None:
        if self.eval_interval_secs is not None:
            return
        for name in ("timeout_secs", "max_number_of_evaluations"):
            if getattr(self, name) is not None:
                raise UsageError(f"--{name} needs --eval_interval_secs.")


@options
class DrawnAnswersOptions(Options):
    """Answers as pictures and as a page."""

    plot: str | None = option(
        None,
        "Draw each picture beside a bar chart of its classes: X.png for one picture, else a "
        "folder.",
        path=True,
    )
    html: str | None = option(
        None, "Write a page of all pictures, sorted by class and confidence.", path=True
    )
    language: str = option("en", "Language of the page.", choices=LANGUAGES)
    explain: bool = option(
        False,
        "In plots and on the page, show which places of a picture led to its likeliest class "
        "(Grad-CAM).",
    )

    def check(self) -> None:
        if self.explain and not (self.plot or self.html):
            raise UsageError("--explain draws: add --plot=FOLDER or --html=page.html.")
        if "language" in self.given and not self.html:
            raise UsageError("--language is of the page: add --html=page.html.")
