"""The training loop: steps under a tf.distribute strategy; it knows no file format and no flag."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

import tensorflow as tf

from nets import blocks
from training.distribution import Distribution

# A call of several steps answers to Ctrl-C only when it returns.
_LONGEST_CALL_SECS = 5.0


def is_due(step: int, every: int, last_step: int | None) -> bool:
    """Whether an action repeated each `every` steps runs after `step`; 0 turns it off."""
    return every > 0 and (step % every == 0 or step == last_step)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What happened since the previous log line.

    `losses` holds means over these steps by name, "loss" the sum that is minimised; `input_share`
    is the part of the time, 0 to 1, that steps waited for their images.
    """

    step: int
    losses: dict[str, float]
    learning_rate: float
    images_per_second: float
    input_share: float
    seconds_per_step: float
    seconds_left: float | None


class TrainingStep:
    """One optimizer update, compiled; several of them a call."""

    def __init__(
        self,
        distribution: Distribution,
        model,
        optimizer,
        learning_rate: Callable[[tf.Tensor], tf.Tensor],
        loss: Callable[[tf.Tensor, dict[str, tf.Tensor]], dict[str, tf.Tensor]],
        trained: list[tf.Variable],
        penalty: Callable[[], tf.Tensor] | None = None,
        averages=None,
        seed: int = 0,
        jit_compile: bool = False,
    ):
        """Puts the parts together; nothing runs yet.

        Args:
          distribution: strategy under whose scope everything here was created.
          model: net whose outputs are a dict with "logits".
          optimizer: of training.optimizers, built on `trained`.
          learning_rate: int64 step → float32 rate.
          loss: (labels int32 [N], outputs) → float32 scalars by name, means over the N examples
            of a replica; their sum is minimised.
          trained: the variables to train.
          penalty: what the optimizer's weight decay stands for, as a loss to report; it is read
            once a call, since weights move little within it.
          averages: a MovingAverages, updated after each step.
          seed: of dropout, together with the step.
          jit_compile: compile the forward and backward pass with XLA.
        """
        self._distribution = distribution
        self._model, self._optimizer, self._averages = model, optimizer, averages
        self._learning_rate, self._trained = learning_rate, trained
        self._loss, self._penalty, self._seed = loss, penalty, seed
        self._several = distribution.strategy.num_replicas_in_sync > 1
        with distribution.strategy.scope():
            self.step = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        # Autograph would rewrite the whole net's Python before tracing it.
        self._gradients = tf.function(
            self._compute_gradients, autograph=False, jit_compile=jit_compile
        )
        self._call = tf.function(self._several_steps, autograph=False)

    def run(self, iterator: Iterator, count: int) -> dict[str, float]:
        """Takes `count` batches and makes as many updates.

        Returns:
          Means over the updates: every loss by name and "loss", their sum; and
          "learning_rate" of the last update, "input_seconds" waited in all.
        """
        results = self._call(iterator, tf.constant(count, tf.int64))
        return {name: float(value) for name, value in results.items()}

    def _compute_gradients(self, images, labels, seed):
        with blocks.random_seed(seed), tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in self._trained:
                tape.watch(variable)
            losses = self._loss(labels, self._model(images, training=True))
            total = tf.add_n(list(losses.values()))
        return tape.gradient(total, self._trained), losses

    def _replica_step(self, batch):
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        replicas = self._distribution.strategy.num_replicas_in_sync
        seed = tf.stack([tf.constant(self._seed, tf.int64), self.step * replicas + replica])
        gradients, losses = self._gradients(batch["image"], batch["label"], seed)
        if self._several:
            mean = tf.distribute.ReduceOp.MEAN
            gradients = context.all_reduce(mean, gradients)
            losses = context.all_reduce(mean, losses)
        rate = self._learning_rate(self.step)
        self._optimizer.apply(gradients, rate)
        self.step.assign_add(1)
        if self._averages is not None:
            self._averages.update(self.step)
        return losses, rate

    def _several_steps(self, iterator, count):
        strategy = self._distribution.strategy

        def one_step():
            began = tf.timestamp()
            with tf.control_dependencies([began]):
                batch = next(iterator)
            arrived = [
                tensor
                for local in strategy.experimental_local_results(batch)
                for tensor in tf.nest.flatten(local)
            ]
            with tf.control_dependencies(arrived):
                waited = tf.timestamp() - began
            if self._several:
                outcome = strategy.run(self._replica_step, args=(batch,))
                losses, rate = tf.nest.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0], outcome
                )
            else:
                losses, rate = self._replica_step(batch)
            return losses, rate, waited

        def next_step(done, sums, rate, waited):
            losses, rate, longer = one_step()
            sums = {name: sums[name] + losses[name] for name in sums}
            return done + 1, sums, rate, waited + longer

        # The first step stands before the loop: it gives the loop its structure.
        losses, rate, waited = one_step()
        one = tf.ones([], tf.int64)
        _, losses, rate, waited = tf.while_loop(
            lambda done, *_: done < count, next_step, (one, losses, rate, waited)
        )
        means = {name: value / tf.cast(count, tf.float32) for name, value in losses.items()}
        if self._penalty is not None:
            means["regularization"] = self._penalty()
        return means | {
            "loss": tf.add_n(list(means.values())),
            "learning_rate": rate,
            "input_seconds": waited,
        }


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a wish to stop; a second one stops at once."""

    def __init__(self):
        self.name: str | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        for again in self._previous:
            signal.signal(again, signal.SIG_DFL)


def train(
    step: TrainingStep,
    iterator: Iterator,
    distribution: Distribution,
    images_per_step: int,
    last_step: int | None,
    log_every_n_steps: int,
    save_interval_secs: float,
    log: Callable[[Progress], None],
    save: Callable[[int], None],
    stop: StopRequest,
) -> int:
    """Runs until `last_step` or until asked to stop.

    Args:
      step: where training stands and how it goes on.
      iterator: of batches; under several replicas, of the strategy.
      distribution: as `step` has it.
      images_per_step: over all replicas.
      last_step: None runs until stopped.
      log_every_n_steps: 0 never logs.
      save_interval_secs: at most this long between checkpoints; 0 saves only at the end.
      log: called each `log_every_n_steps`, and after the first and the last step.
      save: called with the step; also at the end and when asked to stop.
      stop: looked at between calls of several steps.

    Returns:
      The step reached.

    Raises:
      ValueError: the loss is not finite; nothing was saved since.
    """
    now = int(step.step.numpy())
    saved_at, saved_step = time.monotonic(), now
    window = _Window(images_per_step, last_step)
    seconds_per_step = math.inf  # unknown: the first call is a single step
    while last_step is None or now < last_step:
        count = _steps_until_next(now, log_every_n_steps, last_step, seconds_per_step)
        if distribution.num_workers > 1 and math.isfinite(seconds_per_step):
            # Every worker must make the same calls, whatever its own clock says.
            count = _steps_until_next(now, log_every_n_steps, last_step, 0.0)
        began = time.monotonic()
        results = step.run(iterator, count)
        took = time.monotonic() - began
        first_call, now = math.isinf(seconds_per_step), now + count
        if not math.isfinite(results["loss"]):
            raise ValueError(
                f"The loss became {results['loss']} between step {now - count + 1} and {now}. "
                f"Lower --learning_rate; the checkpoint of step {saved_step} is untouched."
            )
        window.add(results, count, took)
        if first_call or is_due(now, log_every_n_steps, last_step) or stop.name:
            log(window.close(now))
        # Tracing makes the first step slow; it says nothing about the others.
        seconds_per_step = 1.0 if first_call else took / count
        overdue = 0 < save_interval_secs <= time.monotonic() - saved_at
        stopping = distribution.agree(stop.name is not None)
        if distribution.agree(overdue) or stopping:
            save(now)
            saved_at, saved_step = time.monotonic(), now
        if stopping:
            return now
    if saved_step != now:
        save(now)
    return now


def _steps_until_next(
    now: int, log_every: int, last_step: int | None, seconds_per_step: float
) -> int:
    """How many steps one call may make without running past a log line or the end."""
    if math.isinf(seconds_per_step):
        return 1
    limits = [max(1, int(_LONGEST_CALL_SECS / seconds_per_step)) if seconds_per_step else 10**9]
    limits.append(log_every - now % log_every if log_every else 100)
    if last_step is not None:
        limits.append(last_step - now)
    return min(limits)


class _Window:
    """Sums between two log lines."""

    def __init__(self, images_per_step: int, last_step: int | None):
        self._images_per_step, self._last_step = images_per_step, last_step
        self._clear()

    def _clear(self) -> None:
        self._steps, self._seconds, self._sums = 0, 0.0, {}

    def add(self, results: dict[str, float], count: int, seconds: float) -> None:
        for name, value in results.items():
            weight = 1 if name == "input_seconds" else count
            self._sums[name] = self._sums.get(name, 0.0) + value * weight
        self._last_rate = results["learning_rate"]
        self._steps += count
        self._seconds += seconds

    def close(self, step: int) -> Progress:
        sums, steps, seconds = self._sums, self._steps, max(self._seconds, 1e-9)
        left = None if self._last_step is None else (self._last_step - step) * seconds / steps
        apart = ("learning_rate", "input_seconds")
        progress = Progress(
            step=step,
            losses={name: sums[name] / steps for name in sums if name not in apart},
            learning_rate=self._last_rate,
            images_per_second=steps * self._images_per_step / seconds,
            input_share=min(1.0, sums["input_seconds"] / seconds),
            seconds_per_step=seconds / steps,
            seconds_left=left,
        )
        self._clear()
        return progress
