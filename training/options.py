"""How a run trains, as plain values."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train; fields are named, and explained, as the flags of train_image_classifier.py.

    `last_step` None trains until stopped. `progressive_resizing` holds pairs of image size and
    step, `unfreeze` of step and scope, `class_weights` a factor for each class. None in
    `opt_epsilon` and `adam_beta2` means what suits the optimizer.
    """

    train_dir: str
    batch_size: int = 32
    last_step: int | None = None
    max_minutes: float | None = None
    seed: int = 0
    deterministic: bool = False
    profile_steps: tuple[int, int] | None = None
    log_every_n_steps: int = 10
    save_interval_secs: int = 600
    save_summaries_secs: int = 600
    add_image_summaries: bool = True
    keep_checkpoints: int = 5
    keep_checkpoint_every_n_hours: float = 10_000.0
    eval_every_n_steps: int = 0
    early_stopping_patience: int = 0
    on_nan: str = "stop"
    progressive_resizing: tuple[tuple[int, int], ...] = ()
    unfreeze: tuple[tuple[int, str], ...] = ()
    class_weights: tuple[float, ...] | None = None
    balanced_sampling: bool = False
    checkpoint_path: str | None = None
    checkpoint_exclude_scopes: tuple[str, ...] = ()
    cache_dir: str | None = None
    trainable_scopes: tuple[str, ...] = ()
    ignore_missing_vars: bool = False
    frozen_batch_norm: str = "inference"
    batch_norm_decay: float | None = None
    recalibrate_batch_norm: int = 0
    augment: bool = True
    feature_cache: str = "off"
    feature_cache_augmentations: int = 0
    feature_cache_storage: str = "disk"
    feature_cache_dtype: str = "float32"
    optimizer: str = "rmsprop"
    weight_decay: float = 4e-5
    adadelta_rho: float = 0.95
    adagrad_initial_accumulator_value: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float | None = None
    opt_epsilon: float | None = None
    ftrl_learning_rate_power: float = -0.5
    ftrl_initial_accumulator_value: float = 0.1
    ftrl_l1: float = 0.0
    ftrl_l2: float = 0.0
    momentum: float = 0.9
    rmsprop_momentum: float = 0.9
    rmsprop_decay: float = 0.9
    clip_gradient_norm: float | None = None
    clip_gradient_value: float | None = None
    gradient_accumulation_steps: int = 1
    learning_rate_multipliers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    learning_rate: float = 0.01
    end_learning_rate: float = 0.0001
    learning_rate_decay_type: str = "exponential"
    learning_rate_decay_factor: float = 0.94
    num_epochs_per_decay: float = 2.0
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    precision: str = "auto"
    jit_compile: str = "auto"
    tracking: str = "none"
    mlflow_uri: str | None = None
