"""Training, validation, test: by the source's word, else by a hash of the image.

The hash makes the choice stable: more images move none of the earlier ones, and exact duplicates
share a split.
"""

import os
import re
from collections.abc import Collection

from foundation.errors import InputError

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")

# For sources without splits, where the user says nothing. TF-Slim kept back a tenth of its flowers;
# collections of a few hundred photographs need more for a figure that means something.
DEFAULT_VALIDATION_FRACTION = 0.2

SYNONYMS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "valid", "val"),
    TEST: ("test", "testing"),
}
_NAMES = {word: split for split, words in SYNONYMS.items() for word in words}


def named(word: str) -> str:
    """The split that a folder or a table calls so, such as valid, test_set or val2017; else ""."""
    return _NAMES.get(re.sub(r"[ _-]?(set|data|images|\d{4})$", "", word.strip().lower()), "")


def of_folders(path: str) -> str:
    """The split that a folder in a path with `/` is called by, the first such; else ""."""
    *folders, _ = path.split("/")
    return next(filter(None, map(named, folders)), "")


def of_file(path: str) -> str:
    """The split that a word in a file's name tells, such as train_list.mat; else ""."""
    words = re.split(r"[^a-z]+", os.path.splitext(os.path.basename(path))[0].lower())
    return next(filter(None, map(named, words)), "")


def by_hash(digest: bytes, validation_fraction: float, test_fraction: float) -> str:
    """The split of an image with this SHA-256.

    Each fraction takes its share from an end of its own, so that changing one of them moves no
    image between training and the other.
    """
    place = int.from_bytes(digest[:6], "big") / 2**48  # exact in a float, and below 1
    if place < validation_fraction:
        return VALIDATION
    if place >= 1 - test_fraction:
        return TEST
    return TRAIN


class Choice:
    """Which split each photograph goes to.

    A split that the source names stays. The fractions take from the photographs without one and,
    when they are asked for, from those for training. Unasked, and with no word from the source,
    a fifth is kept back for validation.
    """

    def __init__(
        self,
        given: Collection[str],
        validation_fraction: float | None = None,
        test_fraction: float | None = None,
    ):
        """Raises InputError for fractions that make no sense, or a split that is there already.

        Args:
          given: the splits that the source names; "" stands for no name.
        """
        self.named = set(given) - {""}
        self.trains = bool({"", TRAIN} & set(given))  # else a collection for evaluation alone
        asked = {VALIDATION: validation_fraction, TEST: test_fraction}
        for split, fraction in asked.items():
            if fraction and split in self.named:
                raise InputError(
                    f"the photographs come with a {split} split already.",
                    option=f"{split}_fraction",
                    value=f"{fraction:g}",
                    remedy="Leave the flag out.",
                )
        self._takes_from_training = any(fraction is not None for fraction in asked.values())
        default = 0.0 if self.named else DEFAULT_VALIDATION_FRACTION
        self._validation = default if validation_fraction is None else validation_fraction
        self._test = test_fraction or 0.0
        if self._validation + self._test >= 1:
            raise InputError(
                f"--validation_fraction and --test_fraction are {self._validation:g} and "
                f"{self._test:g} together: nothing is left for training."
            )

    def of(self, given: str, digest: bytes) -> str:
        """The split of a photograph with this SHA-256 for which the source says `given`."""
        if given in (VALIDATION, TEST) or (given and not self._takes_from_training):
            return given
        return by_hash(digest, self._validation, self._test)
