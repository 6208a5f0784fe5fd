"""What distinguishes a training from others: one table for MLflow and TensorBoard."""

from datasets.tfrecord_dataset import Dataset
from foundation import options as foundation_options
from foundation import reference
from nets import layers, nets_factory
from nets.options import DownloadOptions
from preprocessing import preprocessing_factory
from runs.config import RunConfig
from runs.options import (
    LegacyOptions,
    ListingOptions,
    PreviewOptions,
    SavingOptions,
    SourceOptions,
    TrackingOptions,
    TrainOptions,
)
from training.run import Run

# Groups, and options of others, that say where and how often, and not what is trained.
_ASIDE = (
    *(ListingOptions, SourceOptions, SavingOptions, DownloadOptions, TrackingOptions),
    *(PreviewOptions, LegacyOptions),
)
_PLACES = {
    *("num_preprocessing_threads", "max_bad_records", "cache", "data_service", "worker_hosts"),
    *(
        "task",
        "compile_cache_dir",
        "find_learning_rate",
        "restore_dry_run",
        "feature_cache_storage",
    ),
}
_SMALL_CNN = "small_cnn"


def table(
    options: TrainOptions, config: RunConfig, dataset: Dataset, run: Run
) -> dict[str, object]:
    """Name → value: all options that change what is trained, as they are in effect.

    What is unset and has no value in effect is left out.

    Args:
      options: of the training.
      config: what the run is.
      dataset: the training split.
      run: with its net.
    """
    found = {}
    for group in foundation_options.all_groups(options):
        if isinstance(group, _ASIDE):
            continue
        for one in foundation_options.listed_with_defaults(group):
            if one.default not in (None, (), "") and one.name not in _PLACES:
                found[one.name] = one.default
    found |= _in_effect(config, run) | _data(dataset)
    plain = (bool, int, float, str)
    return {k: v if isinstance(v, plain) else reference.text(v) for k, v in found.items()}


def _in_effect(config: RunConfig, run: Run) -> dict[str, object]:
    """What the options leave to net, recipe and machine."""
    parameters, trained = run.trainee.parameters()
    recipe = preprocessing_factory.get(config.preprocessing_name)
    found = {
        "model_name": config.model_name,
        "head": config.net_options.get("head", "the net's own"),
        "train_image_size": config.image_size,
        "preprocessing_name": config.preprocessing_name,
        "normalization": config.preprocessing_options.get("normalization", recipe.normalization),
        "use_grayscale": config.use_grayscale,
        "parameters": parameters,
        "trained_parameters": trained,
        "precision": run.trainee.precision.removeprefix("mixed_"),
        "images_per_step": run.images_per_step,
    }
    if config.model_name == _SMALL_CNN:
        own = nets_factory.get(_SMALL_CNN).options | config.net_options
        found |= {f"{_SMALL_CNN}_{name}": v for name, v in own.items() if name != "head"}
    norms = (layer for layer in run.trainee.model.layers if isinstance(layer, layers.BatchNorm))
    decay = max((norm.decay for norm in norms), default=None)
    return found if decay is None else found | {"batch_norm_decay": decay}


def _data(dataset: Dataset) -> dict[str, object]:
    return {
        "dataset": dataset.name,
        "dataset_split": dataset.split,
        "dataset_fingerprint": dataset.fingerprint[:16],
        "num_examples": dataset.num_examples,
        "num_classes": dataset.num_classes,
    }
