"""The options of each job, group by group, and checks that join two groups."""

import math
from typing import Any

from datasets.options import (
    AnnotatedCropOptions,
    ConversionOptions,
    DestinationOptions,
    EngineOptions,
    PhotographsOptions,
    ReadingOptions,
    ServiceOptions,
    SourceOptions,
    ThreadsOptions,
    TrainingReadingOptions,
)
from datasets.splits import TEST, VALIDATION
from evaluation.options import (
    ComparisonOptions,
    DrawnAnswersOptions,
    EvaluationOptions,
    VisualizationOptions,
    WatchingOptions,
)
from foundation.errors import UsageError
from foundation.options import (
    Options,
    changed,
    given_values,
    group,
    option,
    options,
    values,
)
from nets import names
from nets.names import AUTO
from nets.options import (
    PRETRAINED,
    AveragesOptions,
    CheckpointOptions,
    DownloadOptions,
    NetOptions,
    TrainedNetOptions,
)
from preprocessing.options import (
    AugmentationOptions,
    PixelsOptions,
    PreviewOptions,
    RecipeOptions,
)
from runs import recipes, search_space
from runs.search_space import Dimension
from serving.options import (
    ClassifyOptions,
    DemoOptions,
    ExportOptions,
    ModelOptions,
    PlainGraphOptions,
)
from training.options import (
    ExportTrackingOptions,
    MachineOptions,
    SavingOptions,
    TrackingOptions,
    TrainingOptions,
    ValidationOptions,
)

# Of --temperature, besides numbers.
TEMPERATURE_WORDS = ("fitted", "none")
# Options of the evaluation that an exported model has no use for.
_OF_CHECKPOINTS = (
    *("checkpoint_path", "moving_average_decay", "precision", "tta"),
    *("fit_temperature", "eval_interval_secs", "visualize"),
)


@options
class ListingOptions(Options):
    """Listings."""

    list_models: bool = option(False, "Show all nets, and stop.")
    list_scopes: bool = option(False, "Show the scopes of the net, and stop.")


@options
class RecipeFileOptions(Options):
    """Recipe."""

    recipe: str | None = option(
        None,
        "Settings that go together, a file of recipes/ by its name "
        f"({', '.join(recipes.names())}) or any file of flags by its path. A flag on the command "
        "line wins over it.",
    )


@options
class LegacyOptions(Options):
    """TF-Slim's, whose mechanism is gone."""

    master: str = option("", "Gone with TensorFlow 1; only the empty value is accepted.")
    quantize: bool = option(False, "Gone with TensorFlow 1; only false is accepted.")

    def check(self) -> None:
        if self.master:
            raise UsageError(
                "TensorFlow sessions are gone. Leave it out; several machines are started with "
                "--worker_hosts=HOST:PORT,HOST:PORT and --task, or TF_CONFIG.",
                option="master",
                value=self.master,
            )
        if self.quantize:
            raise UsageError(
                "--quantize: rewriting the graph for quantized arithmetic is gone. Leave it out "
                "and export with export_model.py --formats=tflite --tflite_quantization=dynamic."
            )


@options
class TrainingLegacyOptions(LegacyOptions):
    """TF-Slim's, whose mechanism is gone."""

    num_ps_tasks: int = option(0, "Gone with TensorFlow 1; only 0 is accepted.")
    num_readers: int = option(4, "Accepted and without effect: reading adapts by itself.")
    quantize_delay: int = option(-1, "Gone with TensorFlow 1; only -1 is accepted.")

    def check(self) -> None:
        super().check()
        if self.num_ps_tasks:
            raise UsageError(
                "parameter servers are gone. Leave it out; workers share their gradients directly "
                "(--worker_hosts and --task).",
                option="num_ps_tasks",
                value=self.num_ps_tasks,
            )
        if self.quantize_delay >= 0:
            raise UsageError(
                "quantized training is gone. Leave it out and export with export_model.py "
                "--formats=tflite.",
                option="quantize_delay",
                value=self.quantize_delay,
            )


@options
class ExportLegacyOptions(LegacyOptions):
    """TF-Slim's, whose mechanism is gone."""

    is_training: bool = option(False, "Of TF-Slim; only false is accepted.")
    is_video_model: bool = option(False, "Of TF-Slim; only false is accepted.")
    num_frames: int | None = option(None, "Of TF-Slim, for video models; not accepted.")
    input_binary: bool = option(True, "Of freeze_graph, without effect: the file itself shows it.")
    clear_devices: bool = option(True, "Of freeze_graph; devices are always cleared.")
    input_saver: str = option("", "Of freeze_graph; only the empty value is accepted.")
    restore_op_name: str = option("", "Of freeze_graph, without effect.")
    filename_tensor_name: str = option("", "Of freeze_graph, without effect.")
    initializer_nodes: str = option("", "Of freeze_graph, without effect.")

    def check(self) -> None:
        super().check()
        if self.is_training:
            raise UsageError(
                "--is_training: the training form of a net normalises by its batch and drops units "
                "at random, so its answers are of no use to others. Leave it out; to train on, "
                "give the checkpoint itself to train_image_classifier.py --checkpoint_path."
            )
        if self.is_video_model or self.num_frames is not None:
            raise UsageError(
                "--is_video_model and --num_frames: nets for videos are not supported."
            )
        if self.input_saver:
            raise UsageError(
                "weights are read from the checkpoint by their names. Leave it out.",
                option="input_saver",
                value=self.input_saver,
            )


@options
class TrainOptions(Options):
    """Training."""

    listing: ListingOptions = group(ListingOptions)
    recipe_file: RecipeFileOptions = group(RecipeFileOptions)
    source: SourceOptions = group(SourceOptions)
    reading: TrainingReadingOptions = group(TrainingReadingOptions)
    net: TrainedNetOptions = group(TrainedNetOptions)
    training: TrainingOptions = group(TrainingOptions)
    recipe: RecipeOptions = group(RecipeOptions)
    pixels: PixelsOptions = group(PixelsOptions)
    augmentation: AugmentationOptions = group(AugmentationOptions)
    preview: PreviewOptions = group(PreviewOptions)
    legacy: TrainingLegacyOptions = group(TrainingLegacyOptions)

    @classmethod
    def of(cls, **given: Any) -> "TrainOptions":
        return super().of(**given).completed()

    def completed(self) -> "TrainOptions":
        """The same with the recipe's values; --model_name=auto comes with one."""
        recipe = self.recipe_file.recipe
        if recipe is None and self.net.model_name == AUTO:
            pretrained = self.training.restoring.checkpoint_path == PRETRAINED
            recipe = "quick_transfer" if pretrained else "from_scratch_small"
            return recipes.completed(changed(self, {"recipe": recipe}), recipe)
        return recipes.completed(self, recipe)

    def check(self) -> None:
        if self.listing.list_models or self.listing.list_scopes:
            return
        if not self.source.dataset_dir and not self.source.tfrecord_file:
            raise UsageError(
                "say where the data is: --dataset_dir=FOLDER as convert_data.py wrote it, or "
                "--tfrecord_file=FILE."
            )
        machine = self.training.machine
        if self.net.model_name == AUTO:
            self._check_auto()
        self.training.batch.accumulation(len(machine.worker_hosts) or machine.worker_replicas)
        draws = self.training.feature_cache.feature_cache_augmentations
        if draws and self.augmentation.mixes_images:
            raise UsageError("--mixup_alpha and --cutmix_alpha mix pixels, not cached features.")
        if draws and not self.augmentation.augment:
            raise UsageError(
                "excludes --augment=false: leave one of them out.",
                option="feature_cache_augmentations",
                value=draws,
            )

    def _check_auto(self) -> None:
        given, machine = self.training, self.training.machine
        problem = None
        if given.length.max_minutes is None:
            problem = "needs --max_minutes, the time that the training may take."
        elif given.restoring.checkpoint_path not in (None, PRETRAINED):
            problem = "chooses a net, and a checkpoint is of one: name that."
        elif machine.worker_hosts or machine.worker_replicas > 1:
            problem = "measures one machine: name a net for several workers."
        if problem:
            raise UsageError(problem, option="model_name", value=AUTO)


@options
class TuningOptions(Options):
    """Search."""

    search: str = option(
        "",
        "What to try: NAME=LOW:HIGH, NAME=log:LOW:HIGH or NAME=CHOICE,CHOICE with ; between them, "
        "each NAME an option of the training, such as learning_rate=log:1e-5:1e-2;optimizer=adam,"
        "momentum. Choices that hold commas have | between them.",
    )
    study: str | None = option(
        None,
        "SQLite file of the study, which several processes may share; unset: study.db in "
        "--train_dir. The same command goes on with it.",
        path=True,
    )
    max_trials: int = option(
        30, "Trials of the study, those of all processes together.", bounds=(1, None)
    )
    pruner: str = option(
        "median",
        "What ends hopeless trials, by their evaluations: median: those below half of the trials "
        "before at the same point; hyperband: most of them early, for some fifty trials and more.",
        choices=("median", "hyperband", "none"),
    )

    def check(self) -> None:
        if not self.search:
            raise UsageError("--search is missing: which options to try, and between what.")


# Groups of a training's options that a search leaves alone.
NOT_SEARCHED = (
    *(ListingOptions, RecipeFileOptions, SourceOptions, SavingOptions, ValidationOptions),
    *(DownloadOptions, MachineOptions, TrackingOptions, PreviewOptions, LegacyOptions),
)


@options
class TuneOptions(TrainOptions):
    """Search for the best training."""

    tuning: TuningOptions = group(TuningOptions)

    @property
    def space(self) -> dict[str, Dimension]:
        """What --search tries, by option name; raises UsageError where it makes no sense."""
        known = search_space.searchable(TrainOptions, NOT_SEARCHED)
        space = search_space.parse(self.tuning.search, known)
        search_space.check_used(space, values(self))
        for name in space["model_name"].choices if "model_name" in space else ():
            names.check(name)
        return space

    def check(self) -> None:
        super().check()
        length, validation = self.training.length, self.training.validation
        if length.max_number_of_steps is None and length.num_epochs is None:
            raise UsageError(
                "say how long a trial is: --num_epochs or --max_number_of_steps (--max_minutes is "
                "the time of the whole search)."
            )
        if self.net.model_name == AUTO:
            raise UsageError(
                "is for one training: name a net, or several by --search='model_name=…,…'.",
                option="model_name",
                value=AUTO,
            )
        if self.training.batch.batch_size == "auto" and not validation.eval_every_n_steps:
            raise UsageError("--batch_size=auto needs --eval_every_n_steps in a search.")
        if self.tuning.search:
            _ = self.space  # before TensorFlow is imported


@options
class TemperatureOptions(Options):
    """Temperature."""

    temperature: str | None = option(
        None,
        "What the logits are divided by before the softmax: fitted (by eval_image_classifier.py "
        "--fit_temperature), none, or a number. Unset: an export takes what was fitted to its "
        "checkpoint, if it was, a classification what was exported, an evaluation none.",
    )

    def check(self) -> None:
        if self.temperature in (None, *TEMPERATURE_WORDS):
            return
        try:
            is_usable = 0 < float(self.temperature) < math.inf
        except ValueError:
            is_usable = False
        if not is_usable:
            raise UsageError(
                "write fitted, none or a number above 0.",
                option="temperature",
                value=self.temperature,
            )


@options
class OpenOptions(Options):
    """A trained net."""

    source: SourceOptions = group(SourceOptions)
    net: NetOptions = group(NetOptions)
    recipe: RecipeOptions = group(RecipeOptions)
    checkpoint: CheckpointOptions = group(CheckpointOptions)
    download: DownloadOptions = group(DownloadOptions)

    @property
    def size_by_hand(self) -> int | None:
        """Side of the images in pixels, where the job's options set one."""
        return None


@options
class EvaluateOptions(OpenOptions):
    """Evaluation."""

    source: SourceOptions = group(SourceOptions, dataset_split_name=TEST)
    reading: ReadingOptions = group(ReadingOptions)
    evaluation: EvaluationOptions = group(EvaluationOptions)
    watching: WatchingOptions = group(WatchingOptions)
    visualization: VisualizationOptions = group(VisualizationOptions)
    temperature: TemperatureOptions = group(TemperatureOptions)
    tracking: TrackingOptions = group(TrackingOptions)
    legacy: LegacyOptions = group(LegacyOptions)

    @property
    def size_by_hand(self) -> int | None:
        return self.evaluation.eval_image_size

    def check(self) -> None:
        if self.evaluation.model:
            for name in sorted(given_values(self).keys() & set(_OF_CHECKPOINTS)):
                raise UsageError(
                    f"--{name} is of checkpoints, --model of what was made of one: leave one out."
                )
        if self.visualization.visualize and self.watching.eval_interval_secs is not None:
            raise UsageError(
                "--visualize is of one checkpoint: leave one of them out.",
                option="eval_interval_secs",
            )
        if not self.evaluation.fit_temperature:
            return
        if self.watching.eval_interval_secs is not None:
            raise UsageError(
                "--fit_temperature is of one checkpoint: leave one of them out.",
                option="eval_interval_secs",
            )
        if self.evaluation.tta != "none":
            raise UsageError("--fit_temperature is of single images: leave --tta out.")
        if self.temperature.temperature not in (None, "none"):
            raise UsageError("--fit_temperature finds what --temperature sets: leave one out.")


# Options that --freeze_graph goes with, besides those of the old scripts.
_FREEZING = frozenset(
    ("freeze_graph", "output_file", "output_node_names", "formats", "image_size", "overwrite")
    + ("allow_mismatch", "checkpoint_path", "moving_average_decay")
)


@options
class ExportModelOptions(OpenOptions):
    """Export."""

    source: SourceOptions = group(SourceOptions, dataset_split_name=VALIDATION)
    reading: ThreadsOptions = group(ThreadsOptions)
    export: ExportOptions = group(ExportOptions)
    temperature: TemperatureOptions = group(TemperatureOptions)
    tracking: ExportTrackingOptions = group(ExportTrackingOptions)
    legacy: ExportLegacyOptions = group(ExportLegacyOptions)

    @property
    def size_by_hand(self) -> int | None:
        return self.export.image_size

    def check(self) -> None:
        if self.export.labels_file and (self.source.dataset_dir or self.source.tfrecord_file):
            raise UsageError("--labels_file and a dataset both name the classes. Give one of them.")
        if self.tracking.register and (
            self.export.output_file or "saved_model" not in self.export.formats
        ):
            raise UsageError(
                "--register needs saved_model among --formats, and --output_dir.",
            )
        if self.export.freeze_graph and self.export.output_file:
            self._check_freezing()

    def _check_freezing(self) -> None:
        """A graph says itself what other options say of a net; none is passed over in silence."""
        given = given_values(self).keys() - given_values(self.legacy).keys()
        if unused := sorted(given - _FREEZING):
            raise UsageError(
                f"--freeze_graph has no use for {', '.join(f'--{name}' for name in unused)}: leave "
                "it out.",
            )


@options
class ConvertOptions(Options):
    """Conversion."""

    photographs: PhotographsOptions = group(PhotographsOptions)
    destination: DestinationOptions = group(DestinationOptions)
    conversion: ConversionOptions = group(ConversionOptions)
    engine: EngineOptions = group(EngineOptions)

    def check(self) -> None:
        others = self.destination.report, self.conversion.zca_size, self.destination.from_tfds
        for name, given in zip(("report", "zca_size", "dataset_name=tfds:…"), others, strict=True):
            if self.engine.runner and given:
                raise UsageError(
                    f"--{name} goes through the photographs on one machine: leave it or --runner "
                    "out."
                )
        names = ("image_dir", "annotations_dir", "csv_file", "split_lists", "multiple_objects")
        given = [name for name in names if name in self.photographs.given]
        if self.destination.from_tfds and given:
            raise UsageError(
                f"--{given[0]} and --dataset_name={self.destination.dataset_name}: the photographs "
                "come from TensorFlow Datasets. Leave one of them out."
            )
        if not self.destination.from_tfds and not self.photographs.image_dir:
            raise UsageError("--image_dir is missing: the folder of the photographs.")


@options
class _AskedRunOptions(OpenOptions):
    """A trained net that is shown pictures."""

    graph: PlainGraphOptions = group(PlainGraphOptions)

    @property
    def size_by_hand(self) -> int | None:
        return self.graph.side


@options
class AloneOptions(Options):
    """A graph or a checkpoint that comes alone."""

    graph: PlainGraphOptions = group(PlainGraphOptions)
    net: NetOptions = group(NetOptions)
    recipe: RecipeOptions = group(RecipeOptions)
    averages: AveragesOptions = group(AveragesOptions)
    download: DownloadOptions = group(DownloadOptions)

    def check(self) -> None:
        recipe = self.recipe.preprocessing_name or "model_name" in self.net.given
        if recipe and not self.graph.given.isdisjoint(("input_mean", "input_std")):
            raise UsageError(
                "--input_mean and --input_std are for graphs without a recipe: leave them out, or "
                "--preprocessing_name and --model_name."
            )

    @property
    def of_run(self) -> OpenOptions:
        """What opens a training folder or a checkpoint."""
        return changed(_AskedRunOptions(), given_values(self))


@options
class ClassifyImageOptions(Options):
    """Classification."""

    model: ModelOptions = group(ModelOptions)
    classify: ClassifyOptions = group(ClassifyOptions)
    crop: AnnotatedCropOptions = group(AnnotatedCropOptions)
    drawn: DrawnAnswersOptions = group(DrawnAnswersOptions)
    temperature: TemperatureOptions = group(TemperatureOptions)
    alone: AloneOptions = group(AloneOptions)


@options
class WebDemoOptions(Options):
    """Page to try a model on."""

    model: ModelOptions = group(ModelOptions)
    demo: DemoOptions = group(DemoOptions)
    temperature: TemperatureOptions = group(TemperatureOptions)
    alone: AloneOptions = group(AloneOptions)


@options
class CompareRunsOptions(Options):
    """Comparison."""

    comparison: ComparisonOptions = group(ComparisonOptions)


@options
class DataServiceOptions(Options):
    """tf.data service."""

    service: ServiceOptions = group(ServiceOptions)


# The scripts and the options that each of them takes.
JOBS: dict[str, type[Options]] = {
    "convert_data.py": ConvertOptions,
    "train_image_classifier.py": TrainOptions,
    "tune_image_classifier.py": TuneOptions,
    "eval_image_classifier.py": EvaluateOptions,
    "export_model.py": ExportModelOptions,
    "classify_image.py": ClassifyImageOptions,
    "web_demo.py": WebDemoOptions,
    "compare_runs.py": CompareRunsOptions,
    "data_service.py": DataServiceOptions,
}
