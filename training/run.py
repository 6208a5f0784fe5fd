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
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from nets import (
    blocks,
    checkpoints,
    heads,
    nets_factory,
    precision,
    pretrained,
    resizing,
    slim_names,
)
from training import (
    batch_norm,
    distribution,
    feature_cache,
    learning_rates,
    loop,
    losses,
    moving_averages,
    optimizers,
    phases,
    reporting,
    run_config,
    run_state,
    tracking,
    validation,
)
from training.options import Options
from training.step import NotFiniteError, TrainingStep

# How long the end of a run may look at its batch norms.
_COMPARISON_SECS = 30.0
_MOST_ROLLBACKS = 3


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
        self._began = time.monotonic()
        self._num_examples, self._say = num_examples, say
        replicas = where.strategy.num_replicas_in_sync
        self.images_per_step = options.batch_size * options.gradient_accumulation_steps * replicas
        self._phases = phases.plan(
            config.image_size,
            options.trainable_scopes,
            options.progressive_resizing,
            options.unfreeze,
        )
        resumed = checkpoints.latest(options.train_dir)
        keras.utils.set_random_seed(options.seed)
        if options.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.precision = _precision(options.precision)
        self._build_net = functools.partial(
            nets_factory.build,
            config.model_name,
            config.num_classes,
            channels=config.channels,
            dtype=self.precision,
            batch_norm_decay=options.batch_norm_decay,
        )
        with where.strategy.scope():
            self.model = self._build_net(image_size=config.image_size, **_net_options(config))
            self.weights = slim_names.variables(self.model)
            self._optimizer = self._create_optimizer()
            # A checkpoint holds what belongs to the phase that made it.
            made = checkpoints.global_step(checkpoints.read(resumed)) or 0 if resumed else 0
            self._check_scopes()
            self._phase = phases.at(self._phases, max(0, made - 1))
            self._learner = self._sized()
            self._choose_trained()
            self._averages = self._build_averages()
            self._split = self._choose_split()
        # What takes steps: the net, or where features are cached what comes after them.
        self._learner = self._split.head if self._split else self._learner
        self.step = self._build_step()
        self._state = run_state.RunState(
            options.train_dir,
            self.model,
            self.step.step,
            self._slots(),
            options.keep_checkpoints,
            options.keep_checkpoint_every_n_hours,
        )
        last = options.last_step
        if last is not None and (slow := batch_norm.too_slow(self.model, last)):
            self._say(f"Warning: {slow}")
        if options.recalibrate_batch_norm and not batch_norm.moving(self.model):
            raise ValueError(
                f"--recalibrate_batch_norm={options.recalibrate_batch_norm}: there is no batch "
                "norm in this run whose statistics move. Leave the flag out."
            )
        self.examples = self._take_first_weights()
        self.first_step = int(self.step.step.numpy())
        # Without a checkpoint what lies there is of a run that was given up.
        self._best = validation.Best()
        if resumed:
            self._best = validation.Best.load(options.train_dir, self.first_step)

    def train(
        self,
        read: Callable[[int], tf.data.Dataset],
        read_once: Callable[[int], tf.data.Dataset] | None = None,
        data_key: str = "",
        evaluate: Callable[[keras.Model, Callable[[], bool]], Mapping[str, float]] | None = None,
    ) -> int:
        """Trains to the last step, until stopped, or until the time is over.

        Args:
          read: image size → batches of {"image", "label"} from `self.examples` on.
          read_once: number of a draw of the augmentation → batches of the same, each example once;
            for the feature cache.
          data_key: changes when the examples do, or what is drawn of them.
          evaluate: (net, whether to give up) → metrics by name, "Accuracy" among them, on the
            validation split; for `eval_every_n_steps`.

        Returns:
          The step reached.

        Raises:
          ValueError: the loss is not finite, and again after rolling back.
          OSError: a checkpoint could not be written.
        """
        options, where = self.options, self.where
        if self._split:
            read = self._from_features(read_once, data_key)
        os.makedirs(options.train_dir, exist_ok=True)
        log = reporting.Silence()
        if where.is_chief:
            tracked = self._tracked()
            run_config.save(options.train_dir, self.config)
            log = reporting.Log(self, self._say, tracked)
        status = "FAILED"
        try:
            reached, stop = self._train(read, evaluate, log)
            at_the_end = self._is_over(reached) or stop.is_planned
            status = "FINISHED" if at_the_end else "KILLED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            log.close(status)
        if stop.reason:
            self._say(f"Stopped by {stop.reason} at step {reached}; the same command carries on.")
        if self._best.step:
            self._say(
                f"The best evaluation was at step {self._best.step}, accuracy "
                f"{self._best.accuracy:.4f}: --checkpoint_path="
                f"{os.path.join(options.train_dir, validation.FOLDER)}"
            )
        return reached

    def _train(self, read, evaluate, log) -> tuple[int, loop.StopRequest]:
        """Phase by phase; returns the step reached and whether something asked to stop."""
        options, where = self.options, self.where
        minutes = math.inf if options.max_minutes is None else options.max_minutes
        left = 60 * minutes - (time.monotonic() - self._began)
        stop = loop.StopRequest(left)
        again = functools.partial(self._evaluate, evaluate, log, stop)
        pauses = self._pauses(again)
        reached, rollbacks = self.first_step, 0
        with stop, self._profiled(pauses):
            while True:
                self._enter(phases.at(self._phases, reached))
                iterator = self.batches(read)
                if self.step.jit_compile:
                    self._say("Compiling: about a minute, once for each net and batch size …")
                try:
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
                        pauses,
                        until=self._end_of_phase(),
                    )
                except tf.errors.ResourceExhaustedError as error:
                    raise ValueError(self._too_large()) from error
                except NotFiniteError as error:
                    rollbacks += 1
                    reached = self._roll_back(error, rollbacks, log)
                    continue
                if stop.reason or self._is_over(reached):
                    break
                if self._end_of_phase() is None:
                    break
        if self._is_over(reached) or stop.is_planned:
            self._settle_batch_norm(iterator, log, again if options.eval_every_n_steps else None)
            if reached > self.first_step:
                log.histograms(reached)
        return reached, stop

    def _too_large(self) -> str:
        """What to do where memory is short."""
        size = self.options.batch_size
        kept = "The run's files are untouched."
        if size == 1:
            return f"Memory is short of a single image; --train_image_size must be less. {kept}"
        accumulated = 2 * self.options.gradient_accumulation_steps
        return (
            f"--batch_size={size} is more than memory holds. Try --batch_size={size // 2}, with "
            f"--gradient_accumulation_steps={accumulated} for updates from as many images; "
            f"--batch_size=auto finds what fits. {kept}"
        )

    def _is_over(self, step: int) -> bool:
        last = self.options.last_step
        return last is not None and step >= last

    def prepare_on_device(self, finish: Callable | None) -> bool:
        """Has the step do the last part of preprocessing, where that is faster.

        That is on a GPU: images then cross the bus as bytes.

        Args:
          finish: of the recipe, images each by itself; None where there is none.

        Returns:
          Whether it does; batches must then hold what `finish` takes.
        """
        wanted = bool(finish and tf.config.get_visible_devices("GPU") and self._split is None)
        if wanted:
            self.step.prepare_images(finish)
        return wanted

    def batches(self, read: Callable[[int], tf.data.Dataset]):
        """Batches of the present phase, from `self.examples` on."""
        size = self._phases[self._phase].image_size
        return self.where.iterate(lambda: read(size))

    def _end_of_phase(self) -> int | None:
        """The step at which the next phase begins, where the run gets there."""
        if self._phase + 1 == len(self._phases):
            return None
        last, start = self.options.last_step, self._phases[self._phase + 1].start
        return start if last is None or start < last else None

    def _enter(self, index: int) -> None:
        """Changes what the step trains, and on images of which size."""
        now = int(self.step.step.numpy())
        self.examples = self._consumed(now)
        self.first_step = now
        if index == self._phase:
            return
        before, self._phase = self._phases[self._phase], index
        phase = self._phases[index]
        if phase.image_size != before.image_size:
            self._say(f"Step {now}: from here on images of {phase.image_size} pixels.")
        self._learner = self._sized()
        with self.where.strategy.scope():
            self._choose_trained(new=phase.scopes[len(before.scopes) :])
        self._state.slots = self._slots()
        self.step.change(self._learner, self._trained_values(), self._loss_names())

    def _sized(self) -> keras.Model:
        """The net on images of the present phase's size."""
        size = self._phases[self._phase].image_size
        if size == self.config.image_size:
            return self.model
        build = functools.partial(self._build_net, **_net_options(self.config))
        other = resizing.at_size(self.model, build, size)
        if other.output.keys() != self.model.output.keys():
            self._say(f"At {size} pixels the auxiliary head rests: it has weights for other sizes.")
        return other

    def _roll_back(self, error: NotFiniteError, rollbacks: int, log) -> int:
        """Goes on from the last checkpoint with the data after the bad batch; returns its step."""
        last = checkpoints.latest(self.options.train_dir)
        kept = (
            f"The last checkpoint is untouched: {last}." if last else "There is no checkpoint yet."
        )
        if self.options.on_nan == "stop" or not last or rollbacks > _MOST_ROLLBACKS:
            raise ValueError(f"{error} {kept} Lower --learning_rate, or clip gradients.") from error
        consumed = self._consumed(error.step)
        self._enter_for_restoring(last)
        self._state.restore(last, self.images_per_step)
        self.examples, self.first_step = consumed, int(self.step.step.numpy())
        self._best.rewind(self.first_step)
        log.rewind(self.first_step)
        self._say(f"{error} Rolled back to {last}; the data goes on after the bad batch.")
        return self.first_step

    def _enter_for_restoring(self, checkpoint: str) -> None:
        """The phase that made a checkpoint, so that all it holds finds its place."""
        made = checkpoints.global_step(checkpoints.read(checkpoint)) or 0
        self._enter(phases.at(self._phases, max(0, made - 1)))

    def _consumed(self, step: int) -> int:
        return self.examples + (step - self.first_step) * self.images_per_step

    def _tracked(self) -> tracking.MlflowRun | None:
        """The run in MLflow, a new one or the one that is carried on."""
        if self.options.tracking != "mlflow":
            return None
        experiment = os.path.basename(os.path.abspath(self.options.train_dir))
        tracked = tracking.MlflowRun(
            self.options.mlflow_uri or self.config.mlflow_uri,
            self.config.dataset_name or experiment,
            self.config.mlflow_run_id,
            self._say,
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
        there it is the trained variables alone; features from the cache and images of another size
        have no end points.
        """
        if self.where.num_workers > 1:
            return {name: variable.numpy() for name, variable in self.trained.items()}, {}
        variables = {name: variable.numpy() for name, variable in self.weights.items()}
        if self._learner is not self.model:
            return variables, {}
        end_points = keras.Model(self.model.input, dict(nets_factory.end_points(self.model)))
        with blocks.batch_statistics(0.0):
            activations = end_points(self.step.images, training=False)
        return variables, {k: tf.cast(v, tf.float32).numpy() for k, v in activations.items()}

    def _from_features(self, read_once, data_key: str) -> Callable[[int], tf.data.Dataset]:
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
        features = feature_cache.load_or_compute(
            self._split.frozen,
            read_once,
            self._num_examples,
            max(1, draws),
            options.feature_cache_dtype,
            folder,
            key,
            self._say,
        )
        return lambda size: features.batches(options.batch_size, options.seed, self.examples)

    def _save(self, log, now: int) -> None:
        # The history first: rows past the last checkpoint are dropped on resuming, gaps stay.
        try:
            log.save()
        finally:
            path = self._state.save(self._consumed(now), write=self.where.is_chief)
        if self.where.is_chief:
            self._say(f"Saved {path}.")
        log.draw()

    def _choose_trained(self, new: tuple[str, ...] | None = None) -> None:
        """Sets `self.trained`, by slim name; batch norms that aren't among them stand still.

        `new` are the scopes to tell of; at first all.
        """
        scopes = self._phases[self._phase].scopes
        trainable = {n: v for n, v in self.weights.items() if v.trainable}
        # At some sizes a head of the net rests: its scopes are known all the same.
        used = slim_names.variables(self._learner)
        self.trained = {n: v for n, v in trainable.items() if n in used}
        if scopes:
            flag = "--trainable_scopes" if new is None else "--unfreeze"
            caught = slim_names.caught_by_match(scopes, trainable, flag)
            for scope in scopes if new is None else new:
                by = flag if scope in self.options.trainable_scopes else "--unfreeze"
                self._say(f"{by}: {scope} catches {len(caught[scope])} variables.")
            chosen = {name for names in caught.values() for name in names}
            if self.options.frozen_batch_norm == "inference":
                batch_norm.freeze(self.model, chosen)
            self.trained = {n: variable for n, variable in self.trained.items() if n in chosen}
        options, multipliers = self.options, {}
        for scope, factor in options.learning_rate_multipliers.items():
            caught = slim_names.caught_by_match([scope], trainable, "--learning_rate_multipliers")
            multipliers |= dict.fromkeys(self.trained.keys() & set(caught[scope]), factor)
        self._optimizer.build(
            list(self.trained.values()),
            list(self.trained),
            weight_decay=dict.fromkeys(slim_names.regularized(self.model), options.weight_decay),
            multipliers=multipliers,
        )

    def _check_scopes(self) -> None:
        """Raises ValueError at once for a scope that --unfreeze would name at some later step."""
        trainable = [name for name, variable in self.weights.items() if variable.trainable]
        for _, scope in self.options.unfreeze:
            slim_names.caught_by_match([scope], trainable, "--unfreeze")

    def _loss_names(self) -> list[str]:
        return ["main", *(["auxiliary"] if "aux_logits" in self._learner.output else [])]

    def _trained_values(self) -> dict[str, tf.Variable]:
        return {name: variable.value for name, variable in self.trained.items()}

    def _slots(self) -> dict[str, tf.Variable]:
        return self._optimizer.slots() | (self._averages.slots() if self._averages else {})

    def _choose_split(self) -> feature_cache.Split | None:
        """The net in two where its frozen part is to be computed once, as --feature_cache says."""
        options, obstacle = self.options, None
        if options.feature_cache == "off":
            return None
        if not options.trainable_scopes:
            if options.feature_cache == "auto":
                return None
            obstacle = "nothing is frozen; name the late layers to train by --trainable_scopes"
        elif self.where.num_workers > 1:
            obstacle = "several workers can't share one"
        elif len(self._phases) > 1:
            changing = " and ".join(
                f"--{flag}"
                for flag in ("unfreeze", "progressive_resizing")
                if getattr(options, flag)
            )
            obstacle = f"{changing} will change what is computed"
        elif options.balanced_sampling:
            obstacle = "it holds every image once, and --balanced_sampling draws some more often"
        return feature_cache.choose(
            self.model,
            self.trained,
            options.feature_cache,
            obstacle=obstacle,
            drawn=options.augment and not options.feature_cache_augmentations,
            say=self._say,
        )

    def _settle_batch_norm(self, batches, log, evaluate) -> None:
        """At the end of a run: renews the moving statistics if asked to, and measures them.

        `evaluate`, or None, then sees whether the renewed net is the best.
        """
        strategy, count = self.where.strategy, self.options.recalibrate_batch_norm
        if count:
            self._say(f"Recalibrating batch norm over {count} batches …")
            prepare = self.step.prepare
            batch_norm.recalibrate(strategy, self._learner, batches, count, prepare)
            if self._averages:
                with self._averages.in_place():
                    batch_norm.recalibrate(strategy, self._learner, batches, count, prepare)
            now = int(self.step.step.numpy())
            self._save(log, now)
            if evaluate:
                evaluate(now)
        with self._averages.in_place() if self._averages else contextlib.nullcontext():
            found = batch_norm.compare(
                strategy,
                self._learner,
                batches,
                max_seconds=_COMPARISON_SECS,
                agree=self.where.agree,
                prepare=self.step.prepare,
            )
        if found is None:
            return
        self._say(str(found))
        if found.parted:
            remedy = "train longer" if count else "run this command again with "
            remedy += "" if count else "--recalibrate_batch_norm=100, or train longer"
            self._say(
                "Warning: the moving statistics lag behind the weights, and evaluation will be as "
                f"poor: {remedy} or with a lower --batch_norm_decay."
            )

    def _create_optimizer(self) -> optimizers.Optimizer:
        options = self.options
        return optimizers.create(
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
                class_weights=options.class_weights,
            )
            named = {"main": parts.main}
            return named | ({"auxiliary": parts.auxiliary} if "aux_logits" in outputs else {})

        return TrainingStep(
            self.where,
            self._learner,
            self._optimizer,
            self._learning_rate(),
            loss,
            self._trained_values(),
            self._loss_names(),
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

    def _pauses(self, evaluate) -> list[loop.Pause]:
        options, pauses = self.options, []
        if options.eval_every_n_steps:
            every, last = options.eval_every_n_steps, options.last_step
            at = frozenset() if last is None else frozenset({last})
            pauses.append(loop.Pause(evaluate, every=every, at=at))
        return pauses

    @contextlib.contextmanager
    def _profiled(self, pauses: list[loop.Pause]) -> Iterator[None]:
        """Takes the profile of --profile_steps in this block, or of as many as it has of them."""
        options = self.options
        if not options.profile_steps or not self.where.is_chief:
            yield
            return
        first, last = options.profile_steps
        begun = []  # the step before

        def start(step: int) -> None:
            if begun:  # and rolled back since
                return
            tf.profiler.experimental.start(options.train_dir)
            begun.append(step)

        def end(step: int) -> None:
            if not begun:
                return
            earliest = begun.pop() + 1
            tf.profiler.experimental.stop()
            self._say(
                f"Profiled steps {earliest} to {step}: tensorboard --logdir={options.train_dir}"
            )

        if self.first_step >= last:
            self._say(f"--profile_steps={first},{last}: the run is past them; no profile is taken.")
        elif self.first_step >= first - 1:
            start(self.first_step)
        pauses.append(loop.Pause(start, at=frozenset({first - 1})))
        pauses.append(loop.Pause(end, at=frozenset({last})))
        try:
            yield
        finally:
            end(int(self.step.step.numpy()))

    def _evaluate(self, evaluate, log, stop, step: int) -> str | None:
        """Measures the net on the validation split; returns why to stop, if so.

        Nothing is known where somebody waits for the end meanwhile.
        """
        with self._averages.in_place() if self._averages else contextlib.nullcontext():
            metrics = evaluate(self.model, lambda: stop.is_urgent)
        if self.where.agree(stop.is_urgent):
            return None
        log.evaluation(metrics, step)
        # Saving takes all workers; a last bit must not divide them.
        better = self.where.agree(self._best.take(metrics["Accuracy"], step))
        if better:
            folder = os.path.join(self.options.train_dir, validation.FOLDER)
            self._state.save(self._consumed(step), self.where.is_chief, folder)
        if self.where.is_chief:
            if better:
                run_config.save(folder, self.config, companions_of=self.options.train_dir)
            self._best.save(self.options.train_dir)
        if self.options.early_stopping_patience and (
            self._best.since >= self.options.early_stopping_patience
        ):
            return f"--early_stopping_patience={self.options.early_stopping_patience}"
        return None


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
    if asked == "auto":
        asked = "bfloat16" if distribution.bfloat16_is_fast() else "float32"
    return precision.choose(asked)


def _jit_compile(asked: str) -> bool:
    # XLA slows these nets down on processors.
    return asked == "on" or (asked == "auto" and bool(tf.config.get_visible_devices("GPU")))
