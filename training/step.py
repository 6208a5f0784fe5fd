"""One optimizer update under a tf.distribute strategy, compiled; several of them a call."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from nets import layers, recomputed, xla
from training.distribution import Distribution
from training.optimizers import assign, read

_SHOWN_IMAGES = 4


class NotFiniteError(ValueError):
    """The loss, a gradient or a weight became NaN or infinite.

    Attributes:
      step: the number of the step, from 1. Where loss or gradients are not finite it changed no
        variable; where both are, its update spoilt the weights.
      loss: what the loss was, without the penalty on the weights.
      gradient_norms: by name of the trained variable; empty where it shows later.
      variables: names of those that are not finite, where they are known.
    """

    def __init__(
        self,
        step: int,
        loss: float,
        gradient_norms: Mapping[str, float],
        variables: Sequence[str] = (),
    ):
        self.step, self.loss, self.gradient_norms = step, loss, gradient_norms
        if not np.isfinite(loss):
            what = f"loss became {loss}"
        elif np.isfinite(list(gradient_norms.values())).all():
            what = "weights became infinite or nan"
        else:
            what = "gradients became infinite or nan"
        # NaN counts as the largest of all.
        size = {n: np.inf if np.isnan(value) else value for n, value in gradient_norms.items()}
        largest = sorted(size, key=size.get, reverse=True)[:3]
        named = ", ".join(f"{name} ({gradient_norms[name]:.3g})" for name in largest)
        details = f"; largest gradients: {named}" if named else ""
        if variables:
            details += f"; {variables[0]} and {len(variables) - 1} more hold such numbers"
        super().__init__(f"The {what} at step {step}{details}.")


class _State(NamedTuple):
    """What the steps of a call hand on to each other; all but `sums` is of the last that counts.

    A step that is not finite is the last one that counts: `good` is False from there on.
    """

    sums: tf.Tensor  # float32, losses and measures in the order of names, then the gradient norm
    losses: tf.Tensor  # float32, and the measures
    norms: tf.Tensor  # float32, by trained variable
    rate: tf.Tensor  # float32
    good: tf.Tensor  # bool


@dataclasses.dataclass(frozen=True)
class NetInTraining:
    """A net, and what of it is trained.

    Attributes:
      model: a net whose outputs are a dict with "logits"; it gets what batches have as "image".
      trained: the variables to train, by name.
      loss_names: of the losses that it has.
      measure_names: of what is reported too, but not minimised.
    """

    model: Any
    trained: Mapping[str, tf.Variable]
    loss_names: Sequence[str] = ("main",)
    measure_names: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """How steps are made.

    Attributes:
      accumulation: batches whose gradients are averaged into one update.
      seed: of dropout, together with the step.
      jit_compile: compile the step with XLA.
      recompute: keep little of the forward pass, and compute it anew for the gradients.
      timed: measure how long steps wait for their batches; TensorFlow's deterministic mode
        forbids to read the clock.
      sync_batch_norm: batch norms exchange numbers with other replicas; excludes jit_compile.
      reduced_in: float32 or bfloat16, the type in which gradients go between replicas.
    """

    accumulation: int = 1
    seed: int = 0
    jit_compile: bool = False
    recompute: bool = False
    timed: bool = True
    sync_batch_norm: bool = False
    reduced_in: tf.DType = tf.float32


class TrainingStep:
    """How a net learns from the next batches.

    With `jit_compile` a step is one program of XLA: gradients, norms, optimizer, averages and sums
    together, so that small kernels fuse. Several replicas, or several batches a step, take more
    than one, around the sum over the replicas, which XLA can't hold. There the device decides
    whether a step changes anything, by choosing between old and new values, and nobody waits for
    its answer: after a step that is not finite, the others of the call run and change nothing.
    """

    def __init__(
        self,
        distribution: Distribution,
        net: NetInTraining,
        optimizer,
        learning_rate: Callable[[tf.Tensor], tf.Tensor],
        loss: Callable[[tf.Tensor, dict[str, tf.Tensor]], dict[str, tf.Tensor]],
        penalty: Callable[[], tf.Tensor] | None = None,
        averages=None,
        settings: StepSettings = StepSettings(),
    ):
        """Puts the parts together; nothing runs yet.

        Args:
          distribution: strategy under whose scope everything here was created.
          net: what takes the steps.
          optimizer: of training.optimizers, built on the trained variables.
          learning_rate: int64 step → float32 rate.
          loss: (labels int32 [N], outputs) → float32 scalars by name, means over the N examples
            of a replica; the sum of those that the net names as its losses is minimised.
          penalty: what the optimizer's weight decay stands for, as a loss to report; it is read
            once a call, since weights move little within it.
          averages: a MovingAverages, updated after each step.
          settings: how steps are made.
        """
        self._distribution = distribution
        self._optimizer, self._averages = optimizer, averages
        self._learning_rate = learning_rate
        self._loss, self._penalty = loss, penalty
        self._accumulation, self._seed = settings.accumulation, settings.seed
        self.jit_compile, self._timed = settings.jit_compile, settings.timed
        self._recompute, self._reduced_in = settings.recompute, settings.reduced_in
        self._sync_batch_norm = settings.sync_batch_norm
        self._several = distribution.strategy.num_replicas_in_sync > 1
        with distribution.strategy.scope():
            self.step = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        self._prepare, self._shown = _unchanged, None
        self.change(net)

    def change(self, net: NetInTraining) -> None:
        """Goes on with another net on the same weights, or with other variables to train.

        The optimizer must have been built on them. The next call compiles anew.
        """
        self._model = recomputed.Recomputed(net.model) if self._recompute else net.model
        self._loss_names = tuple(net.loss_names)
        self._reported = (*net.loss_names, *net.measure_names)
        self._names, self._trained = list(net.trained), list(net.trained.values())
        # What the net itself changes in training: batch norm's moving statistics.
        self._statistics = [
            variable.value
            for variable in net.model.variables
            if not variable.trainable and tf.as_dtype(variable.dtype).is_floating
        ]
        self._begin_anew()

    def change_learning_rate(self, learning_rate: Callable[[tf.Tensor], tf.Tensor]) -> None:
        """Goes on with another schedule; the next call compiles anew."""
        self._learning_rate = learning_rate
        self._begin_anew()

    def prepare_images(self, prepare: Callable[[Any], tf.Tensor]) -> None:
        """Has the last part of preprocessing done in the step; the next call compiles anew.

        Args:
          prepare: what batches have as "image", a tensor or a dict of tensors → images for the
            net, each by itself.
        """
        self._prepare = prepare
        self._begin_anew()

    def prepare(self, images) -> tf.Tensor:
        """Images as the net sees them, of what batches have as "image"."""
        return self._prepare(images)

    @property
    def images(self) -> tf.Tensor | None:
        """A few images of the last batch, as the net saw them; None before the first."""
        return None if self._shown is None else self._prepare(self._shown)

    def run(self, iterator: Iterator, count: int) -> dict[str, float]:
        """Makes `count` updates, each from `accumulation` batches.

        A step whose loss or gradients are not finite changes no variable, and no step after it
        does or counts; batches may be taken for them all the same.

        Returns:
          Means over the updates: every loss and measure by name and "loss", the losses' sum; and
          "learning_rate" of the last update, "gradient_norm" (over all trained variables, before
          clipping), "input_seconds" waited in all. The attribute `images` then has a few images of
          the last batch.

        Raises:
          NotFiniteError: the loss, a gradient or a weight is NaN or infinite.
        """
        run = self._run_ahead if self.jit_compile else self._run_together
        results, self._shown, state = run(iterator, count)
        results = {name: float(value) for name, value in results.items()}
        if not (bool(state.good) and np.isfinite(results["loss"] + results["gradient_norm"])):
            norms = dict(zip(self._names, state.norms.numpy().tolist(), strict=True))
            loss = float(tf.reduce_sum(state.losses[: len(self._loss_names)]))
            raise NotFiniteError(int(self.step.numpy()), loss, norms)
        return results

    def _begin_anew(self) -> None:
        # Autograph would rewrite the whole net's Python before tracing it.
        function = functools.partial(tf.function, autograph=False)
        compiled = functools.partial(function, jit_compile=self.jit_compile)
        # A function of its own, so that several batches a step compile the net once.
        self._gradients = compiled(self._compute_gradients)
        if self._sync_batch_norm:  # a strategy hears of no exchange within a function
            self._gradients = self._compute_gradients
        self._packed, self._applied, self._whole = self._pack, self._apply, None
        if self.jit_compile:
            self._packed, self._applied = compiled(self._pack), compiled(self._apply)
            if not self._several and self._accumulation == 1:
                self._whole = compiled(self._whole_step)
        self._call = function(self._several_steps)
        self._each_replica = function(self._on_replicas)
        self._summary = function(self._results)

    def _run_ahead(self, iterator, count: int):
        """Steps one by one, each handed to the device while it still computes the ones before.

        A loop within TensorFlow's graph would wait for the device in each turn: its counter, the
        clock and what decides whether to go on are the processor's.
        """
        step = self._each_replica if self._several else self._replica_step
        state, waited = self._first_state(), 0.0
        for _ in range(count):
            began = time.perf_counter()
            batches = tuple(next(iterator) for _ in range(self._accumulation))
            waited += time.perf_counter() - began
            state = step(batches, state)
        return self._summary(state, tf.constant(count), waited), self._some_images(batches), state

    def _run_together(self, iterator, count: int):
        return self._call(iterator, tf.constant(count, tf.int64))

    def _some_images(self, batches):
        images = self._distribution.strategy.experimental_local_results(batches[0])[0]["image"]
        return tf.nest.map_structure(lambda part: part[:_SHOWN_IMAGES], images)

    def _on_replicas(self, batches, state: _State) -> _State:
        strategy = self._distribution.strategy
        after = strategy.run(self._replica_step, args=(batches, state))
        return tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], after)

    def _compute_gradients(self, images, labels, place):
        """Gradients of the trained variables, and losses and measures as a vector.

        `place` counts the batches of a step over all replicas, int64 from 0.
        """
        step = read(self.step)
        replicas = self._distribution.strategy.num_replicas_in_sync
        number = step * (self._accumulation * replicas) + place
        seed = tf.stack([tf.constant(self._seed, tf.int64), number])
        with (
            layers.random_seed(seed),
            layers.training_step(step),
            xla.compiling(self.jit_compile),
        ):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for variable in self._trained:
                    tape.watch(variable)
                found = self._loss(labels, self._model(self._prepare(images), training=True))
                total = tf.add_n([found[name] for name in self._loss_names])
            gradients = tape.gradient(total, self._trained)
        return gradients, tf.stack([found[name] for name in self._reported])

    def _whole_step(self, images, labels, state: _State) -> _State:
        statistics = [read(variable) for variable in self._statistics]
        found = self._compute_gradients(images, labels, tf.zeros([], tf.int64))
        return self._apply([found], statistics, state)

    def _replica_step(self, batches, state: _State) -> _State:
        if self._whole:
            return self._whole(batches[0]["image"], batches[0]["label"], state)
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        replicas = self._distribution.strategy.num_replicas_in_sync
        statistics = [read(variable) for variable in self._statistics]
        found = [
            self._gradients(batch["image"], batch["label"], i * replicas + replica)
            for i, batch in enumerate(batches)
        ]
        if self._several:
            # In one piece: a message of its own for each of hundreds of gradients costs more.
            mean = functools.partial(context.all_reduce, tf.distribute.ReduceOp.MEAN)
            found = [mean(vector) for vector in self._packed(found)]
        return self._applied(found, statistics, state)

    def _pack(self, found) -> list[tf.Tensor]:
        """Gradients and losses of a replica's batches, their means as few vectors."""
        gradients, losses = _means(found)
        flat = [tf.reshape(gradient, [-1]) for gradient in gradients]
        if self._reduced_in == tf.float32:
            return [tf.concat([*flat, losses], axis=0)]
        return [tf.cast(tf.concat(flat, axis=0), self._reduced_in), losses]

    def _unpack(self, vectors: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        packed = tf.concat([tf.cast(vector, tf.float32) for vector in vectors], axis=0)
        shapes = [variable.shape for variable in self._trained]
        sizes = [*(shape.num_elements() for shape in shapes), len(self._reported)]
        *gradients, losses = tf.split(packed, sizes)
        pairs = zip(gradients, shapes, strict=True)
        return [tf.reshape(gradient, shape) for gradient, shape in pairs], losses

    def _apply(self, found, statistics: Sequence[tf.Tensor], state: _State) -> _State:
        """Updates all variables, if the step is finite and so were those of the call before it.

        Args:
          found: of `_compute_gradients` by batch, or packed.
          statistics: values of `self._statistics` before the forward pass.
          state: after the step before.
        """
        gradients, losses = self._unpack(found) if self._several else _means(found)
        rate = tf.convert_to_tensor(self._learning_rate(read(self.step)), tf.float32)
        # A gradient can overflow where the loss does not; weights that took it in are lost.
        norms = tf.sqrt(2 * tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients]))
        norm = tf.norm(norms)
        finite = tf.math.is_finite(norm + tf.reduce_sum(losses))
        good = tf.logical_and(state.good, finite)

        def update():
            self._optimizer.apply(gradients, rate)
            if self._averages is not None:
                self._averages.update(read(self.step) + 1)

        def keep():
            for variable, value in zip(self._statistics, statistics, strict=True):
                assign(variable, value)

        if self.jit_compile:
            self._update_if(good, update, statistics)
        else:
            tf.cond(good, update, keep)
        assign(self.step, read(self.step) + tf.cast(state.good, tf.int64))
        after = _State(state.sums + tf.concat([losses, [norm]], 0), losses, norms, rate, good)
        return _either(state.good, after, state)

    def _update_if(self, good: tf.Tensor, update: Callable, statistics: Sequence) -> None:
        """Updates all variables or none, by choosing values: a branch would wait for the device."""
        changed = [*self._trained, *self._optimizer.slots().values()]
        if self._averages is not None:
            changed += self._averages.slots().values()
        before = [read(variable) for variable in changed]
        update()
        pairs = zip([*changed, *self._statistics], [*before, *statistics], strict=True)
        for variable, value in pairs:
            assign(variable, tf.where(good, read(variable), value))

    def _next_batches(self, iterator):
        """The batches of an update, and the seconds waited for them."""

        def take():
            return tuple(next(iterator) for _ in range(self._accumulation))

        if not self._timed:
            return take(), tf.zeros([], tf.float64)
        began = tf.timestamp()
        with tf.control_dependencies([began]):
            batches = take()
        results = self._distribution.strategy.experimental_local_results
        with tf.control_dependencies(tf.nest.flatten([results(batch) for batch in batches])):
            return batches, tf.timestamp() - began

    def _several_steps(self, iterator, count):
        step = self._on_replicas if self._several else self._replica_step

        def next_step(done, waited, state, images):
            batches, longer = self._next_batches(iterator)
            state = step(batches, state)
            return done + 1, waited + longer, state, self._some_images(batches)

        def goes_on(done, waited, state, images):
            return tf.logical_and(done < count, state.good)

        # Nothing of the net stands before the loop: it would be compiled twice.
        images, shapes = _no_images(iterator.element_spec["image"])
        start = tf.zeros([], tf.int64), tf.zeros([], tf.float64), self._first_state()
        shapes = (*tf.nest.map_structure(lambda value: value.shape, start), shapes)
        _, waited, state, images = tf.while_loop(
            goes_on, next_step, (*start, images), shape_invariants=shapes
        )
        return self._results(state, count, waited), images, state

    def _first_state(self) -> _State:
        num_losses = len(self._reported)
        return _State(
            sums=tf.zeros([num_losses + 1]),
            losses=tf.zeros([num_losses]),
            norms=tf.zeros([len(self._names)]),
            rate=tf.zeros([]),
            good=tf.constant(True),
        )

    def _results(self, state: _State, count: tf.Tensor, waited: tf.Tensor) -> dict[str, tf.Tensor]:
        *sums, norm_sum = tf.unstack(state.sums)
        count = tf.cast(count, tf.float32)
        means = {name: total / count for name, total in zip(self._reported, sums, strict=True)}
        losses = [means[name] for name in self._loss_names]
        if self._penalty is not None:
            means["regularization"] = self._penalty()
            losses.append(means["regularization"])
        return means | {
            "loss": tf.add_n(losses),
            "learning_rate": state.rate,
            "gradient_norm": norm_sum / count,
            "input_seconds": waited,
        }


def _unchanged(images):
    return images


def _means(found) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The means over batches of their gradients and losses."""
    gradients, losses = zip(*found, strict=True)
    return [_mean(parts) for parts in zip(*gradients, strict=True)], _mean(losses)


def _either(condition: tf.Tensor, yes: _State, no: _State) -> _State:
    return tf.nest.map_structure(lambda a, b: tf.where(condition, a, b), yes, no)


def _no_images(spec):
    """No images, like those of a batch or of its first replica's part; and the shapes of some."""
    parts = tf.nest.map_structure(lambda part: getattr(part, "_value_specs", (part,))[0], spec)
    empty = tf.nest.map_structure(
        lambda part: tf.zeros([0, *(size or 0 for size in part.shape[1:])], part.dtype), parts
    )
    return empty, tf.nest.map_structure(lambda part: tf.TensorShape([None, *part.shape[1:]]), parts)


def _mean(parts):
    if len(parts) == 1 or parts[0] is None:
        return parts[0]
    return tf.add_n(parts) / len(parts)
