"""One run: first weights, the loop, rolling back, and what is done at the end."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from foundation.errors import InputError
from nets import checkpoints
from training import (
    averaging,
    batch_norm,
    feature_cache,
    loop,
    phases,
    profiling,
    restoring,
    run_state,
    settling,
)
from training.contracts import Data, Ending, Examples, Validation
from training.distribution import Distribution
from training.log import Log
from training.options import TrainingOptions
from training.step import NotFiniteError
from training.trainee import Trainee, build_step
from training.validation import FOLDER, Best

_MOST_ROLLBACKS = 3
_AVERAGE_BATCHES = 50  # from which an average of checkpoints gets its batch norm's statistics


class Run:
    """A net in training.

    Attributes:
      trainee: what is trained at present.
      step: makes the updates.
      images_per_step: over all replicas.
      last_step: at which the run ends; None: when it is stopped.
      first_step: at which this process began.
      best: the best evaluation so far.
    """

    def __init__(
        self,
        options: TrainingOptions,
        net: restoring.NetConfig,
        examples: Examples,
        distribution: Distribution,
        say: Callable[[str], None] = print,
    ):
        """Builds the net and takes its first weights; those of an interrupted run come first.

        Args:
          options: how to train; `batch_size` is a number.
          net: what to train.
          examples: what is known of the training split.
          distribution: strategy and place of this process.
          say: gets lines for the screen.

        Raises:
          InputError: something does not fit together; nothing on disk was changed.
        """
        self.options, self.net, self.distribution = options, net, distribution
        self._num_examples, self._say = examples.num_examples, say
        self._began = time.monotonic()
        replicas = distribution.strategy.num_replicas_in_sync
        self.images_per_step = options.batch.images_per_step(distribution.num_workers, replicas)
        self._phases = phases.plan(
            net.image_size,
            options.scopes.trainable_scopes,
            options.batch.progressive_resizing,
            options.scopes.unfreeze,
        )
        resumed = checkpoints.latest(options.train_dir)
        self._from_best = bool(resumed) and self._goes_back()
        if self._from_best:
            resumed = checkpoints.latest(os.path.join(options.train_dir, FOLDER))
        self.last_step = self._end_from(run_state.position_of(resumed, self.images_per_step))
        keras.utils.set_random_seed(options.batch.seed)
        if options.batch.deterministic:
            tf.config.experimental.enable_op_determinism()
        self._phase = self._phase_of(resumed) if resumed else 0
        self.trainee = Trainee(options, net, distribution, self._phases[self._phase], say)
        self.trainee.cut(examples, distribution.num_workers)
        self._features: feature_cache.Features | None = None
        self._data: Data | None = None  # of `train`
        self.step = build_step(self.trainee, options, examples, distribution, self.last_step)
        self._state = run_state.RunState(
            options.train_dir,
            self.trainee.model,
            self.step.step,
            self.trainee.slots(),
            options.saving.keep_checkpoints,
            options.saving.keep_checkpoint_every_n_hours,
        )
        settling.check(self.trainee.model, options.batch_norm, self.last_step, say)
        self._start = self._take_first_weights(resumed)
        self.first_step = self._start.step
        self._check_shared()
        # No checkpoint: ignore what an abandoned run left in the folder.
        self.best = Best.load(options.train_dir, self.first_step) if resumed else Best()

    @property
    def position(self) -> run_state.Position:
        """How far the run is."""
        return self._start.at(int(self.step.step.numpy()), self.images_per_step)

    @property
    def ended(self) -> Ending | None:
        """Why there is nothing left to train, or None."""
        if self.last_step is not None and self.position.step >= self.last_step:
            return Ending.LAST_STEP
        patience = self.options.validation.early_stopping_patience
        return Ending.EARLY_STOPPING if self.best.is_final(patience) else None

    def cache_features(self, data: Data) -> None:
        """Fills the feature cache or finds it filled, where the run has one; raises OSError."""
        if self.trainee.split:
            with self.within_memory():
                self._features = self.trainee.features(data, self._num_examples)

    @contextlib.contextmanager
    def within_memory(self) -> Iterator[None]:
        """Raises InputError, with the batch to try, where memory is short in the block."""
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            raise self.options.batch.too_large() from error

    def train(self, data: Data, log: Log, validation: Validation | None = None) -> Ending:
        """Trains to the last step, until stopped, or until the time is over.

        Args:
          data: the batches; `cache_features` comes before.
          log: gets the numbers, and is closed.
          validation: for --eval_every_n_steps.

        Returns:
          Why it ended.

        Raises:
          InputError: the loss is not finite, also after rolling back.
          OSError: a checkpoint could not be written.
        """
        os.makedirs(self.options.train_dir, exist_ok=True)
        self._data = data
        status = "FAILED"
        try:
            ending = self._train(data, log, validation)
            status = "KILLED" if ending is Ending.SIGNAL else "FINISHED"
            return ending
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            log.close(status)

    def _end_from(self, begin: run_state.Position) -> int | None:
        """The last step of a run that goes on from a position."""
        return self.options.length.last_step(
            self._num_examples, self.images_per_step, begin.step, begin.examples
        )

    def _check_shared(self) -> None:
        """Raises InputError where the workers see different checkpoints."""
        if self.distribution.mean(self.first_step) != self.first_step:
            begins = f"has step {self.first_step}" if self.first_step else "has no checkpoint"
            raise InputError(
                f"for worker {self.distribution.worker} it {begins}, and for another one it is "
                "another folder.",
                option="train_dir",
                value=self.options.train_dir,
                remedy="Name a folder that all workers share, such as one of a network's disk.",
            )

    def _goes_back(self) -> bool:
        """Whether --resume_from_best asks for an earlier checkpoint than the last one."""
        folder = self.options.train_dir
        if not self.options.restoring.resume_from_best:
            return False
        last = checkpoints.global_step(checkpoints.read(checkpoints.latest(folder))) or 0
        best = Best.load(folder, last)
        if not best.step or not checkpoints.latest(os.path.join(folder, FOLDER)):
            raise InputError(
                f"{folder} keeps no best checkpoint: --eval_every_n_steps does.",
                option="resume_from_best",
                remedy="Leave the flag out.",
            )
        return best.step < last and best.step != best.resumed

    def _train(self, data: Data, log: Log, validation: Validation | None) -> Ending:
        left = self.options.length.max_seconds - (time.monotonic() - self._began)
        stop = loop.StopRequest(left, self._say)
        if self._from_best:
            self._save(log)  # as the last checkpoint, from which the next start goes on
            self.best.resumed = self.best.step
            if self.distribution.is_chief:
                self.best.save(self.options.train_dir)
        wanted = self.options.validation.eval_every_n_steps > 0
        evaluate = functools.partial(self._evaluate, validation, log, stop) if wanted else None
        iterator = self._loop(data, log, stop, evaluate)
        ending = self.ended
        if ending is None:
            ending = Ending.SIGNAL if stop.is_urgent else Ending.TIME_LIMIT
        if ending is not Ending.SIGNAL:
            self._settle_batch_norm(iterator, log, evaluate)
            if wanted and self.options.validation.average_checkpoints:
                self._average_checkpoints(iterator, validation, stop)
            if self.position.step > self.first_step:
                log.histograms(self.position.step, self._tensors)
        if stop.reason:
            after = "the run is finished" if self.ended else "the same command carries on"
            self._say(f"Stopped by {stop.reason} at step {self.position.step}; {after}.")
        return ending

    def _loop(self, data: Data, log: Log, stop: loop.StopRequest, evaluate) -> Iterator:
        """Trains phase by phase; returns the batches of the last one."""
        saving = self.options.saving
        steps = saving.profile_steps if self.distribution.is_chief else ()
        profile = profiling.profiled(
            self.options.train_dir, steps, lambda: self.position.step, self._say
        )
        rollbacks, at = 0, frozenset({self.last_step} - {None})
        every = self.options.validation.eval_every_n_steps
        evaluations = [loop.Pause(evaluate, every, at)] if evaluate else []
        with stop, profile as pauses:
            plan = loop.Plan(
                self.images_per_step,
                self.last_step,
                saving.log_every_n_steps,
                saving.save_interval_secs,
                lambda progress: log.progress(progress, self.step.images, self._tensors),
                lambda step: self._save(log),
                [*evaluations, *pauses],
            )
            while True:
                self._enter(phases.at(self._phases, self.position.step))
                iterator = self.batches(data)
                if self.ended:
                    return iterator
                until = phases.end(self._phases, self._phase, self.last_step)
                if self.step.jit_compile:
                    self._say("Compiling: about a minute, once for each net and batch size …")
                try:
                    with self.within_memory():
                        loop.train(self.step, iterator, self.distribution, plan, stop, until=until)
                except NotFiniteError as error:
                    rollbacks += 1
                    self._roll_back(error, rollbacks, log)
                    continue
                if stop.reason or until is None:
                    return iterator

    def batches(self, data: Data) -> Iterator:
        """Batches of the present phase from the present position on, as the strategy has them."""
        size, consumed = self._phases[self._phase].image_size, self.position.examples
        batch, features = self.options.batch, self._features

        def read():
            if features:
                return features.batches(batch.batch_size, batch.seed, consumed)
            return data.batches(size, consumed)

        return self.distribution.iterate(read)

    def _phase_of(self, checkpoint: str) -> int:
        """Index of the phase that made a checkpoint, which holds what belongs to that phase."""
        made = checkpoints.global_step(checkpoints.read(checkpoint)) or 0
        return phases.at(self._phases, max(0, made - 1))

    def _enter(self, index: int) -> None:
        """Changes what the step trains, and on images of which size."""
        if index == self._phase:
            return
        before, phase, self._phase = self._phases[self._phase], self._phases[index], index
        size, now = phase.image_size, self.position.step
        if size != before.image_size:
            self._say(f"Step {now}: from here on images of {size} pixels.")
        self.trainee.enter(phase)
        self._state.slots = self.trainee.slots()
        self.step.change(self.trainee.in_training)

    def _roll_back(self, error: NotFiniteError, rollbacks: int, log: Log) -> None:
        """Goes on from the last checkpoint with the data after the bad batch."""
        last = checkpoints.latest(self.options.train_dir)
        if self.options.saving.on_nan == "stop" or not last or rollbacks > _MOST_ROLLBACKS:
            kept = "There is no checkpoint yet."
            if last:
                kept = f"The last checkpoint is untouched: {last}."
            raise InputError(f"{error} {kept} Lower --learning_rate, or clip gradients.") from error
        consumed = self._start.at(error.step, self.images_per_step).examples
        self._enter(self._phase_of(last))
        restored = self._state.restore(last, self.images_per_step)
        self._start = run_state.Position(restored.step, consumed)
        self.best.rewind(restored.step)
        log.rewind(restored.step)
        self._say(f"{error} Rolled back to {last}; the data goes on after the bad batch.")

    def _check(self, log: Log) -> None:
        """Raises InputError where a checkpoint would be of other examples, or in another folder."""
        log.check()
        if not self._features:  # which were computed of the run's own
            self._data.check_unchanged()

    def _save(self, log: Log) -> None:
        self._check(log)
        # The history first: on resuming, rows after the last checkpoint are dropped, while rows
        # that are missing could not be made up for.
        try:
            log.save()
        finally:
            path = self._state.save(self.position, write=self.distribution.is_chief)
        if self.distribution.is_chief:
            self._say(f"Saved {path}.")
        log.plot()

    def _tensors(self):
        return self.trainee.tensors(self.step.images, everything=self.distribution.num_workers == 1)

    def _evaluate(
        self, validation: Validation, log: Log, stop: loop.StopRequest, step: int
    ) -> str | None:
        """Measures the net on the validation split; returns why to stop, or None to go on.

        An evaluation that a signal interrupts counts for nothing.
        """
        self._check(log)
        with self.trainee.with_averages():
            metrics = validation.metrics(self.trainee.model, lambda: stop.is_urgent)
        if self.distribution.agree(stop.is_urgent):
            return None
        log.evaluation(metrics, step)
        log.save()  # so that who watches the run, such as a search, sees how it goes
        self._keep_if_best(validation, metrics["Accuracy"])
        if self.options.validation.average_checkpoints:
            self._save(log)
        patience = self.options.validation.early_stopping_patience
        return f"--early_stopping_patience={patience}" if self.best.is_final(patience) else None

    def _keep_if_best(self, validation: Validation, accuracy: float) -> bool:
        """Keeps the net as the best checkpoint where no evaluation was as good; whether it did."""
        # Saving takes all workers, whose accuracies may differ in the last bits.
        better = self.distribution.agree(self.best.take(accuracy, self.position.step))
        if better:
            folder = os.path.join(self.options.train_dir, FOLDER)
            if self.distribution.is_chief:
                validation.keep(folder)  # first: a checkpoint there never lacks its run.json
            self._state.save(self.position, self.distribution.is_chief, folder)
        if self.distribution.is_chief:
            self.best.save(self.options.train_dir)
        return better

    def _average_checkpoints(
        self, batches: Iterator, validation: Validation, stop: loop.StopRequest
    ) -> None:
        """Takes the mean of the last checkpoints for the best one where validation says so."""
        count = self.options.validation.average_checkpoints
        paths = averaging.newest(self.options.train_dir, count)
        if len(paths) < 2:
            return self._say(f"--average_checkpoints={count}: there is one checkpoint only.")
        before = self.best.accuracy
        with averaging.averaged(self.trainee.weights, paths):
            if batch_norm.moving(self.trainee.model):
                settling.recalibrate(
                    self.trainee,
                    self.distribution,
                    batches,
                    _AVERAGE_BATCHES,
                    self.step.prepare,
                )
            found = validation.metrics(self.trainee.model, lambda: stop.is_urgent)["Accuracy"]
            if self.distribution.agree(stop.is_urgent):
                return
            taken = self._keep_if_best(validation, found)
        verdict = "it is kept as the best" if taken else "it is not taken"
        self._say(
            f"The average of {len(paths)} checkpoints has accuracy {found:.4f}, the best one so "
            f"far {before:.4f}: {verdict}."
        )

    def _settle_batch_norm(self, batches: Iterator, log: Log, evaluate) -> None:
        """Renews the moving statistics if asked to, and measures them."""
        parts = self.trainee, self.distribution, batches
        if count := self.options.batch_norm.recalibrate_batch_norm:
            self._say(f"Recalibrating batch norm over {count} batches …")
            settling.recalibrate(*parts, count, self.step.prepare)
            self._save(log)
            if evaluate:  # the renewed net may be the best
                evaluate(self.position.step)
        settling.measure(*parts, bool(count), self.step.prepare, self._say)

    def _take_first_weights(self, resumed: str | None) -> run_state.Position:
        given = self.options.restoring.checkpoint_path
        if resumed:
            position = self._state.restore(resumed, self.images_per_step)
            self._say(f"Resuming from {resumed}.")
            if given:
                folder = self.options.train_dir
                self._say(f"--checkpoint_path is ignored: {folder} has a run of its own.")
            return position
        if given:
            restoring.take(self.trainee.model, self.options, self.net, self._say)
            self.trainee.follow()
        return run_state.Position()
