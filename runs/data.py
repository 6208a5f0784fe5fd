"""The data of a training: its split and its validation split, and how they are prepared."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from datasets import bad_records, batches, storage, tfrecord_dataset
from datasets.bad_records import BadRecord
from datasets.batches import Preparation, Shard
from datasets.options import SourceOptions, TrainingReadingOptions
from datasets.tfrecord_dataset import Dataset
from evaluation import evaluator
from foundation import files
from foundation.errors import InputError
from foundation.labels import shortened
from foundation.options import given_values
from nets import checkpoints, nets_factory
from preprocessing import mixing
from preprocessing.options import AugmentationOptions
from preprocessing.preprocessing_factory import Recipe
from runs import config as run_config
from runs import preparation
from runs.config import RunConfig
from runs.options import TrainOptions
from training import losses
from training.contracts import Examples
from training.distribution import Distribution

_Result = TypeVar("_Result")
# Images that the frozen layers of a net see at once, at least.
_SINGLE_PASS_BATCH = 32
_VALIDATION_BATCH = 32
_NOT_PIXELS = ("augment", "mixup_alpha", "cutmix_alpha")


def find(source: SourceOptions, labels_offset: int) -> Dataset:
    """The dataset that the options name; raises InputError where there is none."""
    return tfrecord_dataset.find(
        dataset_dir=source.dataset_dir,
        dataset_name=source.dataset_name,
        split=source.dataset_split_name,
        tfrecord_file=source.tfrecord_file,
        path_to_csv=source.path_to_csv,
        labels_offset=labels_offset,
    )


def readable(
    dataset: Dataset, reading: TrainingReadingOptions, say: Callable[[str], None]
) -> tuple[Dataset, list[BadRecord]]:
    """The dataset without records that can't be read, and these.

    Raises:
      InputError: there are more than --max_bad_records, or they are passed over on this machine
        while others read the data.
    """
    dataset, bad = bad_records.drop(
        dataset, reading.max_bad_records, reading.num_preprocessing_threads
    )
    for line in bad_records.summary(bad):
        say(line)
    hosts = {address.rpartition(":")[0] for address in reading.data_service}
    if bad and not hosts <= {"localhost", "127.0.0.1"}:
        raise InputError(
            "other machines can't see the copies that --max_bad_records makes of files with bad "
            "records. Convert those files anew, or leave the service out.",
            option="data_service",
            value=",".join(reading.data_service),
        )
    return dataset, bad


def check_unchanged(dataset: Dataset, options: TrainOptions) -> None:
    """Raises InputError where the files of a dataset have other records than when it was found.

    Those that --cache has copied may change.
    """
    if options.reading.cache != "none" or not (change := tfrecord_dataset.replaced(dataset)):
        return
    last = checkpoints.latest(options.training.train_dir)
    onward = f"goes on from {os.path.basename(last)}" if last else "begins the run"
    raise InputError(
        f"{change}: something has changed it since the start, and no checkpoint was written since.",
        remedy=f"Put the former files back, or keep the new ones: the same command {onward}.",
    )


def training_recipe(options: TrainOptions, config: RunConfig, dataset: Dataset) -> Recipe:
    """The recipe of a run, with what its training draws besides."""
    if config.preprocessing_name == "addons":
        from preprocessing import addons

        addons.require()
    return preparation.recipe_of(
        config,
        lambda name: zca_path(config, options.training.train_dir, dataset),
        sizes=[size for size, _ in options.training.batch.progressive_resizing],
        augmentation=options.augmentation,
        said_by=os.path.join(options.training.train_dir, run_config.FILE_NAME),
    )


def zca_path(config: RunConfig, train_dir: str, dataset: Dataset) -> str:
    """Where the file of --normalization=zca lies: the run's own, for a new run the dataset's."""
    kept = os.path.join(train_dir, config.preprocessing_options["zca_file"])
    return kept if os.path.exists(kept) else preparation.zca_file_of(dataset.sources)


def keep_zca_file(config: RunConfig, train_dir: str, dataset: Dataset) -> None:
    """Copies the file of --normalization=zca into the train_dir, where the run has one."""
    if name := config.preprocessing_options.get("zca_file"):
        path, kept = zca_path(config, train_dir, dataset), os.path.join(train_dir, name)
        if path != kept:
            with storage.open_file(path) as file, files.whole(kept, "wb") as copy:
                copy.write(file.read())


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The training split and its place in the sequence of batches; a `training.contracts.Data`.

    Attributes:
      dataset: without records that can't be read.
      config: of the run.
      recipe: of `training_recipe`.
      options: of the training; `batch_size` is a number.
      shard: this worker's part.
      repeats: of --balanced_sampling, how often each example comes in an epoch; else None.
      prepared_on_device: whether batches hold what `to_input` takes.
      say: gets a line where resuming takes longer.
    """

    dataset: Dataset
    config: RunConfig
    recipe: Recipe
    options: TrainOptions
    shard: Shard = Shard()
    repeats: np.ndarray | None = None
    prepared_on_device: bool = False
    say: Callable[[str], None] = print

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        config: RunConfig,
        recipe: Recipe,
        options: TrainOptions,
        shard: Shard,
        say: Callable[[str], None] = print,
    ) -> tuple["TrainingData", Examples]:
        """The data, and what a run must know of them.

        Raises:
          InputError: a record can't be read, or --class_weights names no class.
        """
        balanced, wish = options.reading.balanced_sampling, options.training.loss.class_weights
        labels = repeats = weights = None
        if balanced or wish == "balanced":
            labels = batches.explained(dataset, lambda: batches.labels(dataset))
        if balanced:
            repeats = batches.balanced_repeats(labels)
        if wish == "balanced":
            counts = np.bincount(labels, minlength=dataset.num_classes)
            weights = losses.balanced_class_weights(counts.tolist())
        elif wish:
            weights = _class_weights(wish, dataset.labels)
        count = int(repeats.sum()) if balanced else dataset.num_examples
        examples = Examples(count, weights, options.augmentation.augment, balanced)
        return cls(dataset, config, recipe, options, shard, repeats, say=say), examples

    @property
    def identity(self) -> Mapping[str, object]:
        """Plain values that change when the examples or their preparation do."""
        known = [self.dataset.fingerprint, self.dataset.labels_offset, self.dataset.labels]
        return {
            "preprocessing": (self.config.preprocessing_name, self.config.preprocessing_options),
            "data": json.dumps([*known, _augmentation(self.options.augmentation)]),
        }

    def batches(self, image_size: int, consumed: int) -> tf.data.Dataset:
        """This worker's batches after `consumed` examples of all workers, without end."""
        if line := batches.remark_on_resuming(self.dataset, consumed, self.options.reading.cache):
            self.say(line)
        return batches.training_batches(
            self.dataset,
            self._preparation(image_size),
            self.options.training.batch.batch_size,
            consumed=consumed // self.shard.count,
            shard=self.shard,
            repeats=self.repeats,
            cache=self.options.reading.cache,
            services=self.options.reading.data_service,
        )

    def single_pass(self, variant: int) -> tf.data.Dataset:
        """Each example once, in the given variant of its augmentation."""
        return batches.single_pass_batches(
            self.dataset,
            self._preparation(self.config.image_size),
            max(self.options.training.batch.batch_size, _SINGLE_PASS_BATCH),
            variant=variant,
            cache=self.options.reading.cache,
        )

    @property
    def to_input(self) -> Callable[[Any], tf.Tensor] | None:
        """What of the recipe a device can do: from bytes to the images that a net is fed.

        None where there is no such part. Mixing takes finished images, other machines send them,
        and whitening's matrix is multiplied exactly by the processor only.
        """
        kept = self.mix or self.options.reading.data_service or self.recipe.size
        if kept or not self.options.augmentation.augment or not self.recipe.augment:
            return None
        gray = self.config.use_grayscale
        return self.recipe.training_stages(self.config.image_size, use_grayscale=gray)[1]

    def check_unchanged(self) -> None:
        """Raises InputError where the examples are others than at the start."""
        check_unchanged(self.dataset, self.options)

    def explained(self, function: Callable[[], _Result]) -> _Result:
        """Calls `function`; raises InputError naming the record that it fails on."""
        return batches.explained(self.dataset, function)

    @property
    def mix(self) -> Callable[..., tuple[tf.Tensor, tf.Tensor]] | None:
        """What MixUp and CutMix make of a batch; None where neither is asked for."""
        options = self.options.augmentation
        if not options.mixes_images:
            return None
        return functools.partial(
            mixing.mix,
            num_classes=self.dataset.num_classes,
            mixup_alpha=options.mixup_alpha,
            cutmix_alpha=options.cutmix_alpha,
        )

    def _preparation(self, size: int) -> Preparation:
        """How images of a size in pixels are prepared."""
        gray = self.config.use_grayscale
        decode, to_input = self.recipe.training_stages(size, use_grayscale=gray)
        if self.prepared_on_device or not self.options.augmentation.augment:
            to_input = None

        if not self.options.augmentation.augment:

            def decode(encoded, boxes, seed):
                return self.recipe.evaluate(encoded, size, use_grayscale=gray)

        seed, threads = self.options.training.batch.seed, self.options.reading
        return Preparation(decode, to_input, self.mix, seed, threads.num_preprocessing_threads)


class ValidationData:
    """The validation split; a `training.contracts.Validation`.

    Attributes:
      config: of the run, for the folder of the best checkpoint.
    """

    def __init__(
        self,
        options: TrainOptions,
        config: RunConfig,
        recipe: Recipe,
        say: Callable[[str], None] = print,
        distribution: Distribution | None = None,
    ):
        """Finds the split.

        Args:
          options, config, recipe: of the training.
          say: gets a line for the screen.
          distribution: whose workers evaluate a part each; None: this process evaluates all.

        Raises:
          InputError: there is none, it has other classes, or a record can't be read.
        """
        self.config, self._options = config, options
        dataset = _validation_split(options, config)
        self._dataset, _ = readable(dataset, options.reading, say)
        say(f"Evaluation: {self._dataset.num_examples} examples of split {self._dataset.split}")

        def decode(encoded: tf.Tensor) -> tf.Tensor:
            return recipe.evaluate(encoded, config.image_size, use_grayscale=config.use_grayscale)

        self._examples = batches.evaluation_batches(
            self._dataset,
            decode,
            _VALIDATION_BATCH,
            num_threads=options.reading.num_preprocessing_threads,
            cache=options.reading.cache,
            shard=self._shard(distribution),
        )
        self._distribution = distribution
        self._model: keras.Model | None = None
        self._predict: Callable[[tf.Tensor], tf.Tensor] | None = None

    def metrics(self, model: keras.Model, stopped: Callable[[], bool]) -> dict[str, float]:
        """Accuracy, Recall_5 and loss of a net; `stopped` cuts the evaluation short.

        They are eval_image_classifier.py's: computed in float32 whatever the training computes in.
        Of five classes or fewer Recall_5 is always 1, and left out.
        """

        def until_stopped():
            for batch in self._examples:
                yield batch
                if stopped():
                    return

        check_unchanged(self._dataset, self._options)
        if self._predict is None:  # the graph is made once
            self._model = self._apart(model)
            self._predict = tf.function(
                lambda images: self._model(images, training=False)["logits"],
                autograph=False,
                reduce_retracing=True,
            )
        if self._model is not model:
            checkpoints.assign(self._model, checkpoints.values(model))
        found = batches.explained(
            self._dataset,
            lambda: evaluator.evaluate(self._predict, until_stopped(), self._dataset.labels),
        )
        recalls = {f"Recall_{k}": found.recall_at(k) for k in found.recalls}
        means = {"Accuracy": found.accuracy, **recalls, "loss": found.loss}
        if self._distribution is None:
            return means
        return self._distribution.weighted_means(means, found.num_examples)

    def _shard(self, distribution: Distribution | None) -> Shard:
        """This worker's part of the split; all of it where it has fewer examples than workers."""
        if distribution is None or distribution.num_workers > self._dataset.num_examples:
            return Shard()
        return Shard(distribution.worker, distribution.num_workers)

    def _apart(self, model: keras.Model) -> keras.Model:
        """The net itself where it computes in float32, else another one with room for its weights.

        bfloat16 rounds the answers so much that some change: what chooses the best checkpoint would
        say another accuracy than an evaluation of that checkpoint. And a net of several workers
        asks all of them for its moving statistics in each batch.
        """
        alone = self._distribution is None or self._distribution.num_workers == 1
        if alone and all(layer.compute_dtype == "float32" for layer in model.layers):
            return model
        config = self.config
        return nets_factory.build(
            config.model_name,
            config.num_classes,
            config.image_size,
            config.channels,
            **config.net_options,
        )

    def keep(self, folder: str) -> None:
        """Writes run.json, and the files that it names, to the best checkpoint's folder."""
        os.makedirs(folder, exist_ok=True)
        run_config.save(folder, self.config, companions_of=self._options.training.train_dir)


def _validation_split(options: TrainOptions, config: RunConfig) -> Dataset:
    source, wish = options.source, options.training.validation
    if wish.eval_tfrecord_file:
        source = source.replace(dataset_dir=None, tfrecord_file=wish.eval_tfrecord_file)
    elif source.tfrecord_file:
        raise InputError(
            "--eval_every_n_steps: --tfrecord_file names the examples to train on. Name those to "
            "evaluate by --eval_tfrecord_file."
        )
    names = {"dataset_split_name": "eval_split_name", "tfrecord_file": "eval_tfrecord_file"}
    try:
        source = source.replace(dataset_split_name=wish.eval_split_name)
        dataset = find(source, config.labels_offset)
    except InputError as error:
        remedy = "Name another split by --eval_split_name, or leave --eval_every_n_steps out."
        raise error.about(names.get(error.option, error.option), remedy) from error
    if dataset.labels != config.labels:
        raise InputError(
            f"has the classes {shortened(dataset.labels)}, the training "
            f"{shortened(config.labels)}.",
            option="eval_split_name",
            value=dataset.split,
        )
    return dataset


def _class_weights(text: str, labels: tuple[str, ...]) -> tuple[float, ...]:
    """A factor for each class, of --class_weights=CLASS:WEIGHT, …"""
    weights = dict.fromkeys(labels, 1.0)  # classes of one name get one weight
    for entry in filter(None, map(str.strip, text.split(","))):
        name, _, weight = entry.rpartition(":")
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if name not in weights or value < 0:
            raise InputError(
                f"write balanced, or CLASS:WEIGHT with one of the classes {shortened(labels)}.",
                option="class_weights",
                value=entry,
            )
        weights[name] = value
    return tuple(weights[name] for name in labels)


def _augmentation(options: AugmentationOptions) -> dict[str, Any]:
    """What changes single images, as far as it is set by hand."""
    return {name: v for name, v in given_values(options).items() if name not in _NOT_PIXELS}
