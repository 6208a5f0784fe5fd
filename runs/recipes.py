"""The recipe of a run: from what run.json or export.json says to a preprocessing."""

from collections.abc import Callable, Sequence

from foundation.errors import InputError
from preprocessing import preprocessing_factory
from preprocessing.preprocessing_factory import Recipe
from runs.config import RunConfig


def recipe_of(
    config: RunConfig, path_of: Callable[[str], str], sizes: Sequence[int] = (), **options
) -> Recipe:
    """The preprocessing of a run.

    Args:
      config: of the run.
      path_of: from the name of a file that belongs to the run to its path.
      sizes: sides in pixels that are wanted besides the run's own.
      options: of `preprocessing_factory.get`, besides the run's own.

    Raises:
      InputError: it can't make images of one of the sizes, or none without colour.
    """
    pixels = dict(config.preprocessing_options)
    if pixels.get("zca_file"):
        pixels["zca_file"] = path_of(pixels["zca_file"])
    recipe = preprocessing_factory.get(config.preprocessing_name, **pixels, **options)
    if config.use_grayscale and recipe.needs_color:
        raise InputError(
            f"--use_grayscale does not go with the recipe {recipe.name} and the normalisation "
            f"{pixels.get('normalization') or recipe.normalization}, which has a mean for each of "
            "three channels.",
            remedy="Take --normalization=inception or whiten.",
        )
    for size in (config.image_size, *sizes):
        if recipe.size not in (None, size):
            raise InputError(
                f"{pixels['zca_file']} is fitted to images of {recipe.size} pixels, and {size} are "
                "wanted.",
                option="normalization",
                value="zca",
                remedy=f"Take {recipe.size} (--train_image_size), or convert the photographs again "
                f"with --zca_size={size}.",
            )
    return recipe
