"""Which preprocessing recipe a run or an export has, and the files that belong to it."""

import hashlib
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from datasets import storage
from datasets.conversion.destination import WHITENING
from foundation import documents
from foundation.errors import InputError
from nets import nets_factory
from preprocessing import preprocessing_factory, zca
from preprocessing.options import (
    NO_AUGMENTATION,
    PLAIN_PIXELS,
    AugmentationOptions,
    PixelsOptions,
)
from preprocessing.preprocessing_factory import Recipe
from runs import config as run_config
from runs.config import RunConfig


def recipe_name(name: str) -> str:
    """The recipe that --preprocessing_name means: its own name, a net's, or that of a net's family.

    Raises:
      InputError: it is none of these.
    """
    if name in preprocessing_factory.RECIPES:
        return name
    nets = nets_factory.NETS
    if name in nets:
        return nets[name].preprocessing
    # As in TF-Slim, "resnet" or "nasnet" stand for the recipe of these nets, or of most of them.
    if family := [net.preprocessing for other, net in nets.items() if other.startswith(f"{name}_")]:
        return statistics.mode(family)
    return preprocessing_factory.get(name).name


def check_known(config: RunConfig, said_by: str) -> None:
    """Raises InputError where the recipe that the file `said_by` names is none of ours."""
    try:
        preprocessing_factory.get(config.preprocessing_name)
    except InputError as error:
        raise InputError(
            f"{said_by}: preprocessing_name {config.preprocessing_name!r} {error.problem}"
        ) from error


def recipe_of(
    config: RunConfig,
    path_of: Callable[[str], str],
    sizes: Sequence[int] = (),
    augmentation: AugmentationOptions = NO_AUGMENTATION,
    said_by: str = "",
) -> Recipe:
    """The preprocessing of a run or an export.

    Args:
      config: of the run.
      path_of: from the name of a file that belongs to the run to its path.
      sizes: sides in pixels that are wanted besides the run's own.
      augmentation: what training draws besides what the recipe draws.
      said_by: the file that has `config`, for messages; run.json of the run where it is left out.

    Raises:
      InputError: there is no such recipe, or it can't make images of one of the sizes, or none
        without colour.
    """
    check_known(config, said_by or path_of(run_config.FILE_NAME))
    given = dict(config.preprocessing_options)
    zca_file = given.pop("zca_file", None)
    try:
        pixels = documents.of(PixelsOptions, given)
    except ValueError as error:
        raise InputError(f"preprocessing_options of the run can't be used ({error}).") from error
    if pixels.normalization == "zca" and not zca_file:
        raise InputError("preprocessing_options of the run name no zca_file for the normalisation.")
    whitening = zca.Whitening(path_of(zca_file)) if zca_file else None
    recipe = preprocessing_factory.get(config.preprocessing_name, pixels, augmentation, whitening)
    if config.use_grayscale and recipe.needs_color:
        raise InputError(
            f"--use_grayscale does not go with the recipe {recipe.name} and the normalisation "
            f"{pixels.normalization or recipe.normalization}, which has a mean for each of three "
            "channels.",
            remedy="Take --normalization=inception or whiten.",
        )
    for size in (config.image_size, *sizes):
        if recipe.size not in (None, size):
            raise InputError(
                f"{path_of(zca_file)} is fitted to images of {recipe.size} pixels, and {size} are "
                "wanted.",
                option="normalization",
                value="zca",
                remedy=f"Take {recipe.size} (--train_image_size), or convert the photographs again "
                f"with --zca_size={size}.",
            )
    return recipe


def pixels_of_new_run(pixels: PixelsOptions, shards: Sequence[str]) -> dict[str, Any]:
    """The options as run.json has them: what differs from the defaults, and its zca file's name.

    Args:
      pixels: the options.
      shards: the dataset's files.

    Raises:
      InputError: the normalisation is zca, and the dataset has no whitening.
    """
    names = ("fit", "normalization", "equalize", "means", "stds")
    found = {name: getattr(pixels, name) for name in names}
    found = {name: value for name, value in found.items() if value != getattr(PLAIN_PIXELS, name)}
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}
    if pixels.normalization == "zca":
        with storage.open_file(zca_file_of(shards)) as file:
            digest = hashlib.sha256(file.read())
        # By its content, so that a cache of features can tell one from another.
        found["zca_file"] = f"zca_{digest.hexdigest()[:8]}.npz"
    return found


def zca_file_of(shards: Sequence[str]) -> str:
    """The file of the whitening that was fitted to a dataset.

    Raises:
      InputError: there is none.
    """
    folder = os.path.dirname(shards[0])
    for path in (f"{shards[0]}.{WHITENING}", os.path.join(folder, WHITENING)):
        if storage.exists(path):
            return path
    raise InputError(
        f"{folder or '.'} has no {WHITENING}.",
        option="normalization",
        value="zca",
        remedy="Convert the photographs again with --zca_size=32 --overwrite, 32 being the side of "
        "the images to train on.",
    )
