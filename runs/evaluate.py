"""Evaluates a trained net on a split of a dataset, each example exactly once."""

import contextlib
import dataclasses
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from datasets import bad_records, batches, class_names
from datasets.bad_records import BadRecord
from datasets.splits import TEST, VALIDATION
from datasets.tfrecord_dataset import Dataset
from evaluation import evaluator, published
from evaluation import folder as report
from evaluation.evaluator import Evaluation
from evaluation.log_probabilities import LogProbabilities
from evaluation.report.gallery import Gallery
from evaluation.report.page import Extras, remark_on_guessing
from foundation import lines
from foundation.errors import InputError
from foundation.lines import Line
from runs import checks, evaluated, opened, splits, temperature
from runs import config as run_config
from runs.config import RunConfig
from runs.evaluated import Evaluated
from runs.options import EvaluateOptions, TrainOptions
from serving import classifier
from training import summaries, tracking, validation

# Classes without examples that are named on the screen; the others are in per_class.csv.
_MOST_NAMED = 10


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
    config = _config(options)
    opened.share_gpus()
    dataset = _dataset(config, options, say)
    dataset, dropped = bad_records.drop(dataset, options.reading.max_bad_records)
    for line in bad_records.summary(dropped):
        say(line)
    open_it = evaluated.of_export if options.evaluation.model else evaluated.of_checkpoint
    subject = open_it(options, dataset, say)
    say(
        f"Data: {dataset.num_examples} examples of split {dataset.split} in "
        f"{os.path.dirname(dataset.sources[0]) or '.'}, {dataset.num_classes} classes"
    )
    gallery = Gallery(dataset.num_classes, subject.value_range)
    found = _answers(subject, dataset, options, gallery)
    if subject.heat:
        # Exports of earlier versions and nets without feature maps have none.
        with contextlib.suppress(InputError):
            gallery.explain(subject.heat)
    about = _about(subject, dataset, dropped, options)
    unfitted = None
    if options.evaluation.fit_temperature:
        unfitted = _fit_temperature(subject, found, dataset, about, say)
    numbers = report.write(
        options.evaluation.eval_dir,
        found,
        about,
        step=subject.step,
        extras=Extras(
            gallery,
            options.evaluation.language,
            curves=os.path.join(_train_dir(subject.folder), summaries.CURVES),
            training=_training(subject.config),
            training_counts=class_names.stated_counts(**_training_data(subject.config)),
        ),
        all_probabilities=options.evaluation.all_probabilities,
    )
    if options.tracking.tracking == "mlflow":
        _track(subject, numbers, dataset.split, options.evaluation.eval_dir, say)
    for line in _closing(subject, found, dropped, options):
        say(line)
    if unfitted:
        raise unfitted
    return found


def _fit_temperature(
    subject: Evaluated, found: Evaluation, dataset: Dataset, about: dict, say: Callable[[str], None]
) -> InputError | None:
    """Adds the fitted temperature to `about`; what is wrong, where none is best."""
    try:
        fitted = temperature.fit(subject.run, found, dataset.name, dataset.split)
    except InputError as error:
        return error  # for the end: the evaluation itself is kept
    about["fitted_temperature"] = fitted
    say(temperature.described(fitted))
    return None


def _config(options: EvaluateOptions) -> RunConfig | None:
    """The configuration of the run that is evaluated, as far as it is known."""
    config = checks.evaluation(options)
    if path := options.evaluation.model:
        config = run_config.parsed(classifier.config_of(path).run)
        checks.agrees(config, options, path)
        checks.names_data(config, options, path)
        checks.check_tracked(options.tracking.tracking, config, path)
    return config


def _dataset(
    config: RunConfig | None, options: EvaluateOptions, say: Callable[[str], None]
) -> Dataset:
    """Raises InputError where there is none, or one with other classes than the run's."""
    found = splits.first_there(config, options.source, (TEST, VALIDATION))
    for remark in found.dataset.remarks:
        say(remark)
    if found.passed_over:
        say(f"{found.passed_over.problem} Evaluating the {found.dataset.split} split.")
    elif splits.place(config, options.source)["tfrecord_file"] and not options.source.tfrecord_file:
        say(
            f"Evaluating on {config.tfrecord_file}, which the run was trained on; "
            "--tfrecord_file=FILE would take another."
        )
    if config and not options.evaluation.model and config.labels != found.dataset.labels:
        raise opened.other_classes("The checkpoint", config.labels, found.dataset.labels)
    return found.dataset


def _answers(
    subject: Evaluated, dataset: Dataset, options: EvaluateOptions, gallery: Gallery
) -> Evaluation:
    """What the net says of each example; `gallery` gets the pictures."""
    examples = batches.evaluation_batches(
        dataset,
        subject.decode,
        options.evaluation.batch_size,
        num_threads=options.reading.num_preprocessing_threads,
        max_batches=options.evaluation.max_num_batches,
        cache=options.reading.cache,
    )
    expected = dataset.num_examples
    if options.evaluation.max_num_batches is not None:
        most = options.evaluation.max_num_batches * options.evaluation.batch_size
        expected = min(expected, most)
    os.makedirs(options.evaluation.eval_dir, exist_ok=True)
    # On a terminal only: in a log file its lines would overwrite nothing.
    bar = tqdm(total=expected, unit=" images", disable=lines.bars_hidden())
    with bar, _memory_of(options):
        found = batches.explained(
            dataset,
            lambda: evaluator.evaluate(
                subject.predict,
                examples,
                dataset.labels,
                top_k=options.evaluation.top_k,
                show=lambda batch, *rest: gallery.add(
                    subject.pixels(batch), *rest, subject.inputs(batch)
                ),
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


@contextlib.contextmanager
def _memory_of(options: EvaluateOptions) -> Iterator[None]:
    """Answers a lack of memory in the block with the batch to try."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise options.evaluation.too_large() from error


def _about(
    subject: Evaluated, dataset: Dataset, dropped: Sequence[BadRecord], options: EvaluateOptions
) -> dict[str, object]:
    """What metrics.json and the page say of what was evaluated."""
    config, evaluation, run = subject.config, options.evaluation, subject.run
    # The run.json in best/ was written while the training went on.
    whole_run = run_config.load(_train_dir(run.folder)) if run and run.has_run_json else None
    trained = (whole_run or config).trained
    return {
        "model_name": config.model_name,
        "checkpoint": subject.checkpoint,
        "global_step": subject.step,
        "moving_averages": subject.uses_averages,
        "image_size": config.image_size,
        "preprocessing_name": config.preprocessing_name,
        "use_grayscale": config.use_grayscale,
        "precision": evaluation.precision,
        "tta": evaluation.tta,
        "temperature": subject.temperature,
        "batch_size": evaluation.batch_size,
        "dataset": dataset.name,
        "split": dataset.split,
        "files": list(dataset.sources),
        "bad_records": [str(record) for record in dropped],
        "dataset_fingerprint": dataset.fingerprint,
        "labels": list(dataset.labels),
        **dataclasses.asdict(subject.cost),
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


def _training_data(config: RunConfig) -> dict[str, object]:
    """What `class_names.stated_counts` takes to count what a run was trained on."""
    return {
        "dataset_dir": config.dataset_dir,
        "tfrecord_file": config.tfrecord_file,
        "split": config.dataset_split_name or "train",
    }


def _train_dir(folder: str) -> str:
    """The folder of a run, where the checkpoint lies in it or in its best/."""
    above = os.path.dirname(os.path.abspath(folder))
    return above if os.path.basename(os.path.abspath(folder)) == validation.FOLDER else folder


def _track(
    subject: Evaluated,
    numbers: Mapping[str, object],
    split: str,
    eval_dir: str,
    say: Callable[[str], None],
) -> None:
    """Adds numbers and files to the run in MLflow, under the name of the split."""
    config = subject.config
    tracked = tracking.MlflowRun(config.mlflow_uri, "", config.mlflow_run_id, say)
    values = {name: value for name, value in numbers.items() if isinstance(value, int | float)}
    for name, ends in numbers.items():
        if name.endswith("_interval_95") and None not in ends:
            values |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    named = {f"evaluation/{split}/{report.tag(name)}": v for name, v in values.items()}
    tracked.metrics(named, subject.step)
    for name in published.FILES:
        tracked.file(os.path.join(eval_dir, name), f"evaluation/{split}")
    tracked.close("FINISHED")
    if not tracked.lost:
        say(f"MLflow: in run {tracked.run_id} as evaluation/{split}")


def _closing(
    subject: Evaluated, found: Evaluation, dropped: Sequence[BadRecord], options: EvaluateOptions
) -> list[str]:
    """The last lines on the screen; TF-Slim's own come last."""
    eval_dir = options.evaluation.eval_dir
    absent = [found.class_names[i] for i in np.flatnonzero(found.scores.support == 0)]
    training = _folder_with_events(subject.folder)
    folders = f"train:{training},eval:{eval_dir}" if training else f"eval:{eval_dir}"
    shares = {"accuracy": found.accuracy} | {
        f"recall_{k}": found.recall_at(k) for k in found.recalls
    }
    return [
        f"{found.num_correct} of {found.num_examples} are right, "
        f"{found.num_examples / found.seconds:.1f} images/s. "
        f"See {os.path.join(eval_dir, 'report.html')}, or tensorboard "
        f"{shlex.quote(f'--logdir_spec={folders}')}",
        *filter(None, [remark_on_guessing(found)]),
        *bad_records.summary(dropped),
        *_without_examples(absent, found.num_classes),
        Line(
            f"eval/Accuracy[{found.accuracy:.4f}]", "evaluation", step=subject.step, metrics=shares
        ),
        *(f"eval/Recall_{k}[{found.recall_at(k):.4f}]" for k in found.recalls),
    ]


def _without_examples(absent: Sequence[str], num_classes: int) -> list[str]:
    if not absent:
        return []
    names = ", ".join(absent[:_MOST_NAMED]) + (", …" if len(absent) > _MOST_NAMED else "")
    return [f"Without an example in this split: {names} ({len(absent)} of {num_classes} classes)."]


def _folder_with_events(folder: str) -> str | None:
    """The folder of the checkpoint, or the one above, as of best/, that has TensorBoard events."""
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        if os.path.isdir(place) and any("tfevents" in name for name in os.listdir(place)):
            return os.path.relpath(place) if not os.path.isabs(folder) else place
    return None
