"""What a run trains at present: the net on images of a size, its scopes, the optimizer's slots."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from foundation.errors import InputError
from nets import heads, layers, nets_factory, precision, resizing, slim_names
from training import (
    batch_norm,
    feature_cache,
    learning_rates,
    losses,
    moving_averages,
    optimizers,
)
from training.contracts import Data, Examples
from training.distribution import Distribution, bfloat16_is_fast
from training.log import Tensors
from training.options import TrainingOptions
from training.phases import Phase
from training.restoring import NetConfig
from training.step import NetInTraining, StepSettings, TrainingStep


class Trainee:
    """A net in training.

    Attributes:
      model: the net at the size that it is evaluated at.
      learner: what takes steps: the net at the present size, or its head on cached features.
      weights: all variables by slim name.
      trained: those that are trained at present, by slim name.
      optimizer: built on them.
      averages: the moving averages, or None.
      split: the net in two where features are cached, else None.
    """

    def __init__(
        self,
        options: TrainingOptions,
        net: NetConfig,
        distribution: Distribution,
        phase: Phase,
        say: Callable[[str], None],
    ):
        """Builds the net as `phase` trains it.

        Raises:
          InputError: a scope catches no variable, or the net can't be built so.
        """
        self._options, self._net, self._strategy, self._say = (
            options,
            net,
            distribution.strategy,
            say,
        )
        self.precision = _precision(options.machine.precision)
        self._phase: Phase | None = None
        self.split: feature_cache.Split | None = None
        with self._strategy.scope():
            self.model = self._build(image_size=net.image_size, **net.options_in_training)
            if options.batch_norm.sync_batch_norm:
                batch_norm.synchronize(self.model)
            self.weights = slim_names.variables(self.model)
            self.optimizer = optimizers.create(options.optimizer)
        # At once, and not only at the step from which a scope is trained.
        for _, scope in options.scopes.unfreeze:
            slim_names.caught_by_match(self._named([scope]), self._trainable, "--unfreeze")
        self.enter(phase)
        with self._strategy.scope():
            self.averages = self._build_averages()

    def enter(self, phase: Phase) -> None:
        """Trains the scopes of a phase on images of its size from here on."""
        before, self._phase = self._phase, phase
        self.learner = self._at_size(phase.image_size)
        with self._strategy.scope():
            known = () if before is None else self._named(before.scopes)
            self._choose_trained(self._named(phase.scopes), known)

    def cut(self, examples: Examples, num_workers: int) -> None:
        """Trains the head alone on cached features, where --feature_cache says so.

        Raises:
          InputError: a cache is asked for and not possible.
        """
        options = self._options.feature_cache
        if options.feature_cache == "off":
            return
        if options.feature_cache == "auto" and not self._options.scopes.trainable_scopes:
            return
        self.split = feature_cache.choose(
            self.model,
            self.trained,
            options.feature_cache,
            obstacle=self._obstacle(examples, num_workers),
            drawn=examples.augmented and not options.feature_cache_augmentations,
            say=self._say,
        )
        if self.split:
            self.learner = self.split.head

    def _obstacle(self, examples: Examples, num_workers: int) -> str | None:
        """What of the run rules a feature cache out."""
        changing = {
            "--unfreeze": self._options.scopes.unfreeze,
            "--progressive_resizing": self._options.batch.progressive_resizing,
        }
        changing = [flag for flag, value in changing.items() if value]
        if not self._options.scopes.trainable_scopes:
            return "nothing is frozen; name the late layers to train by --trainable_scopes"
        if num_workers > 1:
            return "several workers can't share one"
        if changing:
            return f"{' and '.join(changing)} will change what is computed"
        if examples.balanced:
            return "it holds every image once, and --balanced_sampling draws some more often"
        return None

    def features(self, data: Data, num_examples: int) -> feature_cache.Features:
        """The cached features of all images, computed where they are not there yet."""
        options, net, frozen = self._options.feature_cache, self._net, self.split.frozen
        draws, storage = options.feature_cache_augmentations, options.feature_cache_storage
        about = {
            "net": (net.model_name, net.image_size, net.channels, net.net_options),
            "features": [tensor.shape for tensor in frozen.outputs],
            "precision": (self.precision, options.feature_cache_dtype),
            "draws": (draws, self._options.batch.seed if draws else None),
            **data.identity,
        }
        folder = os.path.join(self._options.train_dir, "feature_cache")
        return feature_cache.load_or_compute(
            frozen,
            data.single_pass,
            num_examples,
            max(1, draws),
            options.feature_cache_dtype,
            folder if storage == "disk" else None,
            feature_cache.key(frozen, about),
            self._say,
        )

    @property
    def is_on_gpu(self) -> bool:
        """Whether a GPU computes all of the net; images then cross the bus best as bytes."""
        return bool(tf.config.get_visible_devices("GPU")) and self.split is None

    @property
    def loss_names(self) -> list[str]:
        """Names of the losses that the learner has."""
        return ["main", *(["auxiliary"] if "aux_logits" in self.learner.output else [])]

    @property
    def in_training(self) -> NetInTraining:
        """What takes the steps."""
        trained = {name: variable.value for name, variable in self.trained.items()}
        return NetInTraining(self.learner, trained, self.loss_names, ("accuracy",))

    def slots(self) -> dict[str, tf.Variable]:
        """What a checkpoint holds besides the weights: optimizer slots and averages."""
        return self.optimizer.slots() | (self.averages.slots() if self.averages else {})

    def with_averages(self) -> contextlib.AbstractContextManager:
        """In this block the moving averages, where there are any, take the weights' places."""
        return self.averages.in_place() if self.averages else contextlib.nullcontext()

    def follow(self) -> None:
        """Begins the averages anew from weights that were restored."""
        if self.averages:
            self.averages.follow()

    def tensors(self, images: object, everything: bool) -> tuple[Tensors, Tensors]:
        """Variables by slim name, and end points by name, for histograms.

        Args:
          images: a few images of the last batch.
          everything: False gives the trained variables alone: for several workers, which would have
            to ask for moving statistics and images together. Features from the cache and images of
            another size have no end points.
        """
        if not everything:
            return {name: variable.numpy() for name, variable in self.trained.items()}, {}
        variables = {name: variable.numpy() for name, variable in self.weights.items()}
        if self.learner is not self.model:
            return variables, {}
        end_points = keras.Model(self.model.input, dict(nets_factory.end_points(self.model)))
        with layers.batch_statistics(0.0):
            activations = end_points(images, training=False)
        return variables, {k: tf.cast(v, tf.float32).numpy() for k, v in activations.items()}

    def parameters(self) -> tuple[int, int]:
        """How many numbers the net has, and how many of them are trained."""
        counts = [
            sum(math.prod(variable.shape) for variable in chosen.values())
            for chosen in (self.weights, self.trained)
        ]
        return counts[0], counts[1]

    def _build(self, **options: object) -> keras.Model:
        decay = self._options.batch_norm.batch_norm_decay
        return self._net.build(dtype=self.precision, batch_norm_decay=decay, **options)

    def _at_size(self, size: int) -> keras.Model:
        """The net on images of a size in pixels; its variables are shared."""
        if size == self._net.image_size:
            return self.model

        def build(**options: object) -> keras.Model:
            return self._build(**self._net.options_in_training | options)

        other = resizing.at_size(self.model, build, size)
        if other.output.keys() != self.model.output.keys():
            self._say(f"At {size} pixels the auxiliary head rests: it has weights for other sizes.")
        return other

    @property
    def _trainable(self) -> dict[str, keras.Variable]:
        return {name: variable for name, variable in self.weights.items() if variable.trainable}

    def _named(self, scopes: Sequence[str]) -> tuple[str, ...]:
        """Scopes as the net has them: the word `head` stands for those of its classifiers."""
        return heads.with_word(
            tuple(scopes), self.model, nets_factory.get(self._net.model_name).scope
        )

    def _choose_trained(self, scopes: tuple[str, ...], known: tuple[str, ...]) -> None:
        """Sets `self.trained`; batch norms outside of it stand still. `known` were said before."""
        options, trainable = self._options.scopes, self._trainable
        # At some sizes a head of the net rests: its scopes are valid nevertheless.
        used = slim_names.variables(self.learner)
        self.trained = {n: v for n, v in trainable.items() if n in used}
        if scopes:
            flag = "--unfreeze" if known else "--trainable_scopes"
            caught = slim_names.caught_by_match(scopes, trainable, flag)
            first = self._named(options.trainable_scopes)
            for scope in scopes[len(known) :]:
                by = "--trainable_scopes" if scope in first else "--unfreeze"
                self._say(f"{by}: {scope} catches {len(caught[scope])} variables.")
            chosen = {name for names in caught.values() for name in names}
            if self._options.batch_norm.frozen_batch_norm == "inference":
                batch_norm.freeze(self.model, chosen)
            self.trained = {n: variable for n, variable in self.trained.items() if n in chosen}
        multipliers = {}
        for scope, factor in options.learning_rate_multipliers:
            flag = "--learning_rate_multipliers"
            for names in slim_names.caught_by_match(self._named([scope]), trainable, flag).values():
                multipliers |= dict.fromkeys(self.trained.keys() & set(names), factor)
        decay = self._options.optimizer.weight_decay
        self.optimizer.build(
            list(self.trained.values()),
            list(self.trained),
            weight_decay=dict.fromkeys(slim_names.regularized(self.model), decay),
            multipliers=multipliers,
        )

    def _build_averages(self) -> moving_averages.MovingAverages | None:
        decay = self._options.optimizer.moving_average_decay
        if decay is None:
            return None
        # All weights, moving statistics included, as TF-Slim averages its model variables.
        values = {name: variable.value for name, variable in self.weights.items()}
        return moving_averages.MovingAverages(decay, values)


def _precision(asked: str) -> str:
    if asked == "auto":
        asked = "bfloat16" if bfloat16_is_fast() else "float32"
    return precision.choose(asked)


def build_step(
    trainee: Trainee,
    options: TrainingOptions,
    examples: Examples,
    distribution: Distribution,
    last_step: int | None,
) -> TrainingStep:
    """What makes the updates of a trainee; raises InputError where replicas can't share them."""
    reduced_in = tf.as_dtype(options.machine.gradient_reduction)
    if reduced_in == tf.bfloat16 and not distribution.reduces_bfloat16:
        raise InputError(
            "the GPUs of one machine sum up float32 only. Leave it out.",
            option="gradient_reduction",
            value="bfloat16",
        )
    epoch = learning_rates.epoch_of(options.batch, examples.num_examples, distribution.num_workers)
    decay = options.optimizer.weight_decay
    decayed = [trainee.weights[name].value for name in slim_names.regularized(trainee.model)]
    return TrainingStep(
        distribution,
        trainee.in_training,
        trainee.optimizer,
        learning_rates.create(options.schedule, epoch, last_step),
        functools.partial(
            losses.with_accuracy, options=options.loss, class_weights=examples.class_weights
        ),
        lambda: losses.l2(decayed, decay),
        trainee.averages,
        StepSettings(
            options.batch.accumulation(distribution.num_workers),
            options.batch.seed,
            _jit_compile(options),
            options.machine.recompute,
            timed=not options.batch.deterministic,
            sync_batch_norm=options.batch_norm.sync_batch_norm,
            reduced_in=reduced_in,
        ),
    )


def _jit_compile(options: TrainingOptions) -> bool:
    asked = options.machine.jit_compile
    if asked == "auto" and options.batch_norm.sync_batch_norm:
        return False
    # XLA slows these nets down on processors.
    return asked == "on" or (asked == "auto" and bool(tf.config.get_visible_devices("GPU")))
