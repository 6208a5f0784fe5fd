"""Trains an image classifier on TFRecords: from scratch, or from a TF-Slim checkpoint.

python train_image_classifier.py --dataset_dir=animals --model_name=inception_v3 --train_dir=output
"""

import dataclasses
import math
import os
import sys
import time

from absl import flags

import shared_flags
from shared_flags import UsageError, comma_list

shared_flags.define_dataset_flags(split="train")
shared_flags.define_model_flags(name_default="inception_v3")
shared_flags.define_legacy_flags()

# The run
flags.DEFINE_string("train_dir", "/tmp/tfmodel/", "Folder for checkpoints, run.json and events.")
flags.DEFINE_integer(
    "max_number_of_steps", None, "Last training step; unset trains until stopped.", lower_bound=1
)
flags.DEFINE_integer("batch_size", 32, "Images a step and clone.", lower_bound=1)
flags.DEFINE_integer(
    "train_image_size", None, "Side of the training images; unset: the net's.", lower_bound=1
)
flags.DEFINE_integer("seed", 0, "Seed of the first weights, the order of the data and dropout.")
flags.DEFINE_integer("log_every_n_steps", 10, "Steps between two lines.", lower_bound=0)
flags.DEFINE_integer(
    "save_interval_secs", 600, "Seconds between two checkpoints; 0: only at the end.", lower_bound=0
)
flags.DEFINE_integer(
    "save_summaries_secs", 600, "Seconds between two sets of input images in TensorBoard; 0: none."
)
flags.DEFINE_integer(
    "keep_checkpoints", 5, "How many of the newest checkpoints stay; 0: all.", lower_bound=0
)

# Where training starts and what is trained
flags.DEFINE_string(
    "checkpoint_path", None, "Checkpoint (file or folder) to fine-tune from; ignored on resuming."
)
flags.DEFINE_string(
    "checkpoint_exclude_scopes", None, "Comma-separated name prefixes that are not restored."
)
flags.DEFINE_string(
    "trainable_scopes", None, "Comma-separated scopes to train (matched from the start of a name)."
)
flags.DEFINE_bool("ignore_missing_vars", False, "Start variables missing in the checkpoint anew.")
flags.DEFINE_enum(
    "frozen_batch_norm",
    "inference",
    ["inference", "slim"],
    "Batch norm of frozen scopes: 'inference' uses and keeps its stored statistics; 'slim' moves "
    "them on, as TF-Slim does.",
)

# Optimizer
flags.DEFINE_enum(
    "optimizer",
    "rmsprop",
    ["adadelta", "adagrad", "adam", "ftrl", "momentum", "rmsprop", "sgd"]
    + ["adamw", "lamb", "lion", "nadam"],
    "Optimizer; the first seven compute as TensorFlow 1 did.",
)
flags.DEFINE_float("weight_decay", 4e-5, "L2 factor on the weights that TF-Slim regularises.")
flags.DEFINE_float("adadelta_rho", 0.95, "Decay rate of adadelta.")
flags.DEFINE_float("adagrad_initial_accumulator_value", 0.1, "Start of adagrad's accumulators.")
flags.DEFINE_float("adam_beta1", 0.9, "Decay of adam's first moment.")
flags.DEFINE_float("adam_beta2", 0.999, "Decay of adam's second moment.")
flags.DEFINE_float("opt_epsilon", 1.0, "Epsilon of adadelta, adam and rmsprop.")
flags.DEFINE_float("ftrl_learning_rate_power", -0.5, "FTRL's learning rate power.")
flags.DEFINE_float("ftrl_initial_accumulator_value", 0.1, "Start of FTRL's accumulators.")
flags.DEFINE_float("ftrl_l1", 0.0, "FTRL's L1 strength.")
flags.DEFINE_float("ftrl_l2", 0.0, "FTRL's L2 strength.")
flags.DEFINE_float("momentum", 0.9, "Momentum of --optimizer=momentum.")
flags.DEFINE_float("rmsprop_momentum", 0.9, "Momentum of rmsprop.")
flags.DEFINE_float("rmsprop_decay", 0.9, "Decay of rmsprop.")
flags.DEFINE_float(
    "moving_average_decay", None, "Decay of the variables' moving averages; unset: none are kept."
)
flags.DEFINE_float("label_smoothing", 0.0, "Amount of label smoothing.", 0.0, 1.0)
flags.DEFINE_float(
    "focal_gamma", 0.0, "Exponent of the focal loss; 0 is plain cross entropy.", lower_bound=0.0
)
flags.DEFINE_float("clip_gradient_norm", None, "Largest global norm of the gradients.", 0.0)
flags.DEFINE_float("clip_gradient_value", None, "Largest magnitude in a gradient.", 0.0)
flags.DEFINE_integer(
    "gradient_accumulation_steps", 1, "Batches whose gradients make one update.", lower_bound=1
)
flags.DEFINE_list(
    "learning_rate_multipliers",
    [],
    "Factors on the learning rate by scope, such as InceptionV3/Logits:10.",
)

# Learning rate
flags.DEFINE_float("learning_rate", 0.01, "First learning rate.")
flags.DEFINE_float("end_learning_rate", 0.0001, "Last rate of polynomial and cosine decay.")
flags.DEFINE_enum(
    "learning_rate_decay_type",
    "exponential",
    ["fixed", "exponential", "polynomial", "cosine", "one_cycle"],
    "How the learning rate falls.",
)
flags.DEFINE_float("learning_rate_decay_factor", 0.94, "Factor of exponential decay.")
flags.DEFINE_float("num_epochs_per_decay", 2.0, "Epochs between two decays.")
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
    ["auto", "float32", "bfloat16"],
    "Arithmetic of the layers; weights, loss and statistics stay float32. auto: bfloat16 where "
    "the processor or the GPU has it.",
)
flags.DEFINE_enum(
    "jit_compile", "auto", ["auto", "on", "off"], "XLA; auto: on for GPUs, off for processors."
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


def check_flags() -> None:
    """Refuses what can't work before anything heavy is loaded."""
    shared_flags.check_legacy_flags()
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
    if FLAGS.worker_replicas > 1 and not hosts and not os.environ.get("TF_CONFIG"):
        raise UsageError(
            f"--worker_replicas={FLAGS.worker_replicas} needs the workers' addresses: "
            "--worker_hosts=HOST:PORT,HOST:PORT, the same on every worker, with --task=0, 1, …"
        )
    if hosts and FLAGS["worker_replicas"].present and len(hosts) != FLAGS.worker_replicas:
        raise UsageError(
            f"--worker_replicas={FLAGS.worker_replicas}, but --worker_hosts lists {len(hosts)}."
        )
    if FLAGS.sync_replicas and FLAGS.replicas_to_aggregate % FLAGS.worker_replicas:
        raise UsageError(
            f"--replicas_to_aggregate={FLAGS.replicas_to_aggregate} can't be shared evenly by "
            f"--worker_replicas={FLAGS.worker_replicas}."
        )
    if FLAGS.sync_replicas and FLAGS.gradient_accumulation_steps > 1:
        raise UsageError(
            "--sync_replicas and --gradient_accumulation_steps are two words for the same: "
            "leave one of them out."
        )
    if FLAGS.warmup_epochs and FLAGS.warmup_steps:
        raise UsageError("--warmup_epochs and --warmup_steps: leave one of them out.")
    if FLAGS.moving_average_decay is not None and not 0 < FLAGS.moving_average_decay < 1:
        raise UsageError(
            f"--moving_average_decay={FLAGS.moving_average_decay} must lie between 0 and 1."
        )


def main() -> None:
    check_flags()
    shared_flags.load_tensorflow()
    from training import run_state

    with run_state.locked(FLAGS.train_dir):
        train()


def train() -> None:
    """Wires dataset, net, optimizer and loop; see the modules for what each does."""
    import keras

    from datasets import batches, tfrecord_dataset
    from nets import checkpoints, nets_factory, slim_names
    from preprocessing import preprocessing_factory
    from training import distribution as distributions
    from training import (
        learning_rates,
        loop,
        losses,
        moving_averages,
        optimizers,
        run_config,
        run_state,
        summaries,
    )
    from training.step import TrainingStep

    distribution = distributions.create(
        FLAGS.num_clones, FLAGS.clone_on_cpu, comma_list(FLAGS.worker_hosts), FLAGS.task
    )
    dataset = tfrecord_dataset.find(
        dataset_dir=FLAGS.dataset_dir,
        dataset_name=FLAGS.dataset_name,
        split=FLAGS.dataset_split_name,
        tfrecord_file=FLAGS.tfrecord_file,
        path_to_csv=FLAGS.path_to_csv,
        labels_offset=FLAGS.labels_offset,
    )
    interrupted = checkpoints.latest(FLAGS.train_dir)
    config = _run_config(dataset, nets_factory.get(FLAGS.model_name), bool(interrupted))
    recipe = preprocessing_factory.get(config.preprocessing_name)

    keras.utils.set_random_seed(FLAGS.seed)
    precision = _precision(distributions.bfloat16_is_fast())
    with distribution.strategy.scope():
        model = nets_factory.build(
            config.model_name,
            config.num_classes,
            config.image_size,
            config.channels,
            dtype=precision,
            **config.net_options,
        )
        weights = slim_names.variables(model)
        trained = _trained(model, weights, distribution.is_chief)
        optimizer = _optimizer(optimizers)
        optimizer.build(
            list(trained.values()),
            list(trained),
            weight_decay=dict.fromkeys(slim_names.regularized(model), FLAGS.weight_decay),
            multipliers=_multipliers(trained),
        )
        averages = None
        if FLAGS.moving_average_decay is not None:
            averages = moving_averages.MovingAverages(
                FLAGS.moving_average_decay, {n: v.value for n, v in weights.items()}
            )

    decayed = [weights[name].value for name in slim_names.regularized(model)]

    def loss(labels, outputs):
        parts = losses.classification(
            labels,
            outputs["logits"],
            outputs.get("aux_logits"),
            label_smoothing=FLAGS.label_smoothing,
            focal_gamma=FLAGS.focal_gamma,
        )
        named = {"main": parts.main}
        return named | {"auxiliary": parts.auxiliary} if "aux_logits" in outputs else named

    accumulation = _accumulation()
    images_per_step = FLAGS.batch_size * accumulation * distribution.strategy.num_replicas_in_sync
    step = TrainingStep(
        distribution,
        model,
        optimizer,
        _learning_rate(learning_rates, dataset.num_examples),
        loss,
        [variable.value for variable in trained.values()],
        penalty=lambda: losses.l2(decayed, FLAGS.weight_decay),
        averages=averages,
        accumulation=accumulation,
        seed=FLAGS.seed,
        jit_compile=_jit_compile(),
    )
    slots = optimizer.slots() | (averages.slots() if averages else {})
    state = run_state.RunState(FLAGS.train_dir, model, step.step, slots, FLAGS.keep_checkpoints)

    examples = 0
    if interrupted:
        examples = state.restore(interrupted, images_per_step)
        _say(f"Resuming from {interrupted}.")
        if FLAGS.checkpoint_path:
            _say(f"--checkpoint_path is ignored: {FLAGS.train_dir} has a run of its own.")
    elif FLAGS.checkpoint_path:
        report = checkpoints.restore(
            model,
            FLAGS.checkpoint_path,
            exclude=comma_list(FLAGS.checkpoint_exclude_scopes),
            ignore_missing=FLAGS.ignore_missing_vars,
        )
        _say(str(report))
        if averages:
            averages.follow()

    first_step = int(step.step.numpy())
    _describe(config, dataset, model, trained, distribution, precision, first_step, images_per_step)
    if FLAGS.max_number_of_steps is not None and first_step >= FLAGS.max_number_of_steps:
        _say(f"Already at step {first_step}: nothing left to train.")
        _say_what_next(first_step)
        return
    if distribution.is_chief:
        run_config.save(FLAGS.train_dir, config)

    def decode(encoded, boxes, seed):
        return recipe.train(
            encoded,
            config.image_size,
            boxes,
            seed,
            use_grayscale=config.use_grayscale,
            **config.preprocessing_options,
        )

    def read(context=None):
        return batches.training_batches(
            dataset,
            decode,
            FLAGS.batch_size,
            seed=FLAGS.seed,
            skip_examples=examples // distribution.num_workers,
            num_threads=FLAGS.num_preprocessing_threads,
            shard_index=distribution.worker,
            num_shards=distribution.num_workers,
        )

    if distribution.strategy.num_replicas_in_sync > 1:
        iterator = iter(distribution.strategy.distribute_datasets_from_function(read))
    else:
        iterator = iter(read())

    run_log = summaries.RunLog(FLAGS.train_dir, first_step) if distribution.is_chief else None
    if run_log:
        run_log.text("flags", _flags_as_markdown())

    shown_at = -math.inf

    def log(progress):
        nonlocal shown_at
        if not run_log:
            return
        run_log.progress(progress)
        _say(_progress_line(progress, FLAGS.max_number_of_steps))
        if 0 < FLAGS.save_summaries_secs <= time.monotonic() - shown_at:
            run_log.images(step.images.numpy(), progress.step)
            shown_at = time.monotonic()

    def save(now):
        consumed = examples + (now - first_step) * images_per_step
        # The history first: rows past the last checkpoint are dropped on resuming, gaps stay.
        if run_log:
            run_log.save()
        path = state.save(consumed, write=distribution.is_chief)
        _say(f"Saved {path}.")

    with loop.StopRequest() as stop:
        reached = batches.explained(
            dataset,
            lambda: loop.train(
                step,
                iterator,
                distribution,
                images_per_step,
                FLAGS.max_number_of_steps,
                FLAGS.log_every_n_steps,
                FLAGS.save_interval_secs,
                log,
                save,
                stop,
            ),
        )
    if run_log:
        run_log.close()
    if stop.reason:
        _say(f"Stopped by {stop.reason} at step {reached}; the same command carries on from here.")
    _say_what_next(reached)


def _run_config(dataset, net, resuming: bool):
    """What this run is: the flags, or where they are silent the interrupted run or the net."""
    from training import run_config

    earlier = run_config.load(FLAGS.train_dir) if resuming else None
    if earlier:
        given = shared_flags.explicit(
            "model_name",
            "train_image_size",
            "preprocessing_name",
            "use_grayscale",
            "labels_offset",
        )
        run_config.check_agrees(earlier, given, FLAGS.train_dir)
        if earlier.labels != dataset.labels:
            raise ValueError(
                f"{FLAGS.train_dir} was trained on the classes {_shortened(earlier.labels)}, the "
                f"dataset has {_shortened(dataset.labels)}. Choose another --train_dir."
            )
        return dataclasses.replace(earlier, **_sources(), flags=_flag_values())
    return run_config.RunConfig(
        model_name=FLAGS.model_name,
        num_classes=dataset.num_classes,
        labels=dataset.labels,
        image_size=FLAGS.train_image_size or net.image_size,
        preprocessing_name=FLAGS.preprocessing_name or net.preprocessing,
        use_grayscale=bool(FLAGS.use_grayscale),
        labels_offset=FLAGS.labels_offset,
        moving_average_decay=FLAGS.moving_average_decay,
        **_sources(),
        flags=_flag_values(),
    )


def _sources() -> dict[str, str | None]:
    """The flags that say where the examples lie; relative paths are kept as they are given."""
    names = ("dataset_dir", "dataset_name", "dataset_split_name", "tfrecord_file", "path_to_csv")
    return {name: FLAGS[name].value for name in names}


def _flag_values() -> dict[str, object]:
    own = FLAGS.flags_by_module_dict()
    modules = (sys.argv[0], "shared_flags", shared_flags.__name__)
    return {flag.name: flag.value for name in own if name in modules for flag in own[name]}


def _trained(model, weights: dict, is_chief: bool) -> dict:
    """The variables to train by slim name; batch norms that don't belong to them stand still."""
    from nets import blocks, slim_names

    trainable = {name: variable for name, variable in weights.items() if variable.trainable}
    if not FLAGS.trainable_scopes:
        return trainable
    caught = slim_names.caught_by_match(comma_list(FLAGS.trainable_scopes), trainable)
    for scope, names in caught.items():
        _say(f"--trainable_scopes: {scope} catches {len(names)} variables.")
    chosen = {name for names in caught.values() for name in names}
    trained = {name: variable for name, variable in trainable.items() if name in chosen}
    if FLAGS.frozen_batch_norm == "inference":
        for layer in model.layers:
            own = {slim_names.slim_name(variable) for variable in layer.trainable_weights}
            if isinstance(layer, blocks.BatchNorm) and not own & chosen:
                layer.frozen = True
    return trained


def _optimizer(optimizers):
    return optimizers.create(
        FLAGS.optimizer,
        adadelta_rho=FLAGS.adadelta_rho,
        adagrad_initial_accumulator_value=FLAGS.adagrad_initial_accumulator_value,
        adam_beta1=FLAGS.adam_beta1,
        adam_beta2=shared_flags.explicit("adam_beta2").get("adam_beta2"),
        # TF-Slim's defaults are not those of the optimizers that came after it.
        opt_epsilon=shared_flags.explicit("opt_epsilon").get("opt_epsilon"),
        ftrl_learning_rate_power=FLAGS.ftrl_learning_rate_power,
        ftrl_initial_accumulator_value=FLAGS.ftrl_initial_accumulator_value,
        ftrl_l1=FLAGS.ftrl_l1,
        ftrl_l2=FLAGS.ftrl_l2,
        momentum=FLAGS.momentum,
        rmsprop_momentum=FLAGS.rmsprop_momentum,
        rmsprop_decay=FLAGS.rmsprop_decay,
        clip_norm=FLAGS.clip_gradient_norm,
        clip_value=FLAGS.clip_gradient_value,
    )


def _multipliers(trained: dict) -> dict[str, float]:
    """Slim name → factor on the learning rate, of --learning_rate_multipliers."""
    from nets import slim_names

    factors = {}
    for entry in FLAGS.learning_rate_multipliers:
        scope, _, factor = entry.rpartition(":")
        try:
            number = float(factor)
        except ValueError:
            number = -1.0
        if not scope or number < 0:
            raise UsageError(
                f"--learning_rate_multipliers={entry}: write SCOPE:FACTOR, such as "
                "InceptionV3/Logits:10."
            )
        caught = slim_names.caught_by_match([scope], trained, "--learning_rate_multipliers")
        factors |= dict.fromkeys(caught[scope], number)
    return factors


def _accumulation() -> int:
    """Batches of a replica that make one update."""
    if FLAGS.sync_replicas:
        return FLAGS.replicas_to_aggregate // FLAGS.worker_replicas
    return FLAGS.gradient_accumulation_steps


def _learning_rate(learning_rates, num_examples: int):
    # TF-Slim counts the gradients that go into an update only where replicas are synchronized.
    together = FLAGS.replicas_to_aggregate if FLAGS.sync_replicas else _accumulation()
    sizes = num_examples, FLAGS.batch_size
    epoch = learning_rates.steps_per_epoch(*sizes, together)
    return learning_rates.create(
        FLAGS.learning_rate_decay_type,
        FLAGS.learning_rate,
        decay_steps=learning_rates.decay_steps(*sizes, FLAGS.num_epochs_per_decay, together),
        decay_factor=FLAGS.learning_rate_decay_factor,
        end_learning_rate=FLAGS.end_learning_rate,
        total_steps=FLAGS.max_number_of_steps,
        warmup_steps=FLAGS.warmup_steps or FLAGS.warmup_epochs * epoch,
    )


def _precision(bfloat16_is_fast: bool) -> str:
    if FLAGS.precision == "bfloat16" or (FLAGS.precision == "auto" and bfloat16_is_fast):
        return "mixed_bfloat16"
    return "float32"


def _jit_compile() -> bool:
    import tensorflow as tf

    if FLAGS.jit_compile == "auto":
        return bool(tf.config.get_visible_devices("GPU"))
    return FLAGS.jit_compile == "on"


def _describe(
    config, dataset, model, trained, distribution, precision, first_step, images_per_step
) -> None:
    count = sum(math.prod(variable.shape) for variable in model.weights)
    moved = sum(math.prod(variable.shape) for variable in trained.values())
    side, channels = config.image_size, config.channels
    _say(
        f"Data: {dataset.num_examples} examples of split {dataset.split}, "
        f"{dataset.num_classes} classes: {_shortened(dataset.labels)}"
    )
    _say(
        f"Net: {config.model_name}, {count / 1e6:.2f} M parameters, {moved / 1e6:.2f} M of them "
        f"trained; images {side} x {side} x {channels}, recipe {config.preprocessing_name}"
    )
    _say(f"On: {distribution.description}, {precision.removeprefix('mixed_')}")
    if FLAGS.max_number_of_steps is None:
        _say("No --max_number_of_steps: training goes on until it is stopped (Ctrl-C).")
    else:
        steps = FLAGS.max_number_of_steps - first_step
        seen = steps * images_per_step
        _say(
            f"Steps: {steps}, from {first_step} to {FLAGS.max_number_of_steps}, "
            f"{seen / max(1, dataset.num_examples):.1f} epochs"
        )


def _say_what_next(step: int) -> None:
    _say(f"The run is in {FLAGS.train_dir}, at step {step}. Next:")
    _say(
        f"  python eval_image_classifier.py --checkpoint_path={FLAGS.train_dir} --eval_dir=EVAL_DIR"
    )
    _say(f"  python export_model.py --checkpoint_path={FLAGS.train_dir} --output_dir=EXPORT_DIR")
    _say(f"  tensorboard --logdir={FLAGS.train_dir}")


def _flags_as_markdown() -> str:
    rows = (f"| {name} | {value} |" for name, value in sorted(_flag_values().items()))
    return "\n".join(["| flag | value |", "|---|---|", *rows])


def _progress_line(progress, last_step: int | None) -> str:
    parts = [f"step {progress.step}" + (f"/{last_step}" if last_step else "")]
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


def _shortened(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:5])}{' …' if names[5:] else ''} ({len(names)})"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    shared_flags.run(main)
