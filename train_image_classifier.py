"""Trains an image classifier on TFRecords: from scratch, or from a TF-Slim checkpoint.

python train_image_classifier.py --dataset_dir=animals --model_name=inception_v3 --train_dir=output
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import sys

from absl import flags

import shared_flags
from shared_flags import UsageError, comma_list, say, shortened
from training import compile_cache

shared_flags.define_dataset_flags(split="train")
shared_flags.define_input_flags()
shared_flags.define_model_flags(name_default="inception_v3")
shared_flags.define_legacy_flags()

# The run
flags.DEFINE_string("train_dir", "/tmp/tfmodel/", "Folder for checkpoints, run.json and events.")
flags.DEFINE_integer(
    "max_number_of_steps", None, "Last training step; unset trains until stopped.", lower_bound=1
)
flags.DEFINE_float(
    "num_epochs", None, "Length of the run in passes over the data.", lower_bound=0.0
)
flags.DEFINE_float("max_minutes", None, "Longest time the run may take.", lower_bound=0.0)


class _NumberOrAuto(flags.ArgumentParser):
    """A whole number above 0, or the word auto."""

    def parse(self, argument: str | int) -> int | str:
        if argument == "auto":
            return argument
        try:
            number = int(argument)
        except ValueError:
            number = 0
        if number < 1:
            raise ValueError("write a whole number above 0, or auto")
        return number


flags.DEFINE(
    _NumberOrAuto(),
    "batch_size",
    32,
    "Images a step and clone; auto measures which number trains the most images/s.",
)
flags.DEFINE_integer(
    "train_image_size", None, "Side of the training images; unset: the net's.", lower_bound=1
)
flags.DEFINE_integer("seed", 0, "Seed of the first weights, the order of the data and dropout.")
flags.DEFINE_bool(
    "deterministic",
    False,
    "Give the same numbers in each run with this seed; may be slower. A run of "
    "several clones that is interrupted goes on with batch norms that differ in the last bits.",
)
flags.DEFINE_list("profile_steps", [], "FIRST,LAST: record these steps for TensorBoard's profiler.")
flags.DEFINE_integer("log_every_n_steps", 10, "Steps between two lines.", lower_bound=0)
flags.DEFINE_integer(
    "save_interval_secs", 600, "Seconds between two checkpoints; 0: only at the end.", lower_bound=0
)
flags.DEFINE_integer(
    "save_summaries_secs",
    600,
    "Seconds between two sets of input images and of histograms in TensorBoard; 0: none.",
    lower_bound=0,
)
shared_flags.define_tracking_flag("parameters, metrics and curves")
flags.DEFINE_string(
    "mlflow_uri",
    None,
    "MLflow's store, such as sqlite:///mlflow.db or a server's address; unset: MLflow's own "
    "choice, mlflow.db in the working folder.",
)
flags.DEFINE_integer(
    "keep_checkpoints", 5, "How many of the newest checkpoints stay; 0: all.", lower_bound=0
)

flags.DEFINE_float(
    "keep_checkpoint_every_n_hours",
    10_000.0,
    "Of the checkpoints that --keep_checkpoints removes, one stays for each so many hours.",
    lower_bound=0.0,
)
flags.DEFINE_enum(
    "on_nan",
    "stop",
    ["stop", "rollback"],
    "When the loss is NaN or infinite: stop, or go on from the last checkpoint, if there is one "
    "yet, with the data after the bad batch, three times at most.",
)

# Evaluation inside the run
flags.DEFINE_integer(
    "eval_every_n_steps",
    0,
    "Steps between two evaluations on --eval_split_name, in the arithmetic of --precision; the "
    "best checkpoint is kept in best/ of --train_dir. 0: none.",
    lower_bound=0,
)
flags.DEFINE_string("eval_split_name", "validation", "Split of these evaluations.")
flags.DEFINE_string(
    "eval_tfrecord_file", None, "Files of these evaluations, where --tfrecord_file is trained on."
)
flags.DEFINE_integer(
    "early_stopping_patience",
    0,
    "Stop after so many evaluations without a better accuracy; 0: never.",
    lower_bound=0,
)

flags.DEFINE_string(
    "data_service",
    None,
    "HOST:PORT of a tf.data service (data_service.py) that prepares the images; several, separated "
    "by commas, take turns.",
)

# Where training starts and what is trained
flags.DEFINE_string(
    "checkpoint_path",
    None,
    "What to fine-tune from: a checkpoint (file, folder or archive of TF-Slim's zoo), a .keras or "
    ".h5 file, or the word pretrained to download; ignored on resuming.",
)
shared_flags.define_cache_dir_flag()
flags.DEFINE_string(
    "checkpoint_exclude_scopes", None, "Comma-separated name prefixes that are not restored."
)
flags.DEFINE_string(
    "trainable_scopes", None, "Comma-separated scopes to train (matched from the start of a name)."
)
flags.DEFINE_list(
    "unfreeze",
    [],
    "STEP:SCOPE, …: scopes that --trainable_scopes leaves out and that are trained from a step on, "
    "such as 1000:InceptionV3/Mixed_7.",
)
flags.DEFINE_list(
    "progressive_resizing",
    [],
    "SIZE:STEP, …: sizes of the training images and the steps they begin at, such as "
    "128:0,192:2000,250:4000; the last is the net's.",
)
flags.DEFINE_bool("ignore_missing_vars", False, "Start variables missing in the checkpoint anew.")
flags.DEFINE_bool(
    "restore_dry_run", False, "Show what --checkpoint_path would give the net, and stop."
)
flags.DEFINE_bool("list_scopes", False, "Show the scopes of the net, and stop.")
flags.DEFINE_bool("list_models", False, "Show all nets, and stop.")
flags.DEFINE_string(
    "head",
    None,
    "A classifier of dense ReLU layers and dropout in place of the net's own, such as "
    "dense:512,dropout:0.5.",
)
flags.DEFINE_list("small_cnn_filters", None, "Widths of small_cnn's stages; unset: 32,64,128.")
flags.DEFINE_integer("small_cnn_dense_units", None, "Width of small_cnn's dense layer; unset: 128.")
flags.DEFINE_float(
    "small_cnn_dropout", None, "Fraction that small_cnn's dropout drops; unset: 0.5."
)
flags.DEFINE_enum(
    "frozen_batch_norm",
    "inference",
    ["inference", "slim"],
    "Batch norm of frozen scopes: 'inference' uses and keeps its stored statistics; 'slim' moves "
    "them on, as TF-Slim does.",
)
flags.DEFINE_float(
    "batch_norm_decay",
    None,
    "Decay of batch norm's moving statistics; unset: the net's (often 0.9997), which is too slow "
    "for runs of less than some 15,000 steps.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "recalibrate_batch_norm",
    0,
    "At the end of the run, also of one that has ended before, replace batch norm's moving "
    "statistics by the means over so many batches; 0: keep them.",
    lower_bound=0,
)

# Frozen layers computed once
flags.DEFINE_bool(
    "augment",
    True,
    "Draw training images (crop, mirror, colour); false prepares them as evaluation does.",
)
flags.DEFINE_enum(
    "feature_cache",
    "auto",
    ["auto", "on", "off"],
    "Compute the layers before the first of --trainable_scopes once an image and keep the result. "
    "auto: where training stays the same, which needs --augment=false or "
    "--feature_cache_augmentations.",
)
flags.DEFINE_integer(
    "feature_cache_augmentations",
    0,
    "Draws of each image that the cache holds; epochs take turns with them.",
    lower_bound=0,
)
flags.DEFINE_enum(
    "feature_cache_storage",
    "disk",
    ["disk", "memory"],
    "Where the cache is: in --train_dir, found again on resuming, or in memory.",
)
flags.DEFINE_enum(
    "feature_cache_dtype",
    "float32",
    ["float32", "float16"],
    "As which numbers features are kept; float16 takes half the room and rounds them.",
)

# Pixels; see also --preprocessing_name
flags.DEFINE_enum(
    "fit",
    "crop",
    ["crop", "letterbox", "stretch"],
    "How images come to size: as the recipe crops; whole in proportion on black; whole, stretched.",
)
flags.DEFINE_enum(
    "normalization",
    None,
    ["inception", "vgg", "lenet", "torch", "caffe", "whiten", "zca"],
    "What the net is fed in place of the recipe's own: torch: less --means, by --stds; caffe: BGR "
    "less means; whiten: each image to mean 0 and deviation 1; zca: whitened as convert_data.py "
    "--zca_size fitted it.",
)
flags.DEFINE_list("means", None, "Of --normalization=torch, in 0..1; unset: 0.485,0.456,0.406.")
flags.DEFINE_list("stds", None, "Of --normalization=torch, in 0..1; unset: 0.229,0.224,0.225.")
flags.DEFINE_bool("equalize", False, "Spread each channel's histogram evenly.")
flags.DEFINE_float("rotation_range", 0.0, "Degrees of random rotation, either way.", 0.0, 180.0)
flags.DEFINE_float(
    "width_shift_range", 0.0, "Random shift: part of the width below 1, else pixels.", 0.0
)
flags.DEFINE_float(
    "height_shift_range",
    0.0,
    "Random shift up and down: part of the height, or pixels from 1.",
    0.0,
)
flags.DEFINE_float("shear_range", 0.0, "Degrees of random shear, either way.", 0.0, 90.0)
flags.DEFINE_float("zoom_range", 0.0, "Random zoom from 1 - this to 1 + this.", 0.0, 0.99)
flags.DEFINE_bool("horizontal_flip", False, "Mirror half of the images (most recipes do it).")
flags.DEFINE_bool("vertical_flip", False, "Turn half of the images upside down.")
flags.DEFINE_list("brightness_range", None, "FROM,TO: random factor on all values, as 0.8,1.2.")
flags.DEFINE_enum(
    "fill_mode",
    "nearest",
    ["nearest", "constant", "reflect", "wrap"],
    "What lies outside of a rotated, shifted, sheared or zoomed image.",
)
flags.DEFINE_integer(
    "randaugment_layers", 0, "RandAugment: changes an image (2 is usual); 0: none.", lower_bound=0
)
flags.DEFINE_float("randaugment_magnitude", 9.0, "RandAugment: their strength.", 0.0, 10.0)
flags.DEFINE_float("random_erasing", 0.0, "Probability of random erasing.", 0.0, 1.0)
flags.DEFINE_float("mixup_alpha", 0.0, "MixUp with shares of Beta(a, a); 0: none.", 0.0)
flags.DEFINE_float("cutmix_alpha", 0.0, "CutMix with shares of Beta(a, a); 0: none.", 0.0)
flags.DEFINE_bool(
    "add_image_summaries", True, "Show training images in TensorBoard every --save_summaries_secs."
)
flags.DEFINE_string(
    "preview",
    None,
    "Write a picture of the training images here, originals beside draws, and stop.",
)

# Optimizer
flags.DEFINE_enum(
    "optimizer",
    "rmsprop",
    ["adadelta", "adagrad", "adam", "ftrl", "momentum", "rmsprop", "sgd"]
    + ["adamw", "lamb", "lion", "nadam"],
    "Optimizer; the first seven compute as TensorFlow 1 did.",
)
flags.DEFINE_float(
    "weight_decay", 4e-5, "L2 factor on the weights that TF-Slim regularises.", lower_bound=0.0
)
flags.DEFINE_float("adadelta_rho", 0.95, "Decay rate of adadelta.")
flags.DEFINE_float("adagrad_initial_accumulator_value", 0.1, "Start of adagrad's accumulators.")
flags.DEFINE_float("adam_beta1", 0.9, "Decay of adam's first moment.", 0.0, 1.0)
flags.DEFINE_float("adam_beta2", 0.999, "Decay of adam's second moment; of lion, unset: 0.99.")
flags.DEFINE_float(
    "opt_epsilon", 1.0, "Epsilon of adadelta, adam, rmsprop; of newer ones, unset: 1e-7."
)
flags.DEFINE_float("ftrl_learning_rate_power", -0.5, "FTRL's learning rate power.")
flags.DEFINE_float("ftrl_initial_accumulator_value", 0.1, "Start of FTRL's accumulators.")
flags.DEFINE_float("ftrl_l1", 0.0, "FTRL's L1 strength.")
flags.DEFINE_float("ftrl_l2", 0.0, "FTRL's L2 strength.")
flags.DEFINE_float("momentum", 0.9, "Momentum of --optimizer=momentum.", 0.0, 1.0)
flags.DEFINE_float("rmsprop_momentum", 0.9, "Momentum of rmsprop.", 0.0, 1.0)
flags.DEFINE_float("rmsprop_decay", 0.9, "Decay of rmsprop.", 0.0, 1.0)
flags.DEFINE_float(
    "moving_average_decay", None, "Decay of the variables' moving averages; unset: none are kept."
)
flags.DEFINE_float("label_smoothing", 0.0, "Amount of label smoothing.", 0.0, 1.0)
flags.DEFINE_float(
    "focal_gamma", 0.0, "Exponent of the focal loss; 0 is plain cross entropy.", lower_bound=0.0
)
flags.DEFINE_string(
    "class_weights",
    None,
    "balanced: rare classes weigh more in the loss, as much as frequent ones in sum; or "
    "CLASS:WEIGHT, … with 1 for the others.",
)
flags.DEFINE_bool(
    "balanced_sampling",
    False,
    "Draw images of rare classes more often, as often as of the most frequent one.",
)
flags.DEFINE_float("clip_gradient_norm", None, "Largest global norm of the gradients; 0: any.", 0.0)
flags.DEFINE_float("clip_gradient_value", None, "Largest magnitude in a gradient; 0: any.", 0.0)
flags.DEFINE_integer(
    "gradient_accumulation_steps", 1, "Batches whose gradients make one update.", lower_bound=1
)
flags.DEFINE_list(
    "learning_rate_multipliers",
    [],
    "Factors on the learning rate by scope, such as InceptionV3/Logits:10.",
)

# Learning rate
flags.DEFINE_bool(
    "find_learning_rate",
    False,
    "Try rates from tiny to large in 100 steps, draw the losses into learning_rates.png of "
    "--train_dir, name a good rate, and stop; nothing is trained.",
)
flags.DEFINE_float("learning_rate", 0.01, "First learning rate.", lower_bound=0.0)
flags.DEFINE_float(
    "end_learning_rate", 0.0001, "Last rate of polynomial, cosine and one_cycle.", lower_bound=0.0
)
flags.DEFINE_enum(
    "learning_rate_decay_type",
    "exponential",
    ["fixed", "exponential", "polynomial", "cosine", "one_cycle"],
    "How the learning rate falls.",
)
flags.DEFINE_float("learning_rate_decay_factor", 0.94, "Factor of exponential decay.")
flags.DEFINE_float("num_epochs_per_decay", 2.0, "Epochs between two decays.", 0.0)
flags.DEFINE_float("warmup_epochs", 0.0, "Epochs in which the rate rises from 0.", lower_bound=0.0)
flags.DEFINE_integer("warmup_steps", 0, "The same in steps.", lower_bound=0)

# Machines
flags.DEFINE_integer("num_clones", 1, "Copies of the net: one a GPU.", lower_bound=1)
flags.DEFINE_bool("clone_on_cpu", False, "Train on the processor, also where there are GPUs.")
flags.DEFINE_string(
    "worker_hosts", None, "Comma-separated host:port of all workers (or set TF_CONFIG)."
)
flags.DEFINE_integer("worker_replicas", 1, "Number of workers.", lower_bound=1)
flags.DEFINE_integer("task", 0, "Index of this worker in --worker_hosts.", lower_bound=0)
flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "tf32", "bfloat16"],
    "Arithmetic of the layers; weights, loss and statistics stay float32. auto: bfloat16 where "
    "the processor or the GPU has it. tf32: float32 whose factors GPUs round to 10 bits.",
)
flags.DEFINE_enum(
    "jit_compile", "auto", ["auto", "on", "off"], "XLA; auto: on for GPUs, off for processors."
)
flags.DEFINE_string(
    "compile_cache_dir",
    compile_cache.default_folder(),
    "Folder that keeps what XLA compiled for a GPU, for the next start; empty: none.",
)

# Of TF-Slim, without effect or refused
flags.DEFINE_integer("num_ps_tasks", 0, "Gone with TensorFlow 1; only 0 is accepted.")
flags.DEFINE_integer("num_readers", 4, "Accepted and without effect: reading adapts by itself.")
flags.DEFINE_bool(
    "sync_replicas", False, "Average the gradients of --replicas_to_aggregate batches."
)
flags.DEFINE_integer(
    "replicas_to_aggregate",
    1,
    "With --sync_replicas: batches that make one update, over all workers together.",
    lower_bound=1,
)
flags.DEFINE_integer("quantize_delay", -1, "Gone with TensorFlow 1; only -1 is accepted.")

FLAGS = flags.FLAGS
_SMALL_CNN_FLAGS = ("small_cnn_filters", "small_cnn_dense_units", "small_cnn_dropout")


def check_flags() -> None:
    """Refuses what can't work before anything heavy is loaded."""
    shared_flags.check_legacy_flags()
    if FLAGS.model_name != "small_cnn" and (given := shared_flags.explicit(*_SMALL_CNN_FLAGS)):
        raise UsageError(f"--{next(iter(given))} needs --model_name=small_cnn.")
    _net_options()
    if FLAGS.list_models or FLAGS.list_scopes:
        return
    if FLAGS.restore_dry_run and not FLAGS.checkpoint_path:
        raise UsageError("--restore_dry_run shows what --checkpoint_path gives: add it.")
    if not FLAGS.dataset_dir and not FLAGS.tfrecord_file:
        raise UsageError(
            "say where the data is: --dataset_dir=FOLDER as convert_data.py wrote it, or "
            "--tfrecord_file=FILE."
        )
    if FLAGS.num_ps_tasks:
        raise UsageError(
            f"--num_ps_tasks={FLAGS.num_ps_tasks}: parameter servers are gone. Leave it out; "
            "workers share their gradients directly (--worker_hosts and --task)."
        )
    if FLAGS.quantize_delay >= 0:
        raise UsageError(
            f"--quantize_delay={FLAGS.quantize_delay}: quantized training is gone. Leave it out "
            "and export with export_model.py --formats=tflite."
        )
    hosts = comma_list(FLAGS.worker_hosts)
    for host in hosts:
        if ":" not in host:
            raise UsageError(f"--worker_hosts={host}: write HOST:PORT.")
    if FLAGS.task and not os.environ.get("TF_CONFIG") and FLAGS.task >= len(hosts):
        raise UsageError(
            f"--task={FLAGS.task}: --worker_hosts lists {len(hosts)} workers, and the first is 0."
        )
    _check_aggregation(len(hosts) or FLAGS.worker_replicas)
    if FLAGS.worker_replicas > 1 and not hosts and not os.environ.get("TF_CONFIG"):
        raise UsageError(
            f"--worker_replicas={FLAGS.worker_replicas} needs the workers' addresses: "
            "--worker_hosts=HOST:PORT,HOST:PORT, the same on every worker, with --task=0, 1, …"
        )
    if hosts and FLAGS["worker_replicas"].present and len(hosts) != FLAGS.worker_replicas:
        raise UsageError(
            f"--worker_replicas={FLAGS.worker_replicas}, but --worker_hosts lists {len(hosts)}."
        )
    if FLAGS.sync_replicas and FLAGS.gradient_accumulation_steps > 1:
        raise UsageError(
            "--sync_replicas and --gradient_accumulation_steps are two words for the same: "
            "leave one of them out."
        )
    if FLAGS.profile_steps:
        steps = [int(part) if part.isdigit() else 0 for part in FLAGS.profile_steps]
        if len(steps) != 2 or not 1 <= steps[0] <= steps[1]:
            raise UsageError("--profile_steps: write the first and the last step, such as 10,20.")
    for name in ("num_epochs", "max_minutes"):
        if FLAGS[name].value == 0:
            raise UsageError(f"--{name}=0 trains nothing: write a number above 0.")
    for name, value in FLAGS.flag_values_dict().items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name}={value}: write a number.")
    brightness = _numbers("brightness_range", 2)
    if brightness and brightness[0] > brightness[1]:
        raise UsageError(
            f"--brightness_range={','.join(FLAGS.brightness_range)}: write the smaller factor "
            "first."
        )
    if FLAGS.mlflow_uri and FLAGS.tracking != "mlflow":
        raise UsageError("--mlflow_uri needs --tracking=mlflow.")
    for name in ("early_stopping_patience", "eval_tfrecord_file"):
        if FLAGS[name].value and not FLAGS.eval_every_n_steps:
            raise UsageError(f"--{name} needs --eval_every_n_steps.")
    if FLAGS.normalization != "torch" and (FLAGS.means or FLAGS.stds):
        raise UsageError("--means and --stds need --normalization=torch.")
    for name, count in (("means", 3), ("stds", 3), ("brightness_range", 2)):
        _numbers(name, count)
    drawn = _augmentation_values() or FLAGS.mixup_alpha or FLAGS.cutmix_alpha
    if drawn and not FLAGS.augment:
        raise UsageError("--augment=false leaves nothing to draw: leave out the augmentation.")
    if (FLAGS.mixup_alpha or FLAGS.cutmix_alpha) and FLAGS.feature_cache_augmentations:
        raise UsageError("--mixup_alpha and --cutmix_alpha mix pixels, not cached features.")
    if FLAGS.preprocessing_name == "addons":
        # Addons stand on Keras 2, which TensorFlow must hear of before it is imported.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    _pairs("progressive_resizing", "128:0,192:2000,250:4000")
    _pairs("unfreeze", "1000:InceptionV3/Mixed_7")
    for address in comma_list(FLAGS.data_service):
        if ":" not in address:
            raise UsageError(f"--data_service={address}: write HOST:PORT.")
    if FLAGS.data_service and FLAGS.cache != "none":
        raise UsageError(
            f"--data_service reads the records on other machines, --cache={FLAGS.cache} copies "
            "them on this one: leave one of them out."
        )
    if FLAGS.feature_cache_augmentations and not FLAGS.augment:
        raise UsageError(
            f"--feature_cache_augmentations={FLAGS.feature_cache_augmentations} and "
            "--augment=false exclude each other: leave one of them out."
        )
    if FLAGS.warmup_epochs and FLAGS.warmup_steps:
        raise UsageError("--warmup_epochs and --warmup_steps: leave one of them out.")
    if FLAGS.moving_average_decay is not None and not 0 < FLAGS.moving_average_decay < 1:
        raise UsageError(
            f"--moving_average_decay={FLAGS.moving_average_decay} must lie between 0 and 1."
        )


def _check_aggregation(num_workers: int) -> None:
    if FLAGS.sync_replicas and FLAGS.replicas_to_aggregate % num_workers:
        raise UsageError(
            f"--replicas_to_aggregate={FLAGS.replicas_to_aggregate} can't be shared evenly by "
            f"{num_workers} workers."
        )


def main() -> None:
    check_flags()
    compile_cache.use(FLAGS.compile_cache_dir)
    shared_flags.load_tensorflow()
    if FLAGS.list_models:
        return list_models()
    if FLAGS.list_scopes:
        return list_scopes()
    from training import distribution, run_state

    where = distribution.create(
        FLAGS.num_clones, FLAGS.clone_on_cpu, comma_list(FLAGS.worker_hosts), FLAGS.task
    )
    # The other workers share the chief's folder, and only read in it.
    writes = where.is_chief and not (FLAGS.restore_dry_run or FLAGS.preview)
    with run_state.locked(FLAGS.train_dir) if writes else contextlib.nullcontext():
        train(where)


def train(where) -> None:
    """Finds the data and hands plain values to training.run; `where` is a Distribution."""
    _check_aggregation(where.num_workers)
    from datasets import bad_records, batches, storage, tfrecord_dataset
    from preprocessing import augmentation
    from training import run

    dataset = tfrecord_dataset.find(
        dataset_dir=FLAGS.dataset_dir,
        dataset_name=FLAGS.dataset_name,
        split=FLAGS.dataset_split_name,
        tfrecord_file=FLAGS.tfrecord_file,
        path_to_csv=FLAGS.path_to_csv,
        labels_offset=FLAGS.labels_offset,
    )
    dataset, bad = bad_records.drop(dataset, FLAGS.max_bad_records, FLAGS.num_preprocessing_threads)
    for line in bad_records.summary(bad):
        say(line)
    if bad and FLAGS.data_service and not _on_this_machine(FLAGS.data_service):
        raise ValueError(
            f"--data_service={FLAGS.data_service}: other machines can't see the copies that "
            "--max_bad_records makes of files with bad records. Convert those files anew, or leave "
            "the service out."
        )
    config = _run_config(dataset)
    if config.preprocessing_name == "addons":
        from preprocessing import addons

        addons.require()
    zca_file = _zca_file(dataset, config)
    recipe = shared_flags.recipe(
        config,
        lambda name: zca_file,
        sizes=[size for size, _ in _pairs("progressive_resizing", "128:0")],
        augmentation=augmentation.Augmentation(**_augmentation_values()),
    )
    if FLAGS.preview:
        return _preview(dataset, recipe, config)
    labels = repeats = weights = None
    if FLAGS.balanced_sampling or FLAGS.class_weights == "balanced":
        labels = batches.explained(dataset, lambda: batches.labels(dataset))
    if FLAGS.balanced_sampling:
        repeats = batches.balanced_repeats(labels)
    if FLAGS.class_weights:
        weights = _class_weights(dataset, labels)
    num_examples = dataset.num_examples if repeats is None else int(repeats.sum())
    options = _options(run, num_examples, where, weights)
    if FLAGS.restore_dry_run:
        return run.restore_dry_run(options, config, say)
    if FLAGS.batch_size == "auto":
        from training import batch_size

        if where.num_workers > 1:
            raise ValueError(
                "--batch_size=auto measures one machine, and several workers must have one size: "
                "write a number."
            )
        FLAGS.batch_size = batch_size.find(options, config, where, num_examples, say)
        config = dataclasses.replace(config, flags=_flag_values())
        options = _options(run, num_examples, where, weights)
    if FLAGS.find_learning_rate:
        options = dataclasses.replace(options, feature_cache="off")
    if services := comma_list(FLAGS.data_service):
        from datasets import data_services

        data_services.check(services)
        # It prepares images for the whole net, not for features that are computed once.
        options = dataclasses.replace(options, feature_cache="off")
        data_services.watch(services, _service_lost)
    current = run.Run(options, config, where, num_examples, say)
    if zca_file and where.is_chief and not os.path.exists(kept := _kept_zca_file(config)):
        with storage.open_file(zca_file) as file, open(f"{kept}.tmp", "wb") as copy:
            copy.write(file.read())
        os.replace(f"{kept}.tmp", kept)
    _describe(current, dataset)
    ended = options.last_step is not None and current.first_step >= options.last_step
    if ended and not options.recalibrate_batch_norm:
        say(f"Already at step {current.first_step}: nothing left to train.")
        _say_what_next(current.first_step)
        return

    look = {"use_grayscale": config.use_grayscale}
    # Mixing takes finished images, and a matrix is multiplied exactly by the processor only.
    mix = _mixing(dataset.num_classes)
    simple = options.augment and mix is None and not services and recipe.size is None
    last = recipe.training_stages(config.image_size, **look)[1] if simple and recipe.draw else None
    on_device = current.prepare_on_device(last)

    def shared(size):
        """How images of a size in pixels are prepared."""
        decode, finish = recipe.training_stages(size, **look)
        if on_device:
            finish = None
        if not options.augment:
            finish = None

            def decode(encoded, boxes, seed):
                return recipe.evaluate(encoded, size, **look)

        return {
            "decode": decode,
            "finish": finish,
            "seed": options.seed,
            "num_threads": FLAGS.num_preprocessing_threads,
            "cache": FLAGS.cache,
        }

    def read(size):
        return batches.training_batches(
            dataset,
            batch_size=options.batch_size,
            skip_examples=current.examples // where.num_workers,
            shard_index=where.worker,
            num_shards=where.num_workers,
            repeats=repeats,
            mix=mix,
            data_services=comma_list(FLAGS.data_service),
            **shared(size),
        )

    def read_once(draw):
        size = max(options.batch_size, 32)
        return batches.single_pass_batches(
            dataset, batch_size=size, draw=draw, **shared(config.image_size)
        )

    if FLAGS.find_learning_rate:
        from training import rate_finder

        return batches.explained(dataset, lambda: rate_finder.find(current, read, say))
    evaluate = _evaluation(config, recipe, look) if FLAGS.eval_every_n_steps else None

    def run_it():
        known = [dataset.fingerprint, dataset.labels_offset, dataset.labels]
        data_key = json.dumps([*known, _augmentation_values()])
        return current.train(read, read_once, data_key, evaluate)

    step = batches.explained(dataset, run_it)
    for line in bad_records.summary(bad):
        say(line)
    _say_what_next(step)


def _service_lost(address: str) -> None:
    """Ends the process, which TensorFlow keeps waiting."""
    from nets import checkpoints

    last = checkpoints.latest(FLAGS.train_dir)
    begins = f"carries on from {os.path.basename(last)}" if last else "begins anew"
    print(
        f"train_image_classifier.py: error: --data_service={address} has not answered for a "
        f"minute. Start it again, then this command: it {begins}.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _on_this_machine(addresses: str) -> bool:
    hosts = {address.rpartition(":")[0] for address in comma_list(addresses)}
    return hosts <= {"localhost", "127.0.0.1"}


def _preview(dataset, recipe, config) -> None:
    """Writes --preview: a row an image, the original and what training draws of it."""
    from datasets import batches
    from preprocessing import preview

    examples = batches.explained(dataset, lambda: batches.first_examples(dataset, preview.ROWS))
    preview.write(
        FLAGS.preview,
        examples,
        recipe,
        config.image_size,
        dataset.labels,
        use_grayscale=config.use_grayscale,
        seed=FLAGS.seed,
        augment=FLAGS.augment,
        mix=_mixing(dataset.num_classes),
    )
    say(f"{FLAGS.preview} shows {len(examples)} images as the net will see them in training.")


def _mixing(num_classes: int):
    """What MixUp and CutMix make of a batch, or None where neither is asked for."""
    from preprocessing import mixing

    alphas = FLAGS.mixup_alpha, FLAGS.cutmix_alpha
    if not any(alphas):
        return None
    return lambda images, labels, seed: mixing.mix(images, labels, seed, num_classes, *alphas)


def _numbers(flag: str, count: int) -> tuple[float, ...] | None:
    """The numbers of a list flag, or None where it is not set."""
    if FLAGS[flag].value is None:
        return None
    try:
        values = tuple(float(value) for value in FLAGS[flag].value)
    except ValueError:
        values = ()
    if len(values) != count or min(values) < 0:
        raise UsageError(
            f"--{flag}={','.join(FLAGS[flag].value)}: write {count} numbers from 0 up, "
            "separated by commas."
        )
    return values


def _augmentation_values() -> dict[str, object]:
    """The flags that are fields of preprocessing.augmentation.Augmentation, as far as given."""
    names = ("rotation_range", "width_shift_range", "height_shift_range", "shear_range")
    names += ("zoom_range", "horizontal_flip", "vertical_flip", "fill_mode")
    names += ("randaugment_layers", "randaugment_magnitude", "random_erasing")
    given = shared_flags.explicit(*names)
    if FLAGS.brightness_range:
        given["brightness_range"] = _numbers("brightness_range", 2)
    return given


def _look() -> dict[str, object]:
    """The flags that are fields of preprocessing.custom.Look, as far as given."""
    given = shared_flags.explicit("fit", "normalization", "equalize")
    numbers = {name: _numbers(name, 3) for name in ("means", "stds")}
    return given | {name: list(values) for name, values in numbers.items() if values}


def _plain_look(option: str) -> object:
    """What a field of the look is where no flag says it."""
    from preprocessing import custom

    return getattr(custom.Look(), option)


def _look_with_files(dataset) -> dict[str, object]:
    """As run.json has the look: files by the names that they get in the train_dir."""
    look = {name: value for name, value in _look().items() if value != _plain_look(name)}
    if look.get("normalization") != "zca":
        return look
    from datasets import storage, zca

    with storage.open_file(zca.beside(dataset.sources)) as file:
        digest = hashlib.sha256(file.read())
    # By its content, so that a cache of features can tell one from another.
    return look | {"zca_file": f"zca_{digest.hexdigest()[:8]}.npz"}


def _zca_file(dataset, config) -> str | None:
    """The file of --normalization=zca: the run's own, or for a new run the dataset's."""
    if not config.preprocessing_options.get("zca_file"):
        return None
    from datasets import zca

    kept = _kept_zca_file(config)
    return kept if os.path.exists(kept) else zca.beside(dataset.sources)


def _kept_zca_file(config) -> str:
    return os.path.join(FLAGS.train_dir, config.preprocessing_options["zca_file"])


def _evaluation(config, recipe, look):
    """From the net to its metrics on the validation split."""
    import tensorflow as tf

    from datasets import bad_records, batches, tfrecord_dataset
    from evaluation import evaluator

    source = {**shared_flags.dataset_source(config), "split": FLAGS.eval_split_name}
    if FLAGS.eval_tfrecord_file:
        source |= {"dataset_dir": None, "tfrecord_file": FLAGS.eval_tfrecord_file}
    elif source["tfrecord_file"]:
        raise ValueError(
            "--eval_every_n_steps: --tfrecord_file names the examples to train on. Name those to "
            "evaluate by --eval_tfrecord_file."
        )
    try:
        dataset = tfrecord_dataset.find(**source)
    except ValueError as error:
        problem = str(error).replace("--dataset_split_name", "--eval_split_name")
        problem = problem.replace("--tfrecord_file", "--eval_tfrecord_file")
        raise ValueError(
            f"--eval_every_n_steps: {problem} Name another split by --eval_split_name, or leave "
            "the flag out."
        ) from error
    if dataset.labels != config.labels:
        raise ValueError(
            f"--eval_split_name={dataset.split} has the classes {shortened(dataset.labels)}, the "
            f"training {shortened(config.labels)}."
        )
    dataset, bad = bad_records.drop(dataset, FLAGS.max_bad_records, FLAGS.num_preprocessing_threads)
    for line in bad_records.summary(bad):
        say(line)
    say(f"Evaluation: {dataset.num_examples} examples of split {dataset.split}")
    examples = batches.evaluation_batches(
        dataset,
        lambda encoded: recipe.evaluate(encoded, config.image_size, **look),
        32,
        num_threads=FLAGS.num_preprocessing_threads,
        cache=FLAGS.cache,
    )
    traced = {}

    def evaluate(model, stopped):
        def until_stopped():
            for batch in examples:
                yield batch
                if stopped():
                    return

        if "predict" not in traced:
            traced["predict"] = tf.function(
                lambda images: model(images, training=False)["logits"],
                autograph=False,
                reduce_retracing=True,
            )
        found = batches.explained(
            dataset,
            lambda: evaluator.evaluate(traced["predict"], until_stopped(), dataset.num_classes),
        )
        return {"Accuracy": found.accuracy, "Recall_5": found.recall_at(5), "loss": found.loss}

    return evaluate


def _class_weights(dataset, labels) -> tuple[float, ...]:
    """Of --class_weights, a factor for each class; `labels` are those of the examples."""
    import numpy as np

    from training import losses

    if FLAGS.class_weights == "balanced":
        counts = np.bincount(labels, minlength=dataset.num_classes)
        return losses.balanced_class_weights(counts.tolist())
    weights = dict.fromkeys(dataset.labels, 1.0)  # classes of one name get one weight
    for entry in comma_list(FLAGS.class_weights):
        name, _, weight = entry.rpartition(":")
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if name not in weights or value < 0:
            raise ValueError(
                f"--class_weights={entry}: write balanced, or CLASS:WEIGHT with one of the classes "
                f"{shortened(dataset.labels)}."
            )
        weights[name] = value
    return tuple(weights[name] for name in dataset.labels)


def list_models() -> None:
    """A line a net."""
    from nets import costs, nets_factory, pretrained

    heading = ("name", "image", "parameters", "multiply-adds", "preprocessing", "root scope")
    heading += ("outputs", "pretrained")
    lines = [heading]
    for net in nets_factory.NETS.values():
        cost = costs.known()[net.name]
        lines.append(
            (
                net.name,
                str(net.image_size),
                f"{cost.parameters / 1e6:.2f} M",
                f"{cost.multiply_adds / 1e6:.0f} M",
                net.preprocessing,
                net.scope or "-",
                str(net.checkpoint_outputs) if pretrained.source(net.name) else "-",
                pretrained.source(net.name) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if 0 < i < 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        say("  ".join(cells).rstrip())
    say(
        "image: side in pixels. outputs: of an ImageNet checkpoint; with 1001, 0 is the background "
        "(--labels_offset). pretrained: where --checkpoint_path=pretrained takes weights from."
    )


def list_scopes() -> None:
    """The upper scopes of the net that the flags choose, each with its variables counted."""
    import keras

    from nets import nets_factory, slim_names

    net = nets_factory.get(FLAGS.model_name)

    def shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
        with keras.StatelessScope(initialize_variables=False):  # values would take their time
            model = nets_factory.build(
                net.name,
                num_classes,
                FLAGS.train_image_size,
                1 if FLAGS.use_grayscale else None,
                **_net_options(),
            )
        return {name: tuple(v.shape) for name, v in slim_names.variables(model).items()}

    found, other = shapes(net.checkpoint_outputs), shapes(net.checkpoint_outputs + 1)
    for scope in slim_names.scopes(found):
        if scope.count("/") < 3 and not scope.endswith("/BatchNorm"):
            inside = [shape for name, shape in found.items() if name.startswith(f"{scope}/")]
            count = sum(map(math.prod, inside))
            say(f"{scope}  {len(inside)} variables, {count / 1e6:.2f} M parameters")
    if FLAGS.head:
        return say("The head is the run's own: a checkpoint is restored without it.")
    sized = [name for name, shape in found.items() if shape != other[name]]
    heads = dict.fromkeys("/".join(name.split("/")[:-1][:2]) for name in sized)
    say(f"For other classes than the checkpoint's: --checkpoint_exclude_scopes={','.join(heads)}")


def _options(run, num_examples: int, where, class_weights):
    """The flags under the names of training.run.Options."""
    # While it is being found, a single image stands for it.
    batch_size = 1 if FLAGS.batch_size == "auto" else FLAGS.batch_size
    accumulation = FLAGS.gradient_accumulation_steps
    if FLAGS.sync_replicas:
        accumulation = FLAGS.replicas_to_aggregate // where.num_workers
    values = {
        field.name: FLAGS[field.name].value
        for field in dataclasses.fields(run.Options)
        if field.name in FLAGS
    }
    # TF-Slim's defaults of these two are not those of the optimizers that came after it.
    values |= dict.fromkeys(("opt_epsilon", "adam_beta2"))
    values |= shared_flags.explicit("opt_epsilon", "adam_beta2")
    return run.Options(
        **values
        | {
            "last_step": run.last_step(
                FLAGS.max_number_of_steps,
                FLAGS.num_epochs,
                num_examples,
                batch_size * accumulation * where.strategy.num_replicas_in_sync,
            ),
            "batch_size": batch_size,
            "class_weights": class_weights,
            "clip_gradient_norm": FLAGS.clip_gradient_norm or None,
            "clip_gradient_value": FLAGS.clip_gradient_value or None,
            "progressive_resizing": _pairs("progressive_resizing", "128:0,192:2000,250:4000"),
            "unfreeze": _pairs("unfreeze", "1000:InceptionV3/Mixed_7"),
            "gradient_accumulation_steps": accumulation,
            "checkpoint_exclude_scopes": comma_list(FLAGS.checkpoint_exclude_scopes),
            "trainable_scopes": comma_list(FLAGS.trainable_scopes),
            "learning_rate_multipliers": _multipliers(),
            "profile_steps": tuple(map(int, FLAGS.profile_steps)) or None,
        }
    )


def _pairs(flag: str, example: str) -> tuple[tuple[int, int | str], ...]:
    """The entries NUMBER:WORD of a flag; whole numbers become numbers."""
    pairs = []
    for entry in FLAGS[flag].value:
        first, _, second = entry.strip().partition(":")
        if not first.isdigit() or not second or (flag != "unfreeze" and not second.isdigit()):
            raise UsageError(f"--{flag}={entry}: write it like {example}.")
        pairs.append((int(first), int(second) if second.isdigit() else second))
    return tuple(pairs)


def _multipliers() -> dict[str, float]:
    """Scope → factor, of --learning_rate_multipliers."""
    factors = {}
    for entry in FLAGS.learning_rate_multipliers:
        scope, _, factor = entry.rpartition(":")
        try:
            factors[scope] = float(factor)
        except ValueError:
            scope = ""
        if not scope or factors[scope] < 0:
            raise UsageError(
                f"--learning_rate_multipliers={entry}: write SCOPE:FACTOR, such as "
                "InceptionV3/Logits:10."
            )
    return factors


def _run_config(dataset):
    """What this run is: the flags, or where they are silent the interrupted run or the net."""
    from nets import checkpoints, nets_factory
    from preprocessing.preprocessing_factory import get as recipe_of
    from training import run_config

    # Without a checkpoint the earlier command never got anywhere: it may be started differently.
    earlier = run_config.load(FLAGS.train_dir) if checkpoints.latest(FLAGS.train_dir) else None
    if earlier and FLAGS.batch_size == "auto":
        FLAGS.batch_size = earlier.flags.get("batch_size", "auto")
    if earlier:
        given = shared_flags.explicit(
            "model_name",
            "train_image_size",
            "preprocessing_name",
            "use_grayscale",
            "labels_offset",
            "moving_average_decay",
        )
        if "preprocessing_name" in given:
            given["preprocessing_name"] = recipe_of(given["preprocessing_name"]).name
        run_config.check_agrees(earlier, given, FLAGS.train_dir)
        run_config.check_continues(earlier, _beside(earlier), _flag_values(), FLAGS.train_dir)
        if earlier.labels != dataset.labels:
            raise ValueError(
                f"{FLAGS.train_dir} was trained on the classes {shortened(earlier.labels)}, the "
                f"dataset has {shortened(dataset.labels)}. Choose another --train_dir."
            )
        return dataclasses.replace(earlier, **_sources(), flags=_flag_values())
    net = nets_factory.get(FLAGS.model_name)
    return run_config.RunConfig(
        model_name=FLAGS.model_name,
        num_classes=dataset.num_classes,
        labels=dataset.labels,
        image_size=FLAGS.train_image_size or net.image_size,
        # The name of a net stands for its recipe; what is kept is the recipe's own.
        preprocessing_name=recipe_of(FLAGS.preprocessing_name or net.preprocessing).name,
        use_grayscale=bool(FLAGS.use_grayscale),
        labels_offset=FLAGS.labels_offset,
        moving_average_decay=FLAGS.moving_average_decay,
        net_options=_net_options(),
        preprocessing_options=_look_with_files(dataset),
        **_sources(),
        flags=_flag_values(),
    )


def _beside(earlier) -> dict[str, tuple[object, object]]:
    """Flags of the net and of its input that are given, each with its value and the run's."""
    from nets import nets_factory
    from preprocessing import preprocessing_factory

    options = nets_factory.get(earlier.model_name).options | earlier.net_options
    given = {}
    for option, value in _net_options().items():
        flag = option if option in FLAGS else f"small_cnn_{option}"
        given[flag] = value, options.get(option)
    own = preprocessing_factory.get(earlier.preprocessing_name).normalization
    for option, value in _look().items():
        unset = own if option == "normalization" else _plain_look(option)
        given[option] = value, earlier.preprocessing_options.get(option, unset)
    return given


def _net_options() -> dict[str, object]:
    """What the flags change about the net itself; evaluation and export rebuild it from them."""
    options = shared_flags.explicit(*_SMALL_CNN_FLAGS)
    options = {name.removeprefix("small_cnn_"): value for name, value in options.items()}
    if "filters" in options:
        if not all(width.strip().isdigit() for width in options["filters"]):
            raise UsageError("--small_cnn_filters: write whole numbers, such as 32,64,128.")
        options["filters"] = [int(width) for width in options["filters"]]
    return options | ({"head": ",".join(comma_list(FLAGS.head))} if FLAGS.head else {})


def _sources() -> dict[str, str | None]:
    """The flags that say where the examples lie; relative paths are kept as they are given."""
    names = ("dataset_dir", "dataset_name", "dataset_split_name", "tfrecord_file", "path_to_csv")
    return {name: FLAGS[name].value for name in names}


def _flag_values() -> dict[str, object]:
    own = FLAGS.flags_by_module_dict()
    modules = (sys.argv[0], "shared_flags", shared_flags.__name__)
    return {flag.name: flag.value for name in own if name in modules for flag in own[name]}


def _describe(current, dataset) -> None:
    config, options, first_step = current.config, current.options, current.first_step
    count = sum(math.prod(variable.shape) for variable in current.weights.values())
    moved = sum(math.prod(variable.shape) for variable in current.trained.values())
    say(
        f"Data: {dataset.num_examples} examples of split {dataset.split}, "
        f"{dataset.num_classes} classes: {shortened(dataset.labels)}"
    )
    say(
        f"Net: {config.model_name}, {count / 1e6:.2f} M parameters, {moved / 1e6:.2f} M of them "
        f"trained; images {config.image_size} x {config.image_size} x {config.channels}, "
        f"recipe {config.preprocessing_name}"
    )
    say(f"On: {current.where.description}, {current.precision.removeprefix('mixed_')}")
    if FLAGS.trainable_scopes and not FLAGS.checkpoint_path and not first_step:
        say(
            "Warning: --trainable_scopes freezes the other layers, and without --checkpoint_path "
            "these hold random numbers that never learn."
        )
    if options.batch_size > dataset.num_examples:
        say(
            f"Warning: --batch_size={options.batch_size} is more than the {dataset.num_examples} "
            "examples of the split: each step sees some of them several times."
        )
    if FLAGS.find_learning_rate:
        return
    if options.last_step is None:
        say("No --max_number_of_steps: training goes on until it is stopped (Ctrl-C).")
    elif first_step < options.last_step:
        images = (options.last_step - first_step) * current.images_per_step
        epochs = images / dataset.num_examples
        say(f"Steps: {first_step} to {options.last_step}, {epochs:.1f} epochs")


def _say_what_next(step: int) -> None:
    from training import validation

    best = os.path.join(FLAGS.train_dir, validation.FOLDER)
    taken = best if FLAGS.eval_every_n_steps and os.path.isdir(best) else FLAGS.train_dir
    say(f"The run is in {FLAGS.train_dir}, at step {step}. Next:")
    say(f"  python eval_image_classifier.py --checkpoint_path={taken} --eval_dir=EVAL_DIR")
    say(f"  python export_model.py --checkpoint_path={taken} --output_dir=EXPORT_DIR")
    say(f"  tensorboard --logdir={FLAGS.train_dir}")


if __name__ == "__main__":
    shared_flags.run(main)
