"""What a run is: the options, and where it goes on, what it was begun with."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from datasets.tfrecord_dataset import Dataset
from foundation.errors import InputError
from foundation.labels import shortened
from foundation.options import given_values, listed, values
from nets import checkpoints, nets_factory
from nets.names import AUTO
from preprocessing import preprocessing_factory
from preprocessing.options import TORCH_MEANS, TORCH_STDS, PixelsOptions
from runs import config as run_config
from runs import preparation
from runs.config import RunConfig
from runs.options import TrainOptions

# Options that decide which variables a checkpoint of the run has, and what its slots mean.
_CARRIED_ON = ("optimizer", "trainable_scopes", "unfreeze", "frozen_batch_norm")
# Options that the run itself knows: where they are left out, its own values hold.
_OF_THE_RUN = (
    *("model_name", "train_image_size", "preprocessing_name", "use_grayscale", "labels_offset"),
    "moving_average_decay",
)
# Options of the groups that `changes` tells that change no step.
_NO_CHANGE = ("find_learning_rate", "recalibrate_batch_norm")
# Options that say how many images an update is from.
_OF_AN_UPDATE = {"batch_size", "gradient_accumulation_steps"}
_OF_AN_UPDATE |= {"sync_replicas", "replicas_to_aggregate"}
_SOURCE = ("dataset_dir", "dataset_name", "dataset_split_name", "tfrecord_file", "path_to_csv")


def earlier_part(options: TrainOptions) -> RunConfig | None:
    """The run in --train_dir that this training carries on, or None.

    Without a checkpoint, an earlier command got nowhere: the run may begin differently.

    Raises:
      InputError: an option set by hand contradicts the run.
    """
    train_dir = options.training.train_dir
    earlier = run_config.load(train_dir) if checkpoints.latest(train_dir) else None
    if earlier is None:
        return None
    by_hand = given_values(options)
    given = {name: by_hand[name] for name in _OF_THE_RUN if name in by_hand}
    if given.get("model_name") == AUTO:
        del given["model_name"]
    if given.get("preprocessing_name"):
        given["preprocessing_name"] = preparation.recipe_name(given["preprocessing_name"])
    run_config.check_agrees(earlier, given, train_dir)
    preparation.check_known(earlier, os.path.join(train_dir, run_config.FILE_NAME))
    check_continues(
        earlier, _given_and_had(options, earlier), run_config.flags_of(options), train_dir
    )
    return earlier


def configuration(options: TrainOptions, earlier: RunConfig | None, dataset: Dataset) -> RunConfig:
    """What run.json will say.

    Args:
      options: of the training, with a batch size that is a number.
      earlier: of `earlier_part`.
      dataset: to train on.

    Raises:
      InputError: the dataset has other classes than the run.
    """
    source = {name: getattr(options.source, name) for name in _SOURCE}
    source["flags"] = run_config.flags_of(options)
    source["num_examples"], source["fingerprint"] = dataset.num_examples, dataset.fingerprint
    if earlier:
        if earlier.labels != dataset.labels:
            train_dir = options.training.train_dir
            raise InputError(
                f"{train_dir} was trained on the classes {shortened(earlier.labels)}, the dataset "
                f"has {shortened(dataset.labels)}. Choose another --train_dir."
            )
        return dataclasses.replace(earlier, **source)
    net = nets_factory.get(options.net.model_name)
    return RunConfig(
        model_name=net.name,
        num_classes=dataset.num_classes,
        labels=dataset.labels,
        image_size=options.training.batch.train_image_size or net.image_size,
        preprocessing_name=preparation.recipe_name(
            options.recipe.preprocessing_name or net.preprocessing
        ),
        use_grayscale=bool(options.recipe.use_grayscale),
        labels_offset=options.source.labels_offset,
        moving_average_decay=options.training.optimizer.moving_average_decay,
        net_options=options.net.net_options,
        preprocessing_options=preparation.pixels_of_new_run(options.pixels, dataset.sources),
        **source,
    )


def changes(earlier: RunConfig, options: TrainOptions, dataset: Dataset) -> str:
    """How a training that goes on differs from its earlier part; "" where it does not.

    Told are the options that change what the next steps do, and the data; not those that say how
    long the run is, what it writes, or on which machine.
    """
    training = options.training
    told = values(options.augmentation) | {
        name: value
        for group in (
            *(training.batch, training.schedule, training.optimizer, training.loss),
            *(training.scopes, training.batch_norm),
        )
        for name, value in values(group).items()
    }
    told["balanced_sampling"] = options.reading.balanced_sampling
    now, before = run_config.flags_of(options), earlier.flags
    pairs = {
        name: (_written(before[name]), _written(now[name]))
        for name in told
        if name in before and name not in (*_OF_THE_RUN, *_CARRIED_ON, *_NO_CHANGE)
    }
    for name in ("dataset_dir", "dataset_split_name", "tfrecord_file"):
        was, value = getattr(earlier, name), getattr(options.source, name)
        pairs[name] = run_config.placed(name, was), run_config.placed(name, value)
    pairs["examples"] = earlier.num_examples or dataset.num_examples, dataset.num_examples
    if earlier.fingerprint not in (None, dataset.fingerprint):
        pairs["records"] = "those of before", "others"
    return ", ".join(
        f"{name} {was or 'none'} → {value or 'none'}"
        for name, (was, value) in pairs.items()
        if was != value
    )


def of_all_workers(options: TrainOptions) -> dict[str, str]:
    """What several workers must have alike to make the same updates, as a command line has it.

    Where the data lie, and what the machine is, may differ.
    """
    training, machine = options.training, options.training.machine
    groups = (
        *(options.net, options.recipe, options.pixels, options.augmentation, training.length),
        *(training.batch, training.validation, training.scopes, training.schedule),
        *(training.optimizer, training.loss, training.batch_norm),
    )
    alike = {name: value for group in groups for name, value in values(group).items()}
    for name in ("precision", "gradient_reduction"):
        alike[name] = getattr(machine, name)
    return {name: _written(value) for name, value in alike.items()}


def other_replicas(earlier: RunConfig, options: TrainOptions, num_workers: int) -> str:
    """What a change of the workers and clones means for a training that goes on; "" for none.

    Args:
      earlier: the run so far.
      options: with a batch size that is a number.
      num_workers: from here on.
    """
    flags, batch = earlier.flags, options.training.batch
    clones = options.training.machine.num_clones
    pairs = {
        "workers": (earlier.num_workers or num_workers, num_workers),
        "clones": (flags.get("num_clones", clones), clones),
    }
    told = [f"{name} {was} → {now}" for name, (was, now) in pairs.items() if was != now]
    if not told:
        return ""
    workers, replicas = pairs["workers"][0], pairs["workers"][0] * pairs["clones"][0]
    begun = {name: flags[name] for name in values(batch) if name in _OF_AN_UPDATE & set(flags)}
    before = batch.replace(**begun).images_per_step(workers, replicas)
    now = batch.images_per_step(num_workers, num_workers * clones)
    meaning = f"{', '.join(told)}. The data goes on after the examples seen so far"
    if now == before:
        return f"{meaning}, and an update is from {now} images as before."
    size = batch.batch_size * before / now
    keep = f"--batch_size={size:.0f} keeps {before}" if size == int(size) else ""
    advice = f"a --learning_rate {now / before:.3g} times as high suits {now}, as a rule of thumb"
    return f"{meaning}, but an update is from {now} images, not {before}: " + (
        f"{keep}, or {advice}." if keep else f"{advice}."
    )


def check_continues(
    earlier: RunConfig,
    given: Mapping[str, tuple[Any, Any]],
    flags: Mapping[str, Any],
    train_dir: str,
) -> None:
    """Compares a training that goes on with its earlier part.

    Args:
      earlier: the run so far.
      given: option → what it was set to by hand, and what the run so far had.
      flags: all options of the training, as run.json has them.
      train_dir: where the run lies, for the message.

    Raises:
      InputError: they differ; the message shows both values.
    """
    carried_on = {flag: (flags.get(flag), earlier.flags.get(flag)) for flag in _CARRIED_ON}
    carried_on = {flag: pair for flag, pair in carried_on.items() if flag in earlier.flags}
    for flag, pair in (given | carried_on).items():
        now, before = map(_written, pair)
        same = now == before
        if flag in carried_on:  # scopes, in any order
            same = set(now.split(",")) == set(before.split(","))
        if not same:
            raise InputError(
                f"--{flag}={now}, but {train_dir} was trained with --{flag}={before}. Give the "
                f"same, or start another --train_dir with --checkpoint_path={train_dir}."
            )


def _given_and_had(options: TrainOptions, earlier: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Options of net and pixels that are set by hand, each with its value and the run's."""
    pairs = {}
    known = nets_factory.get(earlier.model_name).options | earlier.net_options
    by_hand = given_values(options.net)
    for name, value in options.net.net_options.items():
        flag = name if name in by_hand else f"small_cnn_{name}"
        pairs[flag] = value, known.get(name)
    own = preprocessing_factory.get(earlier.preprocessing_name).normalization
    unset = {one.name: one.default for one in listed(PixelsOptions)}
    unset |= {"normalization": own, "means": TORCH_MEANS, "stds": TORCH_STDS}
    for name, value in given_values(options.pixels).items():
        pairs[name] = value, earlier.preprocessing_options.get(name, unset[name])
    return pairs


def _written(value: object) -> str:
    """An option's value as a command line has it, lists without blanks and empty entries."""
    entries = value if isinstance(value, list | tuple) else [] if value is None else [value]
    words = ",".join(map(str, entries)).split(",")
    return ",".join(word.strip() for word in words if word.strip())
