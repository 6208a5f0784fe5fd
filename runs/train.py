"""Training, and what can be asked before it: a preview, a dry run of restoring, a learning rate."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import tensorflow as tf

from datasets import bad_records, batches, data_services
from datasets.bad_records import BadRecord
from datasets.batches import Shard
from foundation import files, reachable
from foundation.errors import AgainError, InputError
from foundation.labels import shortened
from foundation.lines import Line
from foundation.options import changed
from nets import checkpoints, speed
from nets.names import AUTO
from preprocessing import preview as previews
from runs import auto, continuing, durations, hyperparameters
from runs import config as run_config
from runs.config import RunConfig
from runs.data import TrainingData, ValidationData, find, keep_zca_file, readable, training_recipe
from runs.options import TrainOptions
from training import batch_size, learning_rates, rate_finder, restoring, summaries
from training import distribution as distributions
from training.contracts import Ending, Examples
from training.distribution import Distribution
from training.log import Log, Screen, Sink
from training.restoring import NetConfig
from training.run import Run
from training.tracking import MlflowRun
from training.validation import FOLDER, Best

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
      train_dir: where its checkpoints are.
      step: that the run has reached.
      first_step: at which this call began.
      ending: why it ended.
      best: the best evaluation; its `step` is 0 where there was none.
      was_finished: whether there was nothing left to train.
    """

    train_dir: str
    step: int
    first_step: int
    ending: Ending
    best: Best
    was_finished: bool = False

    @property
    def checkpoint_path(self) -> str:
        """What to evaluate and export: the best checkpoint where one is kept, else the last."""
        best = os.path.join(self.train_dir, FOLDER)
        return best if self.best.step and os.path.isdir(best) else self.train_dir


@dataclasses.dataclass(frozen=True)
class _Job:
    """All that the options say, found and put together; no net is built yet."""

    options: TrainOptions
    distribution: Distribution
    config: RunConfig
    data: TrainingData
    examples: Examples
    bad: list[BadRecord]
    say: Say

    @classmethod
    def of(cls, options: TrainOptions, distribution: Distribution, say: Say) -> "_Job":
        """Raises InputError where data, run and options do not go together."""
        earlier = continuing.earlier_part(options)
        if earlier:
            options = _as_begun(options, earlier)
            if replicas := continuing.other_replicas(earlier, options, distribution.num_workers):
                say(f"Warning: from here on {replicas}")
        dataset = find(options.source, options.source.labels_offset)
        dataset, bad = readable(dataset, options.reading, say)
        if earlier and (changes := continuing.changes(earlier, options, dataset)):
            last = os.path.basename(checkpoints.latest(options.training.train_dir))
            say(f"Unlike the run so far, from {last} on: {changes}")
        if options.net.model_name == AUTO:
            options = auto.choose(options, dataset, distribution, say)
        config = continuing.configuration(options, earlier, dataset)
        config = dataclasses.replace(config, num_workers=distribution.num_workers)
        recipe = training_recipe(options, config, dataset)
        shard = Shard(distribution.worker, distribution.num_workers)
        data, examples = TrainingData.of(dataset, config, recipe, options, shard, say)
        return cls(options, distribution, config, data, examples, bad, say)

    @property
    def net(self) -> NetConfig:
        config = self.config
        return NetConfig(
            config.model_name,
            config.num_classes,
            config.image_size,
            config.channels,
            config.net_options,
        )

    def changed(self, **changes: object) -> "_Job":
        """The same with other options."""
        options = changed(self.options, changes)
        config = dataclasses.replace(self.config, flags=run_config.flags_of(options))
        data = dataclasses.replace(self.data, options=options)
        return dataclasses.replace(self, options=options, config=config, data=data)

    def with_batch_size(self) -> "_Job":
        """The same with the batch size that --batch_size=auto finds."""
        if self.options.training.batch.batch_size != "auto":
            return self
        if self.distribution.num_workers > 1:
            raise InputError(
                "measures one machine, and several workers must have one size: write a number.",
                option="batch_size",
                value="auto",
            )
        count = self.examples.num_examples
        found = batch_size.find(self.options.training, self.net, self.distribution, count, self.say)
        return self.changed(batch_size=found)

    def run(self) -> tuple[Run, "_Job"]:
        """The net with its first weights, and the same with the data as that net takes them."""
        options, say = self.options.training, self.say
        current = Run(options, self.net, self.examples, self.distribution, say)
        to_input = self.data.to_input
        on_device = to_input is not None and current.trainee.is_on_gpu
        if on_device:
            current.step.prepare_images(to_input)
        data = dataclasses.replace(self.data, prepared_on_device=on_device)
        return current, dataclasses.replace(self, data=data)


def train(options: TrainOptions, say: Say = print) -> Trained:
    """Trains a run, from the start or from its last checkpoint.

    Args:
      options: `TrainOptions.of(dataset_dir=…, train_dir=…)` in a notebook.
      say: gets lines for the screen.

    Raises:
      InputError: data, run and options do not go together, or the loss is not finite.
      OSError: something could not be written.
    """
    distribution, folder = _distribution(options, say), options.training.train_dir
    with _together(distribution, folder, say), train_dir(folder, distribution.is_chief):
        job = _Job.of(options, distribution, say).with_batch_size()
        if services := job.options.reading.data_service:
            data_services.check(services)
            # They prepare images for the whole net, not for features that are computed once.
            job = _without_feature_cache(job)
        with reachable.watched(services, lambda gone: _services_lost(gone, folder, say)):
            trained = _run(job, say)
    if trained.ending is Ending.SIGNAL and distribution.num_workers > 1:
        # What started the workers is to know that they are not done, whichever got the signal.
        raise AgainError("a signal has stopped all workers.", remedy=_again(folder))
    return trained


def _run(job: _Job, say: Say) -> Trained:
    current, job = job.run()
    if job.distribution.is_chief:
        keep_zca_file(job.config, job.options.training.train_dir, job.data.dataset)
    _describe(current, job)
    if current.ended and not job.options.training.batch_norm.recalibrate_batch_norm:
        return _finished(current, say)
    return job.data.explained(lambda: _trained(current, job))


def find_learning_rate(options: TrainOptions, say: Say = print) -> float:
    """Tries rising rates and names a good one; see `rate_finder.find`."""
    distribution, folder = _distribution(options, say), options.training.train_dir
    with _together(distribution, folder, say), train_dir(folder, distribution.is_chief):
        job = _without_feature_cache(_Job.of(options, distribution, say).with_batch_size())
        current, job = job.run()
        _describe(current, job, steps=False)
        batches = current.batches(job.data)
        with current.within_memory():
            return job.data.explained(
                lambda: rate_finder.find(current.step, batches, folder, say, distribution.is_chief)
            )


def restore_dry_run(options: TrainOptions, say: Say = print) -> None:
    """Says what a new run would take from --checkpoint_path; changes nothing."""
    job = _Job.of(options, _distribution(options, say), say)
    restoring.dry_run(job.options.training, job.net, say)


def preview(options: TrainOptions, say: Say = print) -> None:
    """Writes a picture of what training sees: a row an image, the original and what is drawn."""
    job = _Job.of(options, _distribution(options, say), say)
    data, path = job.data, options.preview.preview
    examples = data.explained(lambda: batches.first_examples(data.dataset, previews.ROWS))
    sheet = previews.Sheet(
        data.recipe, job.config.image_size, data.dataset.labels, job.config.use_grayscale
    )
    sheet.write(path, examples, options.augmentation, options.training.batch.seed)
    say(f"{path} shows {len(examples)} images as the net will see them in training.")


@contextlib.contextmanager
def train_dir(path: str, writes: bool = True) -> Iterator[None]:
    """Makes the folder and keeps other processes out while the block runs.

    Workers besides the chief, which do not write, share its folder: nothing is done for them.

    After an error, a folder that was made here and holds nothing is removed.

    Raises:
      InputError: another process trains there, or the folder can't be made.
    """
    if not writes:
        yield
        return
    is_new, lock = not os.path.exists(path), os.path.join(path, ".lock")
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"it can't be made: {error.strerror}. Name a folder that can be written.",
            option="train_dir",
            value=path,
        ) from error
    try:
        with files.locked(lock):
            yield
    except BlockingIOError as error:
        raise InputError(
            f"{files.holder(lock)} is training there. Stop it, or choose another --train_dir.",
            option="train_dir",
            value=path,
        ) from error
    except BaseException:
        if is_new and os.path.isdir(path) and os.listdir(path) == [".lock"]:
            os.remove(lock)
            os.rmdir(path)
        raise


def _trained(current: Run, job: _Job) -> Trained:
    """Trains what was put together."""
    options, config = job.options.training, job.config
    validation = None
    if options.validation.eval_every_n_steps:
        validation = ValidationData(job.options, config, job.data.recipe, job.say, job.distribution)
    time_log = _TrainingTime(current, options.train_dir)
    current.cache_features(job.data)
    log = Log()
    if job.distribution.is_chief:
        tracked = _tracked(current, job)
        if tracked:
            config = dataclasses.replace(
                config, mlflow_run_id=tracked.run_id, mlflow_uri=tracked.uri
            )
        run_config.save(options.train_dir, config)
        log = _log(current, dataclasses.replace(job, config=config), tracked, time_log)
    if validation:
        validation.config = config
    ending = current.train(job.data, log, validation)
    if job.distribution.is_chief:
        time_log.save_time()
    if current.best.step:
        folder = os.path.join(options.train_dir, FOLDER)
        job.say(
            f"The best evaluation was at step {current.best.step}, accuracy "
            f"{current.best.accuracy:.4f}: --checkpoint_path={folder}"
        )
    for line in bad_records.summary(job.bad):
        job.say(line)
    return Trained(
        options.train_dir, current.position.step, current.first_step, ending, current.best
    )


def _finished(current: Run, say: Say) -> Trained:
    step, reason = current.first_step, ""
    if current.ended is Ending.EARLY_STOPPING:
        patience = current.options.validation.early_stopping_patience
        reason = (
            f" --early_stopping_patience={patience} ended the run, whose best evaluation was at "
            f"step {current.best.step}; a higher number goes on."
        )
    say(f"Already at step {step}: nothing left to train.{reason}")
    return Trained(current.options.train_dir, step, step, current.ended, current.best, True)


def _as_begun(options: TrainOptions, earlier: RunConfig) -> TrainOptions:
    """The options with the run's own values for what belongs to the run."""
    values = {
        "labels_offset": earlier.labels_offset,
        "moving_average_decay": earlier.moving_average_decay,
    }
    if options.net.model_name == AUTO:
        values["model_name"] = earlier.model_name
        # Perhaps fewer epochs than the options say, where these minutes are too few for all.
        if earlier.flags["max_minutes"] == options.training.length.max_minutes:
            values["num_epochs"] = earlier.flags["num_epochs"]
    if options.training.batch.batch_size == "auto":
        values["batch_size"] = earlier.flags.get("batch_size", "auto")
    return changed(options, values)


def _without_feature_cache(job: _Job) -> _Job:
    options = changed(job.options, {"feature_cache": "off"})
    return dataclasses.replace(job, options=options)


def _distribution(options: TrainOptions, say: Say) -> Distribution:
    machine = options.training.machine
    return distributions.create(
        machine.num_clones,
        machine.clone_on_cpu,
        machine.worker_hosts,
        machine.task,
        machine.worker_wait_secs,
        say,
        continuing.of_all_workers(options),
    )


def _together(distribution: Distribution, folder: str, say: Say) -> AbstractContextManager:
    """Ends this worker where another one is gone."""
    return distribution.together(lambda: _again(folder), lambda error: _end(error, say))


def _again(folder: str) -> str:
    return f"Start all workers again by the same commands: the run {_continuation(folder)}."


def _tracked(current: Run, job: _Job) -> MlflowRun | None:
    """The run in MLflow, a new one or the one that is carried on; None without --tracking."""
    options, config = job.options.training.tracking, job.config
    if options.tracking != "mlflow":
        return None
    folder, dataset = job.options.training.train_dir, job.data.dataset
    place = os.path.dirname(os.path.abspath(dataset.sources[0]))
    tracked = MlflowRun(
        options.mlflow_uri or config.mlflow_uri,
        options.experiment or dataset.name or os.path.basename(place),
        config.mlflow_run_id,
        job.say,
        name=os.path.basename(os.path.abspath(folder)),
    )
    if not config.mlflow_run_id:
        tracked.parameters(hyperparameters.table(job.options, config, dataset, current))
        profile = {"num_examples": dataset.num_examples, "num_classes": dataset.num_classes}
        tracked.dataset(dataset.name or dataset.split, dataset.fingerprint, place, profile)
    tracked.watch_machine()
    names = summaries.HISTORY, summaries.CURVES, run_config.FILE_NAME
    tracked.attachments = [os.path.join(folder, name) for name in names]
    job.say(f"MLflow: run {tracked.run_id} in {tracked.uri}")
    return tracked


class _TrainingTime(Sink):
    """Keeps in run.json how long the training took up to its last checkpoint.

    What a crash loses after that, is trained anew and counted then.
    """

    def __init__(self, current: Run, train_dir: str):
        self._current, self._train_dir = current, train_dir
        self._began, self._first = time.monotonic(), current.position.examples
        self._before: RunConfig | None = None

    def check(self) -> None:
        for what, path in (
            ("the folder", self._train_dir),
            ("its run.json", os.path.join(self._train_dir, run_config.FILE_NAME)),
        ):
            if not os.path.exists(path):
                raise InputError(
                    f"{what} is gone: something has removed it since the start.",
                    option="train_dir",
                    value=self._train_dir,
                    remedy="Put it back: the same command then goes on from the last checkpoint. "
                    "Without it, train into another --train_dir.",
                )

    def save_time(self) -> None:
        self.check()
        config = run_config.load(self._train_dir)
        # What came before this process; the rest of run.json may be changed meanwhile.
        self._before = self._before or config
        images = self._current.position.examples - self._first
        seconds = time.monotonic() - self._began
        trained = run_config.with_time(self._before, seconds, images).trained
        run_config.save(self._train_dir, dataclasses.replace(config, trained=trained))

    def plot(self) -> None:
        last = checkpoints.latest(self._train_dir) or ""
        # A run that fails is plotted, too.
        if last.endswith(f"-{self._current.position.step}"):
            self.save_time()


def _log(current: Run, job: _Job, tracked: MlflowRun | None, time_log: _TrainingTime) -> Log:
    saving = job.options.training.saving
    events = summaries.RunLog(saving.train_dir, current.first_step, job.say)
    events.text("flags", _as_table(job.config.flags))
    table = hyperparameters.table(job.options, job.config, job.data.dataset, current)
    events.hyperparameters(table)
    screen = Screen(job.say, current.last_step, cached=current.trainee.split is not None)
    sinks = [screen, events, time_log, *([tracked] if tracked else [])]
    return Log(sinks, job.say, saving.save_summaries_secs, saving.add_image_summaries)


def _as_table(rows: dict[str, object]) -> str:
    lines = (f"| {name} | {value} |" for name, value in sorted(rows.items()))
    return "\n".join(["| flag | value |", "|---|---|", *lines])


def _services_lost(gone: list[str], folder: str, say: Say) -> None:
    error = AgainError(
        "it does not answer any more.",
        option="data_service",
        value=",".join(gone),
        remedy=f"Start it again, then this command: it {_continuation(folder)}.",
    )
    _end(error, say)


def _continuation(folder: str) -> str:
    """How the same command goes on."""
    last = checkpoints.latest(folder)
    return f"carries on from {os.path.basename(last)}" if last else "begins anew"


def _end(error: AgainError, say: Say) -> None:
    """Ends the process, which TensorFlow keeps waiting."""
    say(Line(f"Error: {error}", "end", exit_code=error.exit_code))
    os._exit(error.exit_code)


def _describe(current: Run, job: _Job, steps: bool = True) -> None:
    """Says what will be trained on what, and where; `steps` also how long."""
    config, dataset, options, say = job.config, job.data.dataset, job.options.training, job.say
    count, trained = current.trainee.parameters()
    size = options.batch.batch_size
    say(
        f"Data: {dataset.num_examples} examples of split {dataset.split}, "
        f"{dataset.num_classes} classes: {shortened(dataset.labels)}"
    )
    for remark in dataset.remarks:
        say(remark)
    say(
        f"Net: {config.model_name}, {_millions(count)} parameters, {_millions(trained)} of them "
        f"trained; images {config.image_size} x {config.image_size} x {config.channels}, "
        f"preprocessing {config.preprocessing_name}"
    )
    say(f"On: {job.distribution.description}, {current.trainee.precision.removeprefix('mixed_')}")
    if (
        options.scopes.trainable_scopes
        and not options.restoring.checkpoint_path
        and not current.first_step
    ):
        say(
            "Warning: --trainable_scopes freezes the other layers, and without --checkpoint_path "
            "these hold random numbers that never learn."
        )
    if size > dataset.num_examples:
        say(
            f"Warning: --batch_size={size} is more than the {dataset.num_examples} examples of the "
            "split: each step sees some of them several times."
        )
    if steps:
        _describe_steps(current, job)


def _describe_steps(current: Run, job: _Job) -> None:
    first, last, say = current.first_step, current.last_step, job.say
    num_examples = job.data.dataset.num_examples
    _warn_of_defaults(current, job)
    _warn_of_pairs(current, job)
    if last is None:
        say("No --max_number_of_steps: training goes on until it is stopped (Ctrl-C).")
    elif first < last:
        epochs = (last - first) * current.images_per_step / num_examples
        say(f"Steps: {first} to {last}, {epochs:.1f} epochs{_duration(current, job, epochs)}")


def _duration(current: Run, job: _Job, epochs: float) -> str:
    """How long these epochs may take on processors; a GPU's speed is seen when it runs."""
    if tf.config.get_visible_devices("GPU"):
        return ""
    # A run that goes on knows its own net and size.
    net = {"model_name": job.config.model_name, "train_image_size": job.config.image_size}
    options = changed(job.options, net)
    work = durations.work_of(options, job.data.dataset.num_examples)
    draws = work.draws if current.trainee.split else 0
    work = dataclasses.replace(work, epochs=epochs, draws=draws)
    seconds = durations.estimated(options, work)
    return f", {speed.duration(seconds)} by a rough estimate"


def _warn_of_defaults(current: Run, job: _Job) -> None:
    """Names TF-Slim's defaults where they hold a run back that its user did not ask for."""
    options, last = job.options.training, current.last_step
    optimizer, schedule = options.optimizer, options.schedule
    if optimizer.optimizer == "adam" and "opt_epsilon" not in optimizer.given:
        job.say(
            "Warning: --optimizer=adam takes TF-Slim's --opt_epsilon=1, with which small gradients "
            "teach little; --opt_epsilon=1e-7 is usual elsewhere."
        )
    polynomial = schedule.learning_rate_decay_type == "polynomial"
    if not polynomial or "num_epochs_per_decay" in schedule.given:
        return
    epoch = learning_rates.epoch_of(
        options.batch, job.examples.num_examples, job.distribution.num_workers
    )
    end = learning_rates.decay_steps(schedule, epoch)
    if last is None or end < last:
        job.say(
            f"Warning: the learning rate is down to --end_learning_rate at step {end}, after "
            f"--num_epochs_per_decay={schedule.num_epochs_per_decay:g} epochs, and stays there."
        )


def _warn_of_pairs(current: Run, job: _Job) -> None:
    """Says what two options do together that their user may want one of."""
    length, loss = job.options.training.length, job.options.training.loss
    if length.max_number_of_steps is not None and length.num_epochs is not None:
        is_steps = current.last_step == length.max_number_of_steps
        steps = f"--max_number_of_steps={length.max_number_of_steps}"
        epochs = f"--num_epochs={length.num_epochs:g}"
        shorter, longer = (steps, epochs) if is_steps else (epochs, steps)
        job.say(f"{shorter} ends the run: with {longer} it would not be shorter.")
    if loss.class_weights == "balanced" and job.options.reading.balanced_sampling:
        job.say(
            "Warning: --balanced_sampling and --class_weights=balanced both make up for rare "
            "classes: together they count twice. Leave one of them out."
        )


def _millions(count: int) -> str:
    """A number of parameters in millions; a few thousand as they are."""
    return f"{count / 1e6:.2f} M" if count >= 100_000 else f"{count:,}"
