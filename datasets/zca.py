"""ZCA whitening, fitted while photographs are converted.

Whitened images have pixels that are not correlated with each other and are all of variance one, and
look as much like the images as that allows (Krizhevsky, "Learning multiple layers of features from
tiny images", 2009, appendix A).
"""

import io
import os
from collections.abc import Sequence

import numpy as np

from datasets import storage
from foundation.errors import InputError

FILE_NAME = "zca.npz"
# More photographs hardly change a covariance, and records come in random order.
MAX_EXAMPLES = 20_000
_AT_A_TIME = 256


def pixels(encoded: bytes, size: int) -> bytes:
    """The whole image out of proportion, uint8 [size, size, 3] in RGB; `encoded` must be sound."""
    from PIL import Image

    image = Image.open(io.BytesIO(encoded))
    image.draft("RGB", (2 * size, 2 * size))
    image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return image.tobytes()


class Fit:
    """Collects images, then finds the matrix that whitens them."""

    def __init__(self, size: int, epsilon: float):
        """Nothing collected yet.

        Args:
          size: side of the images in pixels.
          epsilon: added to each variance before it is brought to one, on the scale of values in
            0..1, so that what hardly varies is not blown up.
        """
        self._size, self._epsilon = size, epsilon
        width = 3 * size * size
        self._sum, self._products = np.zeros(width), np.zeros((width, width))
        self._count, self._waiting = 0, []

    def shrunk(self, encoded: bytes) -> bytes:
        """What `add` takes of an image."""
        return pixels(encoded, self._size)

    def add(self, image: bytes) -> None:
        """Takes what `pixels` gave; beyond MAX_EXAMPLES nothing."""
        if self._count + len(self._waiting) == MAX_EXAMPLES:
            return
        self._waiting.append(image)
        if len(self._waiting) == _AT_A_TIME:
            self._collect()

    def _collect(self) -> None:
        rows = np.frombuffer(b"".join(self._waiting), np.uint8).reshape(len(self._waiting), -1)
        # Around the middle, where sums of squares lose the least.
        rows = np.float32(rows) / 255 - 0.5
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._products += rows.T @ rows
        self._count += len(self._waiting)
        self._waiting = []

    def save(self, path: str) -> None:
        """Writes mean float32 [D] and matrix float32 [D, D], D = 3 * size * size, and the size.

        An image of values in 0..1, flattened, is whitened by (image - mean) @ matrix.

        Raises:
          ValueError: fewer than two images.
          OSError: it can't be written.
        """
        if self._waiting:
            self._collect()
        if self._count < 2:
            raise InputError(
                "whitening is fitted to training photographs; there are none.", option="zca_size"
            )
        mean = self._sum / self._count
        covariance = self._products / self._count - np.outer(mean, mean)
        variances, directions = np.linalg.eigh(covariance)
        scales = 1 / np.sqrt(np.maximum(variances, 0) + self._epsilon)
        with open(path, "wb") as file:
            np.savez(
                file,
                size=np.int64(self._size),
                mean=np.float32(mean + 0.5),
                matrix=np.float32((directions * scales) @ directions.T),
            )


def beside(files: Sequence[str]) -> str:
    """The file that belongs to a dataset's shards.

    Raises:
      ValueError: there is none.
    """
    folder = os.path.dirname(files[0])
    for path in (f"{files[0]}.{FILE_NAME}", os.path.join(folder, FILE_NAME)):
        if storage.exists(path):
            return path
    raise ValueError(
        f"--normalization=zca: {folder or '.'} has no {FILE_NAME}. Convert the photographs again "
        "with --zca_size=32 --overwrite, 32 being the side of the images to train on."
    )
