"""One optimizer update under a tf.distribute strategy, compiled; several of them a call."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from nets import layers
from training.distribution import Distribution

_SHOWN_IMAGES = 4


class NotFiniteError(ValueError):
    """The loss, a gradient or a weight became NaN or infinite.

    Attributes:
      step: the number of the step, from 1. Where loss or gradients are not finite it changed no
        trained variable; where both are, its update spoilt the weights.
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


class TrainingStep:
    """How a net learns from the next batches."""

    def __init__(
        self,
        distribution: Distribution,
        model,
        optimizer,
        learning_rate: Callable[[tf.Tensor], tf.Tensor],
        loss: Callable[[tf.Tensor, dict[str, tf.Tensor]], dict[str, tf.Tensor]],
        trained: Mapping[str, tf.Variable],
        loss_names: Sequence[str] = ("main",),
        penalty: Callable[[], tf.Tensor] | None = None,
        averages=None,
        accumulation: int = 1,
        seed: int = 0,
        jit_compile: bool = False,
        timed: bool = True,
    ):
        """Puts the parts together; nothing runs yet.

        Args:
          distribution: strategy under whose scope everything here was created.
          model: net whose outputs are a dict with "logits"; it gets what batches have as "image".
          optimizer: of training.optimizers, built on `trained`.
          learning_rate: int64 step → float32 rate.
          loss: (labels int32 [N], outputs) → float32 scalars by name, means over the N examples
            of a replica; their sum is minimised.
          trained: the variables to train, by name.
          loss_names: of the scalars that `loss` returns.
          penalty: what the optimizer's weight decay stands for, as a loss to report; it is read
            once a call, since weights move little within it.
          averages: a MovingAverages, updated after each step.
          accumulation: batches whose gradients are averaged into one update.
          seed: of dropout, together with the step.
          jit_compile: compile the forward and backward pass with XLA.
          timed: measure how long steps wait for their batches; TensorFlow's deterministic mode
            forbids to look at the clock.
        """
        self._distribution = distribution
        self._optimizer, self._averages = optimizer, averages
        self._learning_rate = learning_rate
        self._loss, self._penalty = loss, penalty
        self._accumulation, self._seed, self._timed = accumulation, seed, timed
        self._several = distribution.strategy.num_replicas_in_sync > 1
        with distribution.strategy.scope():
            self.step = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        self._jit_compile = jit_compile
        self.change(model, trained, loss_names)

    def change(
        self, model, trained: Mapping[str, tf.Variable], loss_names: Sequence[str] = ("main",)
    ) -> None:
        """Goes on with another net on the same weights, or with other variables to train.

        The optimizer must have been built on `trained`. The next call compiles anew.
        """
        self._model, self._loss_names = model, tuple(loss_names)
        self._names, self._trained = list(trained), list(trained.values())
        # Autograph would rewrite the whole net's Python before tracing it.
        self._gradients = tf.function(
            self._compute_gradients, autograph=False, jit_compile=self._jit_compile
        )
        self._call = tf.function(self._several_steps, autograph=False)

    def change_learning_rate(self, learning_rate: Callable[[tf.Tensor], tf.Tensor]) -> None:
        """Goes on with another schedule; the next call compiles anew."""
        self._learning_rate = learning_rate
        self._call = tf.function(self._several_steps, autograph=False)

    def run(self, iterator: Iterator, count: int) -> dict[str, float]:
        """Makes `count` updates, each from `accumulation` batches.

        A step whose loss or gradients are not finite changes no trained variable and is the last
        one.

        Returns:
          Means over the updates: every loss by name and "loss", their sum; and
          "learning_rate" of the last update, "gradient_norm" (over all trained variables, before
          clipping), "input_seconds" waited in all. The attribute `images` then has a few images of
          the last batch, as the net saw them.

        Raises:
          NotFiniteError: the loss, a gradient or a weight is NaN or infinite.
        """
        results, self.images, norms = self._call(iterator, tf.constant(count, tf.int64))
        results = {name: float(value) for name, value in results.items()}
        if not np.isfinite(results["loss"] + results["gradient_norm"]):
            norms = dict(zip(self._names, norms.numpy().tolist(), strict=True))
            loss = sum(results[name] for name in self._loss_names)
            raise NotFiniteError(int(self.step.numpy()), loss, norms)
        return results

    def _compute_gradients(self, images, labels, seed, step):
        with (
            layers.random_seed(seed),
            layers.training_step(step),
            tf.GradientTape(watch_accessed_variables=False) as tape,
        ):
            for variable in self._trained:
                tape.watch(variable)
            losses = self._loss(labels, self._model(images, training=True))
            total = tf.add_n(list(losses.values()))
        return tape.gradient(total, self._trained), losses

    def _replica_step(self, batches):
        context = tf.distribute.get_replica_context()
        gradients, losses = zip(
            *(self._gradients_of(batch, i, context) for i, batch in enumerate(batches)), strict=True
        )
        gradients = [_mean(parts) for parts in zip(*gradients, strict=True)]
        losses = {name: _mean([one[name] for one in losses]) for name in losses[0]}
        if self._several:
            mean = tf.distribute.ReduceOp.MEAN
            gradients = context.all_reduce(mean, gradients)
            losses = context.all_reduce(mean, losses)
        rate = self._learning_rate(self.step)
        # A gradient can overflow where the loss does not; weights that took it in are lost.
        norms = tf.sqrt(2 * tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients]))
        norm = tf.norm(norms)
        finite = tf.math.is_finite(tf.add_n([norm, *losses.values()]))

        def update():
            self._optimizer.apply(gradients, rate)
            if self._averages is not None:
                self._averages.update(self.step + 1)

        tf.cond(finite, update, lambda: None)
        self.step.assign_add(1)
        return losses, rate, norms, norm

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

    def _gradients_of(self, batch, i, context):
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        replicas = self._distribution.strategy.num_replicas_in_sync
        number = (self.step * self._accumulation + i) * replicas + replica
        seed = tf.stack([tf.constant(self._seed, tf.int64), number])
        return self._gradients(batch["image"], batch["label"], seed, tf.identity(self.step))

    def _several_steps(self, iterator, count):
        strategy = self._distribution.strategy

        def next_step(done, sums, rate, waited, norms, norm_sum, images):
            batches, longer = self._next_batches(iterator)
            if self._several:
                outcome = strategy.run(self._replica_step, args=(batches,))
                outcome = tf.nest.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0], outcome
                )
            else:
                outcome = self._replica_step(batches)
            losses, rate, norms, norm = outcome
            sums = {name: sums[name] + losses[name] for name in sums}
            images = strategy.experimental_local_results(batches[0])[0]["image"]
            images = tf.nest.map_structure(lambda part: part[:_SHOWN_IMAGES], images)
            return done + 1, sums, rate, waited + longer, norms, norm_sum + norm, images

        def goes_on(done, sums, rate, waited, norms, norm_sum, images):
            finite = tf.math.is_finite(tf.add_n([norm_sum, *sums.values()]))
            return tf.logical_and(done < count, finite)

        # Nothing of the net stands before the loop: it would be compiled twice.
        zero = tf.zeros([])
        start = (tf.zeros([], tf.int64), dict.fromkeys(self._loss_names, zero), zero)
        start += (tf.zeros([], tf.float64), tf.zeros([len(self._names)]), zero)
        images, shapes = _no_images(iterator.element_spec["image"])
        shapes = (*tf.nest.map_structure(lambda value: value.shape, start), shapes)
        _, sums, rate, waited, norms, norm_sum, images = tf.while_loop(
            goes_on, next_step, (*start, images), shape_invariants=shapes
        )
        count = tf.cast(count, tf.float32)
        means = {name: value / count for name, value in sums.items()}
        if self._penalty is not None:
            means["regularization"] = self._penalty()
        means |= {
            "loss": tf.add_n(list(means.values())),
            "learning_rate": rate,
            "gradient_norm": norm_sum / count,
            "input_seconds": waited,
        }
        return means, images, norms


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
