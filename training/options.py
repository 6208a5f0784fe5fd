"""Options of the training, in groups; each is read by the module that acts on it."""

import math
import os
import re

from foundation.errors import InputError, UsageError
from foundation.options import Options, group, option, options
from nets.options import MOST_PIXELS, DownloadOptions

OPTIMIZERS = ("adadelta", "adagrad", "adam", "ftrl", "momentum", "rmsprop", "sgd")
OPTIMIZERS += ("adamw", "lamb", "lion", "nadam")
DECAYS = ("fixed", "exponential", "polynomial", "cosine", "one_cycle")


def _number_or_auto(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise ValueError("write a whole number above 0, or auto.")
    return int(text)


def _size_and_step(text: str) -> tuple[int, int]:
    size, _, step = text.partition(":")
    if not (size.isdigit() and step.isdigit()):
        raise ValueError("write it like 128:0,192:2000,250:4000.")
    return int(size), int(step)


def _step_and_scope(text: str) -> tuple[int, str]:
    step, _, scope = text.partition(":")
    if not step.isdigit() or not scope:
        raise ValueError("write it like 1000:InceptionV3/Mixed_7.")
    return int(step), scope


def _scope_and_factor(text: str) -> tuple[str, float]:
    scope, _, factor = text.rpartition(":")
    try:
        number = float(factor)
    except ValueError:
        number = -1.0
    if not scope or number < 0:
        raise ValueError("write SCOPE:FACTOR, such as InceptionV3/Logits:10.")
    return scope, number


@options
class LengthOptions(Options):
    """Length of the run."""

    max_number_of_steps: int | None = option(
        None, "Last training step; unset trains until stopped.", bounds=(1, None)
    )
    num_epochs: float | None = option(
        None,
        "Length of the run in passes over the data; of this and --max_number_of_steps, the "
        "shorter one ends it.",
        bounds=(0, None),
    )
    max_minutes: float | None = option(None, "Longest time the run may take.", bounds=(0, None))

    def check(self) -> None:
        for name in ("num_epochs", "max_minutes"):
            if getattr(self, name) == 0:
                raise UsageError("trains nothing: write a number above 0.", option=name, value=0)

    @property
    def max_seconds(self) -> float:
        """Longest time the run may take; infinity where none is set."""
        return math.inf if self.max_minutes is None else 60 * self.max_minutes

    def last_step(
        self, num_examples: int, images_per_step: int, step: int = 0, examples: int = 0
    ) -> int | None:
        """The step at which a run ends: by steps or epochs, whichever is less; None for neither.

        Args:
          num_examples: in an epoch.
          images_per_step: from here on.
          step, examples: how far the run is, and how many examples that took.
        """
        ends = [] if self.max_number_of_steps is None else [self.max_number_of_steps]
        if self.num_epochs is not None:
            # More images a step than now, or fewer, have gone into the steps so far.
            beyond = examples - step * images_per_step
            left = self.num_epochs * num_examples - beyond
            ends.append(max(1, math.ceil(left / images_per_step)))
        return min(ends, default=None)


@options
class BatchOptions(Options):
    """Batches."""

    batch_size: int | str = option(
        32,
        "Images a step and clone; auto measures which number trains the most images/s.",
        parse=_number_or_auto,
        bounds=(1, None),
    )
    train_image_size: int | None = option(
        None, "Side of the training images; unset: the net's.", bounds=(1, MOST_PIXELS)
    )
    progressive_resizing: tuple[tuple[int, int], ...] = option(
        (),
        "SIZE:STEP, …: sizes of the training images and the steps they begin at, such as "
        "128:0,192:2000,250:4000; the last is the net's.",
        parse=_size_and_step,
    )
    gradient_accumulation_steps: int = option(
        1, "Batches whose gradients make one update.", bounds=(1, None)
    )
    sync_replicas: bool = option(False, "Average the gradients of --replicas_to_aggregate batches.")
    replicas_to_aggregate: int = option(
        1,
        "With --sync_replicas: batches that make one update, over all workers together.",
        bounds=(1, None),
    )
    seed: int = option(
        0,
        "Seed of the first weights, the order of the data and dropout.",
        bounds=(0, 2**32 - 1),  # of NumPy
    )
    deterministic: bool = option(
        False,
        "Give the same numbers in each run with this seed; may be slower. A run of several clones "
        "that is interrupted goes on with batch norms that differ in the last bits.",
    )

    def check(self) -> None:
        if self.sync_replicas and self.gradient_accumulation_steps > 1:
            raise UsageError(
                "--sync_replicas and --gradient_accumulation_steps are two words for the same: "
                "leave one of them out."
            )

    def images_per_step(self, num_workers: int, num_replicas: int) -> int:
        """Images of an update, over all replicas."""
        return self.batch_size * self.accumulation(num_workers) * num_replicas

    def too_large(self) -> InputError:
        """What to say where memory is short."""
        size, kept = self.batch_size, "The run's files are untouched."
        if size == 1:
            return InputError(
                f"Memory is short of a single image; --train_image_size must be less. {kept}"
            )
        return InputError(
            "is more than memory holds.",
            option="batch_size",
            value=size,
            remedy=f"Try --batch_size={size // 2}, with --gradient_accumulation_steps="
            f"{2 * self.gradient_accumulation_steps} for updates from as many images; "
            f"--batch_size=auto finds what fits, and --recompute needs less. {kept}",
        )

    def accumulation(self, num_workers: int) -> int:
        """Batches of one worker that make an update; raises UsageError where shares are uneven."""
        if not self.sync_replicas:
            return self.gradient_accumulation_steps
        if self.replicas_to_aggregate % num_workers:
            raise UsageError(
                f"can't be shared evenly by {num_workers} workers.",
                option="replicas_to_aggregate",
                value=self.replicas_to_aggregate,
            )
        return self.replicas_to_aggregate // num_workers


@options
class SavingOptions(Options):
    """Checkpoints and logs."""

    train_dir: str = option(
        "/tmp/tfmodel/", "Folder for checkpoints, run.json and events.", path=True
    )
    save_interval_secs: int = option(
        600, "Seconds between two checkpoints; 0: only at the end.", bounds=(0, None)
    )
    keep_checkpoints: int = option(
        5, "How many of the newest checkpoints stay; 0: all.", bounds=(0, None)
    )
    keep_checkpoint_every_n_hours: float = option(
        10_000.0,
        "Of the checkpoints that --keep_checkpoints removes, keep one every so many hours.",
        bounds=(0, None),
    )
    on_nan: str = option(
        "stop",
        "When the loss is NaN or infinite: stop, or go on from the last checkpoint, if there is "
        "one yet, with the data after the bad batch, three times at most.",
        choices=("stop", "rollback"),
    )
    log_every_n_steps: int = option(10, "Steps between two lines.", bounds=(0, None))
    save_summaries_secs: int = option(
        600,
        "Seconds between two sets of input images and of histograms in TensorBoard; 0: none.",
        bounds=(0, None),
    )
    add_image_summaries: bool = option(
        True, "Show training images in TensorBoard every --save_summaries_secs."
    )
    profile_steps: tuple[int, ...] = option(
        (), "FIRST,LAST: record these steps for TensorBoard's profiler."
    )

    def check(self) -> None:
        steps = self.profile_steps
        if steps and (len(steps) != 2 or not 1 <= steps[0] <= steps[1]):
            raise UsageError("--profile_steps: write the first and the last step, such as 10,20.")


@options
class ValidationOptions(Options):
    """Evaluation inside the run."""

    eval_every_n_steps: int = option(
        0,
        "Steps between two evaluations on --eval_split_name, in the arithmetic of --precision; the "
        "best checkpoint is kept in best/ of --train_dir. 0: none.",
        bounds=(0, None),
    )
    eval_split_name: str = option("validation", "Split of these evaluations.")
    eval_tfrecord_file: str | None = option(
        None,
        "Files of these evaluations, where --tfrecord_file is trained on.",
        path=True,
        remote=True,
    )
    early_stopping_patience: int = option(
        0,
        "Stop after this many evaluations without a better accuracy; 0: never.",
        bounds=(0, None),
    )

    average_checkpoints: int = option(
        0,
        "At the end, average the weights of so many of the last evaluations, renew batch norm's "
        "statistics, and take the average for the best checkpoint where its accuracy is higher; "
        "0: not.",
        bounds=(0, None),
    )

    def check(self) -> None:
        if self.average_checkpoints == 1:
            raise UsageError("an average needs two.", option="average_checkpoints", value=1)
        names = ("early_stopping_patience", "eval_tfrecord_file", "average_checkpoints")
        for name in names:
            if getattr(self, name) and not self.eval_every_n_steps:
                raise UsageError(f"--{name} needs --eval_every_n_steps.")


@options
class RestoringOptions(Options):
    """Where training starts."""

    checkpoint_path: str | None = option(
        None,
        "What to fine-tune from: a checkpoint (file, folder or archive of TF-Slim's zoo), a .keras "
        "or .h5 file, or the word pretrained to download; ignored on resuming.",
        path=True,
    )
    checkpoint_exclude_scopes: tuple[str, ...] = option(
        (),
        "Comma-separated name prefixes that are not restored; the word head stands for those of "
        "the net's classifiers.",
    )
    ignore_missing_vars: bool = option(False, "Start variables missing in the checkpoint anew.")
    resume_from_best: bool = option(
        False,
        "Go on from the best checkpoint of --train_dir, once, and not from the last: such as with "
        "a lower --learning_rate.",
    )
    restore_dry_run: bool = option(
        False, "Show what --checkpoint_path would give the net, and stop."
    )

    def check(self) -> None:
        if self.restore_dry_run and not self.checkpoint_path:
            raise UsageError("--restore_dry_run shows what --checkpoint_path gives: add it.")


@options
class ScopesOptions(Options):
    """What is trained."""

    trainable_scopes: tuple[str, ...] = option(
        (),
        "Comma-separated scopes to train (matched from the start of a name); the word head stands "
        "for those of the net's classifiers, here and in the next two.",
    )
    unfreeze: tuple[tuple[int, str], ...] = option(
        (),
        "STEP:SCOPE, …: scopes that --trainable_scopes leaves out and that are trained from a step "
        "on, such as 1000:InceptionV3/Mixed_7.",
        parse=_step_and_scope,
    )
    learning_rate_multipliers: tuple[tuple[str, float], ...] = option(
        (),
        "Factors on the learning rate by scope, such as InceptionV3/Logits:10.",
        parse=_scope_and_factor,
    )


@options
class BatchNormOptions(Options):
    """Batch norm."""

    batch_norm_decay: float | None = option(
        None,
        "Decay of batch norm's moving statistics; unset: the net's (often 0.9997), which is too "
        "slow for runs of less than some 15,000 steps.",
        bounds=(0, 1),
    )
    frozen_batch_norm: str = option(
        "inference",
        "Batch norm of frozen scopes: 'inference' uses and keeps its stored statistics; 'slim' "
        "moves them on, as TF-Slim does.",
        choices=("inference", "slim"),
    )
    sync_batch_norm: bool = option(
        False,
        "Normalise by the batches of all clones and workers together, so that N of them give the "
        "numbers of one with a batch N times as large. For small batches: each layer waits for the "
        "others twice a step, and XLA is left out.",
    )
    recalibrate_batch_norm: int = option(
        0,
        "At the end of the run, also of one that has ended before, replace batch norm's moving "
        "statistics by the means over this many batches; 0: keep them.",
        bounds=(0, None),
    )


@options
class FeatureCacheOptions(Options):
    """Frozen layers computed once."""

    feature_cache: str = option(
        "auto",
        "Compute the layers before the first of --trainable_scopes once an image and keep the "
        "result. auto: where training stays the same, which needs --augment=false or "
        "--feature_cache_augmentations.",
        choices=("auto", "on", "off"),
    )
    feature_cache_augmentations: int = option(
        0,
        "Draws of each image that the cache holds; epochs take turns with them.",
        bounds=(0, None),
    )
    feature_cache_storage: str = option(
        "disk",
        "Where the cache is: in --train_dir, found again on resuming, or in memory.",
        choices=("disk", "memory"),
    )
    feature_cache_dtype: str = option(
        "float32",
        "As which numbers features are kept; float16 takes half the room and rounds them.",
        choices=("float32", "float16"),
    )


@options
class OptimizerOptions(Options):
    """Optimizer."""

    optimizer: str = option(
        "rmsprop",
        "Optimizer; the first seven compute as TensorFlow 1 did.",
        choices=OPTIMIZERS,
    )
    weight_decay: float = option(
        4e-5, "L2 factor on the weights that TF-Slim regularises.", bounds=(0, None)
    )
    adadelta_rho: float = option(0.95, "Decay rate of adadelta.")
    adagrad_initial_accumulator_value: float = option(0.1, "Start of adagrad's accumulators.")
    adam_beta1: float = option(0.9, "Decay of adam's first moment.", bounds=(0, 1))
    adam_beta2: float = option(0.999, "Decay of adam's second moment; of lion, unset: 0.99.")
    opt_epsilon: float = option(
        1.0, "Epsilon of adadelta, adam, rmsprop; of newer ones, unset: 1e-7."
    )
    ftrl_learning_rate_power: float = option(-0.5, "FTRL's learning rate power.")
    ftrl_initial_accumulator_value: float = option(0.1, "Start of FTRL's accumulators.")
    ftrl_l1: float = option(0.0, "FTRL's L1 strength.")
    ftrl_l2: float = option(0.0, "FTRL's L2 strength.")
    momentum: float = option(0.9, "Momentum of --optimizer=momentum.", bounds=(0, 1))
    rmsprop_momentum: float = option(0.9, "Momentum of rmsprop.", bounds=(0, 1))
    rmsprop_decay: float = option(0.9, "Decay of rmsprop.", bounds=(0, 1))
    clip_gradient_norm: float | None = option(
        None, "Largest global norm of the gradients; 0: any.", bounds=(0, None)
    )
    clip_gradient_value: float | None = option(
        None, "Largest magnitude in a gradient; 0: any.", bounds=(0, None)
    )
    moving_average_decay: float | None = option(
        None, "Decay of the variables' moving averages; unset: none are kept."
    )

    def check(self) -> None:
        decay = self.moving_average_decay
        if decay is not None and not 0 < decay < 1:
            raise UsageError(
                "must lie between 0 and 1.", option="moving_average_decay", value=decay
            )


@options
class LossOptions(Options):
    """Loss."""

    label_smoothing: float = option(0.0, "Amount of label smoothing.", bounds=(0, 1))
    focal_gamma: float = option(
        0.0, "Exponent of the focal loss; 0 is plain cross entropy.", bounds=(0, None)
    )
    class_weights: str | None = option(
        None,
        "balanced: rare classes weigh more in the loss, as much as frequent ones in sum; or "
        "CLASS:WEIGHT, … with 1 for the others.",
    )


@options
class ScheduleOptions(Options):
    """Learning rate."""

    learning_rate: float = option(0.01, "First learning rate.", bounds=(0, None))
    end_learning_rate: float = option(
        0.0001, "Last rate of polynomial, cosine and one_cycle.", bounds=(0, None)
    )
    learning_rate_decay_type: str = option(
        "exponential", "How the learning rate falls.", choices=DECAYS
    )
    learning_rate_decay_factor: float = option(0.94, "Factor of exponential decay.")
    num_epochs_per_decay: float = option(2.0, "Epochs between two decays.", bounds=(0, None))
    warmup_epochs: float = option(0.0, "Epochs in which the rate rises from 0.", bounds=(0, None))
    warmup_steps: int = option(0, "The same in steps.", bounds=(0, None))
    find_learning_rate: bool = option(
        False,
        "Try rates from tiny to large in 100 steps, plot the losses into learning_rates.png of "
        "--train_dir, name a good rate, and stop; nothing is trained.",
    )

    def check(self) -> None:
        if self.warmup_epochs and self.warmup_steps:
            raise UsageError("--warmup_epochs and --warmup_steps: leave one of them out.")


@options
class MachineOptions(Options):
    """Machines."""

    num_clones: int = option(1, "Copies of the net: one a GPU.", bounds=(1, None))
    clone_on_cpu: bool = option(False, "Train on the processor, also where there are GPUs.")
    worker_hosts: tuple[str, ...] = option(
        (), "Comma-separated host:port of all workers (or set TF_CONFIG)."
    )
    worker_replicas: int = option(1, "Number of workers.", bounds=(1, None))
    task: int = option(0, "Index of this worker in --worker_hosts.", bounds=(0, None))
    worker_wait_secs: int = option(
        600, "Longest time to wait for the other workers at the start.", bounds=(1, None)
    )
    precision: str = option(
        "auto",
        "Arithmetic of the layers; weights, loss and statistics stay float32. auto: bfloat16 where "
        "the processor or the GPU has it. tf32: float32 whose factors GPUs round to 10 bits.",
        choices=("auto", "float32", "tf32", "bfloat16"),
    )
    gradient_reduction: str = option(
        "float32",
        "As which numbers gradients go between clones and workers: bfloat16 halves the bytes and "
        "rounds to 8 bits. The clones of one machine with GPUs know float32 only.",
        choices=("float32", "bfloat16"),
    )
    jit_compile: str = option(
        "auto", "XLA; auto: on for GPUs, off for processors.", choices=("auto", "on", "off")
    )
    recompute: bool = option(
        False,
        "Keep little of the forward pass and compute it anew for the gradients, with the same "
        "result: larger batches or images fit into memory, and a step takes about a third longer.",
    )
    compile_cache_dir: str | None = option(
        None,
        "Folder that keeps what XLA compiled for a GPU, for the next start; unset: "
        "~/.cache/slim_image_classifiers/xla; empty: none.",
        path=True,
    )

    def check(self) -> None:
        hosts, by_environment = self.worker_hosts, os.environ.get("TF_CONFIG")
        for host in hosts:
            found = re.fullmatch(r".+:(\d{1,5})", host)
            if not found or not 0 < int(found[1]) < 1 << 16:
                raise UsageError(
                    "write HOST:PORT, with a port from 1 to 65535.",
                    option="worker_hosts",
                    value=host,
                )
        if twice := [host for host in hosts if hosts.count(host) > 1]:
            raise UsageError(
                f"{twice[0]} stands there twice: each worker has a port of its own.",
                option="worker_hosts",
                value=",".join(hosts),
            )
        if self.task and not hosts and not by_environment:
            raise UsageError(
                "is the number of a worker, but --worker_hosts lists none.",
                option="task",
                value=self.task,
                remedy="Add --worker_hosts=HOST:PORT,HOST:PORT, the same on every worker.",
            )
        if self.task and not by_environment and self.task >= len(hosts):
            raise UsageError(
                f"--worker_hosts lists {len(hosts)} workers, and the first is 0.",
                option="task",
                value=self.task,
            )
        if self.worker_replicas > 1 and not hosts and not by_environment:
            raise UsageError(
                "needs the workers' addresses: --worker_hosts=HOST:PORT,HOST:PORT, the same on "
                "every worker, with --task=0, 1, …",
                option="worker_replicas",
                value=self.worker_replicas,
            )
        if hosts and "worker_replicas" in self.given and len(hosts) != self.worker_replicas:
            raise UsageError(
                f"but --worker_hosts lists {len(hosts)}.",
                option="worker_replicas",
                value=self.worker_replicas,
            )


@options
class TrackingOptions(Options):
    """Tracking."""

    tracking: str = option(
        "none",
        "mlflow: also log to MLflow (extra mlflow): a training's parameters, metrics and curves; "
        "an evaluation's numbers, tables, pictures and page, and an export's files, in the run "
        "that they are of. An export of a training that was not tracked gets a run of its own.",
        choices=("none", "mlflow"),
    )


@options
class ExportTrackingOptions(TrackingOptions):
    """Tracking."""

    register: str | None = option(
        None,
        "Name in MLflow's model registry: the SavedModel becomes a version of it, with signature "
        "and example. The alias best moves to the version that is more accurate on the same "
        "examples: those of --dataset_split_name.",
    )

    def check(self) -> None:
        if self.register is None:
            return
        if self.tracking != "mlflow":
            raise UsageError("--register needs --tracking=mlflow.")
        if not self.register.strip() or set(self.register) & set("/:"):
            raise UsageError(
                "a name is text without / and :.", option="register", value=self.register
            )


@options
class TrainingTrackingOptions(TrackingOptions):
    """Tracking."""

    mlflow_uri: str | None = option(
        None,
        "MLflow's store, such as sqlite:///mlflow.db or a server's address; unset: MLflow's own "
        "choice, mlflow.db in the working folder.",
    )

    experiment: str | None = option(
        None, "MLflow's experiment, the list that runs are compared in; unset: the dataset's name."
    )

    def check(self) -> None:
        for name in ("mlflow_uri", "experiment"):
            if getattr(self, name) and self.tracking != "mlflow":
                raise UsageError(f"--{name} needs --tracking=mlflow.")


@options
class TrainingOptions(Options):
    """Training."""

    length: LengthOptions = group(LengthOptions)
    batch: BatchOptions = group(BatchOptions)
    saving: SavingOptions = group(SavingOptions)
    validation: ValidationOptions = group(ValidationOptions)
    restoring: RestoringOptions = group(RestoringOptions)
    download: DownloadOptions = group(DownloadOptions)
    scopes: ScopesOptions = group(ScopesOptions)
    schedule: ScheduleOptions = group(ScheduleOptions)
    optimizer: OptimizerOptions = group(OptimizerOptions)
    loss: LossOptions = group(LossOptions)
    batch_norm: BatchNormOptions = group(BatchNormOptions)
    feature_cache: FeatureCacheOptions = group(FeatureCacheOptions)
    machine: MachineOptions = group(MachineOptions)
    tracking: TrainingTrackingOptions = group(TrainingTrackingOptions)

    @property
    def train_dir(self) -> str:
        return self.saving.train_dir

    def check(self) -> None:
        if self.batch_norm.sync_batch_norm and self.machine.jit_compile == "on":
            raise UsageError(
                "--sync_batch_norm and --jit_compile=on: XLA can't wait for other replicas within "
                "a net. Leave one of them out."
            )
        count, kept = self.validation.average_checkpoints, self.saving.keep_checkpoints
        if 0 < kept < count:
            raise UsageError(
                f"--keep_checkpoints={kept} keeps fewer: raise it.",
                option="average_checkpoints",
                value=count,
            )
        if count and self.optimizer.moving_average_decay is not None:
            raise UsageError(
                "--average_checkpoints and --moving_average_decay both average the weights: leave "
                "one of them out."
            )
