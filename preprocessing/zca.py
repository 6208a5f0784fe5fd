"""ZCA whitening: fitted while photographs are converted, applied to what a net is fed.

Whitened images have pixels that are not correlated with each other and are all of variance one, and
look as much like the images as that allows (Krizhevsky, "Learning multiple layers of features from
tiny images", 2009, appendix A). The processes of a conversion import this without TensorFlow.
"""

import io
import zipfile

import numpy as np

from foundation import files
from foundation.errors import InputError

# More photographs hardly change a covariance, and records come in random order.
MAX_EXAMPLES = 20_000
_AT_A_TIME = 256


class Fit:
    """Collects images, then finds the matrix that whitens them."""

    def __init__(self, size: int, epsilon: float):
        """Nothing is collected yet.

        Args:
          size: side of the images in pixels.
          epsilon: added to each variance before it is brought to one, on the scale of values in
            0..1, so that directions with hardly any variance are not blown up.
        """
        self._size, self._epsilon = size, epsilon
        width = 3 * size * size
        self._sum, self._products = np.zeros(width), np.zeros((width, width))
        self._count, self._waiting = 0, []

    def shrunk(self, encoded: bytes) -> bytes:
        """The whole image out of proportion, uint8 [size, size, 3] in RGB; any thread may call it.

        Raises any exception where the image does not decode.
        """
        from PIL import Image

        image = Image.open(io.BytesIO(encoded))
        image.draft("RGB", (2 * self._size, 2 * self._size))
        size = self._size, self._size
        return image.convert("RGB").resize(size, Image.Resampling.BILINEAR).tobytes()

    def add(self, image: bytes) -> None:
        """Takes what `shrunk` returned; beyond MAX_EXAMPLES images it does nothing."""
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

        Raises:
          InputError: fewer than two images.
          OSError: the file can't be written.
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
        with files.whole(path, "wb") as file:
            np.savez(
                file,
                size=np.int64(self._size),
                mean=np.float32(mean + 0.5),
                matrix=np.float32((directions * scales) @ directions.T),
            )


class Whitening:
    """A fit to apply: images of values in 0..1, flattened, become (image - mean) @ matrix.

    Attributes:
      size: side in pixels of the images that it was fitted to, and that it takes.
    """

    def __init__(self, path: str):
        """Reads what `Fit.save` wrote; the path may be a remote one, such as gs://bucket/zca.npz.

        Raises:
          InputError: the file is missing or damaged.
        """
        import tensorflow as tf

        damages = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
        try:
            with tf.io.gfile.GFile(path, "rb") as raw:
                data = io.BytesIO(raw.read())
            with np.load(data, allow_pickle=False) as file:
                self.size, mean, matrix = int(file["size"]), file["mean"], file["matrix"]
        except (tf.errors.OpError, *damages) as error:
            raise InputError(
                f"{path} is missing or damaged ({error}).",
                option="normalization",
                value="zca",
                remedy="Restore it, or convert the photographs again with --zca_size and "
                "--overwrite.",
            ) from error
        with tf.device("CPU:0"):  # one copy, which no graph of the input pipeline holds
            self._mean, self._matrix = tf.constant(mean), tf.constant(matrix)

    def apply(self, images):
        """Whitens float32 [..., size, size, 3] in 0..255; any number of leading dimensions."""
        import tensorflow as tf

        flat = tf.reshape(images, [-1, self._mean.shape[0]]) * (1 / 255) - self._mean
        return tf.ensure_shape(tf.reshape(flat @ self._matrix, tf.shape(images)), images.shape)
