"""Evaluates a trained net on a split of a dataset, each example exactly once."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
from tqdm import tqdm

from datasets import bad_records, batches
from datasets.bad_records import BadRecord
from datasets.tfrecord_dataset import Dataset
from evaluation import evaluator, views
from evaluation import folder as report
from evaluation.evaluator import Evaluation
from evaluation.log_probabilities import LogProbabilities
from evaluation.report.gallery import Gallery
from evaluation.report.page import Extras
from foundation import labels
from foundation.errors import InputError
from nets import costs
from preprocessing.preprocessing_factory import Recipe
from runs import checks, opened, recipes, splits, temperature
from runs import config as run_config
from runs.config import RunConfig
from runs.opened import OpenRun
from runs.options import EvaluateOptions, TrainOptions
from training import summaries, tracking, validation

_SPLITS = ("test", "validation")


def evaluate(options: EvaluateOptions, say: Callable[[str], None] = print) -> Evaluation:
    """Restores a net, runs it over a dataset, and writes numbers, tables and page to `eval_dir`.

    Args:
      options: what is evaluated on what. What run.json says may be left out.
      say: gets lines for the screen.

    Returns:
      what the net said of each example, and the numbers made of it.

    Raises:
      InputError: net, dataset and options do not fit each other, or a file can't be used.
      OSError: a file could not be written.
    """
    config = checks.evaluation(options)
    opened.share_gpus()
    dataset = _dataset(config, options, say)
    dataset, dropped = bad_records.drop(dataset, options.reading.max_bad_records)
    for line in bad_records.summary(dropped):
        say(line)
    run = opened.open_run(
        options.checkpoint.checkpoint_path,
        options,
        names=dataset.labels,
        precision=options.evaluation.precision,
        say=say,
    )
    num_hidden = _num_hidden(run, dataset)
    if num_hidden:
        say(f"The checkpoint's class 0 is the background of {run.net.name}, and is left out.")
    size = views.whole_size(options.evaluation.tta, run.config.image_size)
    recipe = recipes.recipe_of(run.config, functools.partial(os.path.join, run.folder), [size])
    say(f"{run}, {options.evaluation.precision}{_views(options)}")
    say(
        f"Data: {dataset.num_examples} examples of split {dataset.split} in "
        f"{os.path.dirname(dataset.sources[0]) or '.'}, {dataset.num_classes} classes"
    )
    gallery = Gallery(dataset.num_classes, recipe.value_range)
    found = _answers(run, recipe, size, num_hidden, dataset, options, gallery)
    about = _about(run, dataset, dropped, options)
    if options.evaluation.fit_temperature:
        about["fitted_temperature"] = temperature.fit(run, found, dataset.name, dataset.split)
        say(temperature.described(about["fitted_temperature"]))
    numbers = report.write(
        options.evaluation.eval_dir,
        found,
        about,
        step=run.step or 0,
        extras=Extras(
            gallery,
            options.evaluation.language,
            curves=os.path.join(_train_dir(run.folder), summaries.CURVES),
            training=_training(run.config),
        ),
        all_probabilities=options.evaluation.all_probabilities,
    )
    if options.tracking.tracking == "mlflow":
        _track(run, numbers, dataset.split, options.evaluation.eval_dir, say)
    for line in _closing(run, found, dropped, options):
        say(line)
    return found


def _dataset(
    config: RunConfig | None, options: EvaluateOptions, say: Callable[[str], None]
) -> Dataset:
    """Raises InputError where there is none, or one with other classes than the run's."""
    found = splits.first_there(config, options.source, _SPLITS)
    for remark in found.dataset.remarks:
        say(remark)
    if found.passed_over:
        say(f"{found.passed_over.problem} Evaluating the {found.dataset.split} split.")
    elif splits.place(config, options.source)["tfrecord_file"] and not options.source.tfrecord_file:
        say(
            f"Evaluating on {config.tfrecord_file}, which the run was trained on; "
            "--tfrecord_file=FILE would take another."
        )
    if config and config.labels != found.dataset.labels:
        raise InputError(
            f"The checkpoint was trained on the classes {labels.shortened(config.labels)}, the "
            f"dataset has {labels.shortened(found.dataset.labels)}.",
            remedy="Evaluate on a dataset with the same classes.",
        )
    return found.dataset


def _views(options: EvaluateOptions) -> str:
    tta = options.evaluation.tta
    return "" if tta == "none" else f", mean of --tta={tta}"


def _num_hidden(run: OpenRun, dataset: Dataset) -> int:
    """How many of the net's classes no example is of: the background of a zoo checkpoint."""
    num_hidden = run.config.num_classes - dataset.num_classes
    if num_hidden and not run.net.background_class:
        raise InputError(
            f"{run.checkpoint} has {run.config.num_classes} classes, the dataset "
            f"{dataset.num_classes}, and checkpoints of {run.net.name} have no background class.",
            remedy="Evaluate on a dataset with the same classes.",
        )
    return num_hidden


def _answers(
    run: OpenRun,
    recipe: Recipe,
    size: int,
    num_hidden: int,
    dataset: Dataset,
    options: EvaluateOptions,
    gallery: Gallery,
) -> Evaluation:
    """What the net says of each example.

    `size` is the side of the images in pixels; the first `num_hidden` classes are left out.
    `gallery` gets the pictures.
    """
    side, tta = run.config.image_size, options.evaluation.tta
    shape = [None, side, side, run.config.channels]

    divisor = temperature.of_run(options.temperature.temperature or "none", run)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def predict(images):
        return run.model(images, training=False)["logits"][:, num_hidden:] / divisor

    predict.get_concrete_function()  # traced here, so that it doesn't count as the net's time
    examples = batches.evaluation_batches(
        dataset,
        functools.partial(recipe.evaluate, size=size, use_grayscale=run.config.use_grayscale),
        options.evaluation.batch_size,
        num_threads=options.reading.num_preprocessing_threads,
        max_batches=options.evaluation.max_num_batches,
        cache=options.reading.cache,
    )
    expected = dataset.num_examples
    if options.evaluation.max_num_batches is not None:
        most = options.evaluation.max_num_batches * options.evaluation.batch_size
        expected = min(expected, most)
    # On a terminal only: in a log file its lines would overwrite nothing.
    with tqdm(total=expected, unit=" images", disable=None) as bar:
        found = batches.explained(
            dataset,
            lambda: evaluator.evaluate(
                views.mean_of(predict, side, tta),
                examples,
                dataset.labels,
                top_k=options.evaluation.top_k,
                show=gallery.add,
                on_batch=bar.update,
                log_probabilities=LogProbabilities(
                    options.evaluation.eval_dir, dataset.num_classes
                ),
            ),
        )
    if found.num_examples != expected:
        raise InputError(
            f"{dataset.files[0]}: {found.num_examples} examples were read where {expected} were "
            "counted. The files changed meanwhile: run the evaluation again."
        )
    return found


def _about(
    run: OpenRun, dataset: Dataset, dropped: Sequence[BadRecord], options: EvaluateOptions
) -> dict[str, object]:
    """What metrics.json and the page say of what was evaluated."""
    config, evaluation = run.config, options.evaluation
    # The run.json in best/ was written while the training went on.
    whole_run = run_config.load(_train_dir(run.folder)) if run.has_run_json else None
    trained = (whole_run or config).trained
    return {
        "model_name": config.model_name,
        "checkpoint": run.checkpoint,
        "global_step": run.step or 0,
        "moving_averages": run.uses_averages,
        "image_size": config.image_size,
        "preprocessing_name": config.preprocessing_name,
        "use_grayscale": config.use_grayscale,
        "precision": evaluation.precision,
        "tta": evaluation.tta,
        "temperature": temperature.of_run(options.temperature.temperature or "none", run),
        "batch_size": evaluation.batch_size,
        "dataset": dataset.name,
        "split": dataset.split,
        "files": list(dataset.sources),
        "bad_records": [str(record) for record in dropped],
        "dataset_fingerprint": dataset.fingerprint,
        "labels": list(dataset.labels),
        **dataclasses.asdict(costs.of(run.model)),
        "training_seconds": trained.get("seconds"),
        "training_images": trained.get("images"),
        "tensorflow": tf.__version__,
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def _training(config: RunConfig) -> dict[str, dict[str, object]]:
    """The options that the run was trained with, those first that differ from their defaults."""
    defaults = run_config.flags_of(TrainOptions())
    changed = {
        name: value
        for name, value in config.flags.items()
        if name in defaults and value != defaults[name]
    }
    return {"changed": changed, "all": config.flags}


def _train_dir(folder: str) -> str:
    """The folder of a run, where the checkpoint lies in it or in its best/."""
    above = os.path.dirname(os.path.abspath(folder))
    return above if os.path.basename(os.path.abspath(folder)) == validation.FOLDER else folder


def _track(
    run: OpenRun,
    numbers: Mapping[str, object],
    split: str,
    eval_dir: str,
    say: Callable[[str], None],
) -> None:
    """Adds numbers and files to the run in MLflow, under the name of the split."""
    tracked = tracking.MlflowRun(run.config.mlflow_uri, "", run.config.mlflow_run_id, say)
    values = {name: value for name, value in numbers.items() if isinstance(value, int | float)}
    for name, ends in numbers.items():
        if name.endswith("_interval_95") and None not in ends:
            values |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    named = {f"evaluation/{split}/{report.tag(name)}": v for name, v in values.items()}
    tracked.metrics(named, run.step or 0)
    for name in report.FILES:
        tracked.file(os.path.join(eval_dir, name), f"evaluation/{split}")
    tracked.close("FINISHED")
    if not tracked.lost:
        say(f"MLflow: in run {tracked.run_id} as evaluation/{split}")


def _closing(
    run: OpenRun, found: Evaluation, dropped: Sequence[BadRecord], options: EvaluateOptions
) -> list[str]:
    """The last lines on the screen; TF-Slim's own come last."""
    eval_dir = options.evaluation.eval_dir
    training = _folder_with_events(run.folder)
    folders = f"train:{training},eval:{eval_dir}" if training else f"eval:{eval_dir}"
    return [
        f"{found.num_correct} of {found.num_examples} are right, "
        f"{found.num_examples / found.seconds:.1f} images/s. "
        f"See {os.path.join(eval_dir, 'report.html')}, or tensorboard --logdir_spec={folders}",
        *bad_records.summary(dropped),
        f"eval/Accuracy[{found.accuracy:.4f}]",
        *(f"eval/Recall_{k}[{found.recall_at(k):.4f}]" for k in found.recalls),
    ]


def _folder_with_events(folder: str) -> str | None:
    """The folder of the checkpoint, or the one above, as of best/, that has TensorBoard events."""
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        if os.path.isdir(place) and any("tfevents" in name for name in os.listdir(place)):
            return os.path.relpath(place) if not os.path.isabs(folder) else place
    return None
