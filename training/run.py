"""One run: net, optimizer, schedule and first weights put together, then trained.

The scripts give plain values and the batches; see the modules beside this one for what each part
does.
"""

import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from nets import blocks, checkpoints, heads, nets_factory, pretrained, slim_names
from training import (
    batch_norm,
    distribution,
    feature_cache,
    learning_rates,
    loop,
    losses,
    moving_averages,
    optimizers,
    run_config,
    run_state,
    summaries,
    tracking,
)
from training.step import TrainingStep

# How long the end of a run may look at its batch norms.
_COMPARISON_SECS = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train; fields are named, and explained, as the flags of train_image_classifier.py.

    `last_step` None trains until stopped. None in `opt_epsilon` and `adam_beta2` means what suits
    the optimizer.
    """

    train_dir: str
    batch_size: int = 32
    last_step: int | None = None
    max_minutes: float | None = None
    seed: int = 0
    deterministic: bool = False
    profile_steps: tuple[int, int] | None = None
    log_every_n_steps: int = 10
    save_interval_secs: int = 600
    save_summaries_secs: int = 600
    keep_checkpoints: int = 5
    checkpoint_path: str | None = None
    checkpoint_exclude_scopes: tuple[str, ...] = ()
    cache_dir: str | None = None
    trainable_scopes: tuple[str, ...] = ()
    ignore_missing_vars: bool = False
    frozen_batch_norm: str = "inference"
    batch_norm_decay: float | None = None
    recalibrate_batch_norm: int = 0
    augment: bool = True
    feature_cache: str = "off"
    feature_cache_augmentations: int = 0
    feature_cache_storage: str = "disk"
    feature_cache_dtype: str = "float32"
    optimizer: str = "rmsprop"
    weight_decay: float = 4e-5
    adadelta_rho: float = 0.95
    adagrad_initial_accumulator_value: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float | None = None
    opt_epsilon: float | None = None
    ftrl_learning_rate_power: float = -0.5
    ftrl_initial_accumulator_value: float = 0.1
    ftrl_l1: float = 0.0
    ftrl_l2: float = 0.0
    momentum: float = 0.9
    rmsprop_momentum: float = 0.9
    rmsprop_decay: float = 0.9
    clip_gradient_norm: float | None = None
    clip_gradient_value: float | None = None
    gradient_accumulation_steps: int = 1
    learning_rate_multipliers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    learning_rate: float = 0.01
    end_learning_rate: float = 0.0001
    learning_rate_decay_type: str = "exponential"
    learning_rate_decay_factor: float = 0.94
    num_epochs_per_decay: float = 2.0
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    precision: str = "auto"
    jit_compile: str = "auto"
    tracking: str = "none"
    mlflow_uri: str | None = None


class Run:
    """A net in training."""

    def __init__(
        self,
        options: Options,
        config: run_config.RunConfig,
        where: distribution.Distribution,
        num_examples: int,
        say: Callable[[str], None] = print,
    ):
        """Builds the net and takes its first weights: an interrupted run's wins over all others.

        Args:
          options: how to train.
          config: what; run.json.
          where: strategy and place of this process.
          num_examples: of the training split, by which epochs are counted.
          say: gets lines for the screen.

        Raises:
          ValueError: something does not fit together; nothing on disk was changed.
        """
        self.options, self.config, self.where = options, config, where
        self._num_examples, self._say = num_examples, say
        replicas = where.strategy.num_replicas_in_sync
        self.images_per_step = options.batch_size * options.gradient_accumulation_steps * replicas
        keras.utils.set_random_seed(options.seed)
        if options.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.precision = _precision(options.precision)
        with where.strategy.scope():
            self.model = nets_factory.build(
                config.model_name,
                config.num_classes,
                config.image_size,
                config.channels,
                dtype=self.precision,
                batch_norm_decay=options.batch_norm_decay,
                **_net_options(config),
            )
            self.weights = slim_names.variables(self.model)
            self.trained = self._choose_trained()
            self._optimizer = self._build_optimizer()
            self._averages = self._build_averages()
            self._split = self._choose_split()
        # What takes steps: the net, or where features are cached what comes after them.
        self._learner = self._split.head if self._split else self.model
        self.step = self._build_step()
        slots = self._optimizer.slots() | (self._averages.slots() if self._averages else {})
        self._state = run_state.RunState(
            options.train_dir, self.model, self.step.step, slots, options.keep_checkpoints
        )
        self._warn_of_slow_statistics()
        if options.recalibrate_batch_norm and not batch_norm.moving(self.model):
            raise ValueError(
                f"--recalibrate_batch_norm={options.recalibrate_batch_norm}: there is no batch "
                "norm in this run whose statistics move. Leave the flag out."
            )
        self.examples = self._take_first_weights()
        self.first_step = int(self.step.step.numpy())

    def train(
        self,
        read: Callable[..., tf.data.Dataset],
        read_once: Callable[[int], tf.data.Dataset] | None = None,
        data_key: str = "",
    ) -> int:
        """Trains to the last step, until stopped, or until the time is over.

        Args:
          read: makes batches of {"image", "label"} from `self.examples` on; may be given a
            tf.distribute.InputContext.
          read_once: number of a draw of the augmentation → batches of the same, each example once;
            for the feature cache.
          data_key: changes when the examples do.

        Returns:
          The step reached.

        Raises:
          ValueError: the loss is not finite.
          OSError: a checkpoint could not be written.
        """
        options, where = self.options, self.where
        if self._split:
            read = self._from_features(read_once, data_key)
        if where.strategy.num_replicas_in_sync > 1:
            iterator = iter(where.strategy.distribute_datasets_from_function(read))
        else:
            iterator = iter(read())
        os.makedirs(options.train_dir, exist_ok=True)
        if where.is_chief:
            tracked = self._tracked()
            run_config.save(options.train_dir, self.config)
            log = _Log(self, self._say, tracked)
        else:
            log = _Silence()
        minutes = math.inf if options.max_minutes is None else options.max_minutes
        with loop.StopRequest(60 * minutes) as stop:
            reached = loop.train(
                self.step,
                iterator,
                where,
                self.images_per_step,
                options.last_step,
                options.log_every_n_steps,
                options.save_interval_secs,
                log.progress,
                functools.partial(self._save, log),
                stop,
                self._pauses(),
            )
        if reached == options.last_step or stop.is_planned:
            self._settle_batch_norm(iterator, log)
            if reached > self.first_step:
                log.histograms(reached)
        log.close(finished=reached == options.last_step)
        if stop.reason:
            self._say(f"Stopped by {stop.reason} at step {reached}; the same command carries on.")
        return reached

    def _tracked(self) -> tracking.MlflowRun | None:
        """The run in MLflow, a new one or the one that is carried on."""
        if self.options.tracking != "mlflow":
            return None
        experiment = os.path.basename(os.path.abspath(self.options.train_dir))
        tracked = tracking.MlflowRun(
            self.options.mlflow_uri or self.config.mlflow_uri,
            self.config.dataset_name or experiment,
            self.config.mlflow_run_id,
        )
        if not self.config.mlflow_run_id:
            tracked.parameters(self.hyperparameters())
        self.config = dataclasses.replace(
            self.config, mlflow_run_id=tracked.run_id, mlflow_uri=tracked.uri
        )
        self._say(f"MLflow: run {tracked.run_id} in {tracked.uri}")
        return tracked

    def hyperparameters(self) -> dict[str, object]:
        """What distinguishes this run from others."""
        config = self.config
        about = {"model_name": config.model_name, "train_image_size": config.image_size}
        about |= {"preprocessing_name": config.preprocessing_name}
        about |= {"moving_average_decay": config.moving_average_decay}
        return about | dataclasses.asdict(self.options)

    def tensors(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Variables by slim name, and end points by name for a few images of the last batch.

        Several workers would have to ask for the moving statistics and the images together, so
        there it is the trained variables alone; features from the cache have no end points.
        """
        if self.where.num_workers > 1:
            return {name: variable.numpy() for name, variable in self.trained.items()}, {}
        variables = {name: variable.numpy() for name, variable in self.weights.items()}
        if self._split:
            return variables, {}
        end_points = keras.Model(self.model.input, dict(nets_factory.end_points(self.model)))
        with blocks.batch_statistics(0.0):
            activations = end_points(self.step.images, training=False)
        return variables, {k: tf.cast(v, tf.float32).numpy() for k, v in activations.items()}

    def _choose_split(self) -> feature_cache.Split | None:
        """The net in two where its frozen part is to be computed once, as --feature_cache says."""
        options = self.options
        wish = options.feature_cache
        if wish == "off" or not options.trainable_scopes:
            if wish == "on":
                raise ValueError(
                    "--feature_cache=on: nothing is frozen. Name the late layers that are trained "
                    "by --trainable_scopes, or leave the flag out."
                )
            return None
        found = None
        try:
            found = feature_cache.split(self.model, self.trained)
            problem = found.drawback()
        except ValueError as error:
            problem = str(error)
        draws = options.feature_cache_augmentations
        if self.where.num_workers > 1:
            found, problem = None, "several workers can't share one"
        elif not problem and options.augment and not draws:
            # Not the same training: so only on request.
            found = None if wish == "auto" else found
            problem = (
                "each image is augmented anew in each epoch. --augment=false, or "
                "--feature_cache_augmentations=4 with so many draws, trains many times faster"
            )
            if wish == "on":
                raise ValueError(f"--feature_cache=on: {problem}.")
        if found is None or (problem and wish == "auto"):
            if wish == "on":
                raise ValueError(f"--feature_cache=on: {problem}. Leave the flag out.")
            self._say(f"Feature cache: off, since {problem}.")
            return None
        size = found.frozen.count_params() / 1e6
        self._say(f"Feature cache: on; {size:.2f} M parameters are computed once an image.")
        return found

    def _from_features(self, read_once, data_key: str) -> Callable[..., tf.data.Dataset]:
        """Fills the feature cache, or finds it filled; `read` from it."""
        options, config = self.options, self.config
        folder = os.path.join(options.train_dir, "feature_cache")
        folder = folder if options.feature_cache_storage == "disk" else None
        draws = options.feature_cache_augmentations
        about = {
            "net": (config.model_name, config.image_size, config.channels, config.net_options),
            "features": [tensor.shape for tensor in self._split.frozen.outputs],
            "precision": (self.precision, options.feature_cache_dtype),
            "preprocessing": (config.preprocessing_name, config.preprocessing_options),
            "draws": (draws, options.seed if draws else None),
            "data": data_key,
        }
        key = feature_cache.key(self._split.frozen, about)
        features = feature_cache.load(folder, key) if folder else None
        if features is not None:
            self._say(f"Feature cache: reused from {folder}.")
        else:
            if folder and os.path.exists(folder):
                self._say(f"Feature cache: {folder} is of other weights, data or flags: anew.")
            features = feature_cache.compute(
                self._split.frozen,
                read_once,
                self._num_examples,
                max(1, draws),
                options.feature_cache_dtype,
                folder,
                key,
                self._say,
            )
        return lambda context=None: features.batches(
            options.batch_size, options.seed, self.examples
        )

    def _save(self, log, now: int) -> None:
        consumed = self.examples + (now - self.first_step) * self.images_per_step
        # The history first: rows past the last checkpoint are dropped on resuming, gaps stay.
        log.save()
        path = self._state.save(consumed, write=self.where.is_chief)
        if self.where.is_chief:
            self._say(f"Saved {path}.")

    def _choose_trained(self) -> dict[str, keras.Variable]:
        """The variables to train by slim name; batch norms that aren't among them stand still."""
        trainable = {name: v for name, v in self.weights.items() if v.trainable}
        if not self.options.trainable_scopes:
            return trainable
        caught = slim_names.caught_by_match(self.options.trainable_scopes, trainable)
        for scope, names in caught.items():
            self._say(f"--trainable_scopes: {scope} catches {len(names)} variables.")
        chosen = {name for names in caught.values() for name in names}
        if self.options.frozen_batch_norm == "inference":
            for layer in self.model.layers:
                own = {slim_names.slim_name(variable) for variable in layer.trainable_weights}
                if isinstance(layer, blocks.BatchNorm) and not own & chosen:
                    layer.frozen = True
        return {name: variable for name, variable in trainable.items() if name in chosen}

    def _warn_of_slow_statistics(self) -> None:
        """The usual cause of "good in training, poor in evaluation": statistics that lag behind."""
        steps = self.options.last_step
        if steps is None or (slow := batch_norm.too_slow(self.model, steps)) is None:
            return
        self._say(
            f"Warning: batch norm averages its statistics with decay {slow.decay:g}, which takes "
            f"about {slow.steps} steps; this run has {steps}, so its "
            "evaluation may be far worse than its training. Add "
            f"--batch_norm_decay={slow.fitting:g}."
        )

    def _settle_batch_norm(self, batches, log) -> None:
        """At the end of a run: renews the moving statistics if asked to, and measures them."""
        strategy, count = self.where.strategy, self.options.recalibrate_batch_norm
        if count:
            self._say(f"Recalibrating batch norm over {count} batches …")
            batch_norm.recalibrate(strategy, self._learner, batches, count)
            if self._averages:
                with self._averages.in_place():
                    batch_norm.recalibrate(strategy, self._learner, batches, count)
            self._save(log, int(self.step.step.numpy()))
        with self._averages.in_place() if self._averages else contextlib.nullcontext():
            found = batch_norm.compare(
                strategy, self._learner, batches, max_seconds=_COMPARISON_SECS
            )
        if found is None:
            return
        self._say(
            f"Batch norm: of the same {found.num_examples} training images {found.training:.1%} "
            f"are right by their batches' statistics, {found.evaluation:.1%} by the moving ones "
            "that evaluation uses."
        )
        if found.parted:
            remedy = "train longer" if count else "run this command again with "
            remedy += "" if count else "--recalibrate_batch_norm=100, or train longer"
            self._say(
                "Warning: the moving statistics lag behind the weights, and evaluation will be as "
                f"poor: {remedy} or with a lower --batch_norm_decay."
            )

    def _build_optimizer(self) -> optimizers.Optimizer:
        options = self.options
        optimizer = optimizers.create(
            options.optimizer,
            adadelta_rho=options.adadelta_rho,
            adagrad_initial_accumulator_value=options.adagrad_initial_accumulator_value,
            adam_beta1=options.adam_beta1,
            adam_beta2=options.adam_beta2,
            opt_epsilon=options.opt_epsilon,
            ftrl_learning_rate_power=options.ftrl_learning_rate_power,
            ftrl_initial_accumulator_value=options.ftrl_initial_accumulator_value,
            ftrl_l1=options.ftrl_l1,
            ftrl_l2=options.ftrl_l2,
            momentum=options.momentum,
            rmsprop_momentum=options.rmsprop_momentum,
            rmsprop_decay=options.rmsprop_decay,
            clip_norm=options.clip_gradient_norm,
            clip_value=options.clip_gradient_value,
        )
        flag = "--learning_rate_multipliers"
        multipliers = {}
        for scope, factor in options.learning_rate_multipliers.items():
            caught = slim_names.caught_by_match([scope], self.trained, flag)
            multipliers |= dict.fromkeys(caught[scope], factor)
        optimizer.build(
            list(self.trained.values()),
            list(self.trained),
            weight_decay=dict.fromkeys(slim_names.regularized(self.model), options.weight_decay),
            multipliers=multipliers,
        )
        return optimizer

    def _build_averages(self) -> moving_averages.MovingAverages | None:
        decay = self.config.moving_average_decay
        if decay is None:
            return None
        # All weights, moving statistics included, as TF-Slim averages its model variables.
        return moving_averages.MovingAverages(
            decay, {name: variable.value for name, variable in self.weights.items()}
        )

    def _build_step(self) -> TrainingStep:
        options = self.options
        decayed = [self.weights[name].value for name in slim_names.regularized(self.model)]

        def loss(labels, outputs):
            parts = losses.classification(
                labels,
                outputs["logits"],
                outputs.get("aux_logits"),
                label_smoothing=options.label_smoothing,
                focal_gamma=options.focal_gamma,
            )
            named = {"main": parts.main}
            return named | ({"auxiliary": parts.auxiliary} if "aux_logits" in outputs else {})

        return TrainingStep(
            self.where,
            self._learner,
            self._optimizer,
            self._learning_rate(),
            loss,
            [variable.value for variable in self.trained.values()],
            penalty=lambda: losses.l2(decayed, options.weight_decay),
            averages=self._averages,
            accumulation=options.gradient_accumulation_steps,
            seed=options.seed,
            jit_compile=_jit_compile(options.jit_compile),
            timed=not options.deterministic,
        )

    def _learning_rate(self) -> learning_rates.Schedule:
        options = self.options
        # TF-Slim counts an epoch by the batches that go into an update, and by one clone's.
        together = options.gradient_accumulation_steps * self.where.num_workers
        sizes = self._num_examples, options.batch_size
        epoch = learning_rates.steps_per_epoch(*sizes, together)
        return learning_rates.create(
            options.learning_rate_decay_type,
            options.learning_rate,
            decay_steps=learning_rates.decay_steps(*sizes, options.num_epochs_per_decay, together),
            decay_factor=options.learning_rate_decay_factor,
            end_learning_rate=options.end_learning_rate,
            total_steps=options.last_step,
            warmup_steps=options.warmup_steps or options.warmup_epochs * epoch,
        )

    def _take_first_weights(self) -> int:
        """Resumes, or restores --checkpoint_path; returns how many examples were consumed."""
        options = self.options
        if own := checkpoints.latest(options.train_dir):
            examples = self._state.restore(own, self.images_per_step)
            self._say(f"Resuming from {own}.")
            if options.checkpoint_path:
                self._say(
                    f"--checkpoint_path is ignored: {options.train_dir} has a run of its own."
                )
            return examples
        if options.checkpoint_path:
            report = checkpoints.restore(
                self.model,
                *_restored_from(options, self.config, self._say),
                ignore_missing=options.ignore_missing_vars,
            )
            self._say(str(report))
            if self._averages:
                self._averages.follow()
        return 0

    def _pauses(self) -> list[loop.Pause]:
        if not (self.options.profile_steps and self.where.is_chief):
            return []
        first, last = self.options.profile_steps
        train_dir = self.options.train_dir

        def start(step: int) -> None:
            tf.profiler.experimental.start(train_dir)

        def end(step: int) -> None:
            tf.profiler.experimental.stop()
            self._say(f"Profiled steps {first} to {last}: tensorboard --logdir={train_dir}")

        return [
            loop.Pause(start, at=frozenset({first - 1})),
            loop.Pause(end, at=frozenset({last})),
        ]


def restore_dry_run(
    options: Options, config: run_config.RunConfig, say: Callable[[str], None] = print
) -> None:
    """Says what a new run would take from --checkpoint_path; changes nothing.

    Raises:
      ValueError: it does not fit; the message has the remedy.
    """
    model = nets_factory.build(
        config.model_name,
        config.num_classes,
        config.image_size,
        config.channels,
        **_net_options(config),
    )
    report = checkpoints.plan(model, *_restored_from(options, config, say))
    say(str(report))
    if problem := report.problem(options.ignore_missing_vars):
        raise ValueError(problem)


def last_step(
    max_number_of_steps: int | None,
    num_epochs: float | None,
    num_examples: int,
    images_per_step: int,
) -> int | None:
    """Where a run ends: by its steps or its epochs, whichever comes first; None for neither."""
    ends = [] if max_number_of_steps is None else [max_number_of_steps]
    if num_epochs is not None:
        ends.append(max(1, math.ceil(num_epochs * num_examples / images_per_step)))
    return min(ends, default=None)


class _Log:
    """Sends what happens to the screen, to TensorBoard, to history.csv and to MLflow."""

    def __init__(
        self, run: Run, say: Callable[[str], None], tracked: tracking.MlflowRun | None = None
    ):
        self._run, self._say, self._tracked = run, say, tracked
        self._files = summaries.RunLog(run.options.train_dir, run.first_step)
        self._files.text("flags", _as_table(run.config.flags.items()))
        self._files.hyperparameters(run.hyperparameters())
        self._shown_at, self._spread_at = -math.inf, time.monotonic()

    def progress(self, progress: loop.Progress) -> None:
        self._files.progress(progress)
        if self._tracked:
            self._tracked.progress(progress)
        self._say(_progress_line(progress, self._run.options.last_step))
        interval = self._run.options.save_summaries_secs
        images = self._run.step.images
        if tf.is_tensor(images) and 0 < interval <= time.monotonic() - self._shown_at:
            self._files.images(images.numpy(), progress.step)
            self._shown_at = time.monotonic()
        if 0 < interval <= time.monotonic() - self._spread_at:
            self.histograms(progress.step)

    def histograms(self, step: int) -> None:
        """TF-Slim's summaries of variables and end points; they cost seconds, so not at once."""
        if self._run.options.save_summaries_secs:
            self._files.histograms(*self._run.tensors(), step)
            self._spread_at = time.monotonic()

    def save(self) -> None:
        self._files.save()

    def close(self, finished: bool) -> None:
        self._files.close()
        if self._tracked:
            for name in (summaries.HISTORY, summaries.CURVES, run_config.FILE_NAME):
                path = os.path.join(self._run.options.train_dir, name)
                if os.path.exists(path):
                    self._tracked.file(path)
            self._tracked.close(finished)


class _Silence:
    """What workers besides the chief log."""

    def progress(self, progress: loop.Progress) -> None:
        pass

    def histograms(self, step: int) -> None:
        pass

    def save(self) -> None:
        pass

    def close(self, finished: bool) -> None:
        pass


def _restored_from(options: Options, config: run_config.RunConfig, say: Callable[[str], None]):
    """The open --checkpoint_path and the scopes that are not taken from it."""
    source = pretrained.read(
        config.model_name, options.checkpoint_path, config.num_classes, options.cache_dir, say
    )
    exclude = options.checkpoint_exclude_scopes
    if config.net_options.get("head"):
        exclude += (heads.root(nets_factory.get(config.model_name).scope),)
    return source, exclude


def _net_options(config: run_config.RunConfig) -> dict[str, object]:
    # NASNet and PNASNet have their auxiliary head in training only: run.json leaves it out.
    trains_with = {"create_aux_logits": True}
    known = nets_factory.get(config.model_name).options
    return {k: v for k, v in trains_with.items() if k in known} | config.net_options


def _precision(asked: str) -> str:
    if asked == "bfloat16" or (asked == "auto" and distribution.bfloat16_is_fast()):
        return "mixed_bfloat16"
    return "float32"


def _jit_compile(asked: str) -> bool:
    # XLA slows these nets down on processors.
    return asked == "on" or (asked == "auto" and bool(tf.config.get_visible_devices("GPU")))


def _progress_line(progress: loop.Progress, last: int | None) -> str:
    parts = [f"step {progress.step}" + (f"/{last}" if last else "")]
    parts.append(f"loss {progress.losses['loss']:.4f}")
    parts.append(f"learning rate {progress.learning_rate:.3g}")
    if progress.compiled:
        parts.append(f"(took {progress.seconds_per_step:.1f} s: the first compiles the others)")
        return "  ".join(parts)
    parts.append(f"{progress.images_per_second:.1f} images/s")
    if progress.input_share >= 0.05:
        parts.append(f"waiting {progress.input_share:.0%} of the time for images")
    if progress.seconds_left:
        minutes, seconds = divmod(math.ceil(progress.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
    return "  ".join(parts)


def _as_table(rows: Iterable[tuple[str, object]]) -> str:
    lines = (f"| {name} | {value} |" for name, value in sorted(rows))
    return "\n".join(["| flag | value |", "|---|---|", *lines])
