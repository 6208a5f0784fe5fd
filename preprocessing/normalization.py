"""From pixels in 0..255 to the numbers that a net is fed, and back."""

import dataclasses
import io
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from preprocessing import ops

# Of ImageNet, as PyTorch's models take them: channels in 0..1.
TORCH_MEANS = (0.485, 0.456, 0.406)
TORCH_STDS = (0.229, 0.224, 0.225)
_VGG_MEANS = (123.68, 116.78, 103.94)  # TF-Slim's
_CAFFE_MEANS = (103.939, 116.779, 123.68)  # of blue, green, red


@dataclasses.dataclass(frozen=True)
class Normalization:
    """`apply` takes float32 [..., H, W, C] in 0..255; `undo` goes back, where it can.

    `value_range` is the least and the greatest value, or None where they depend on the image;
    `size` the one side in pixels of the images that it takes, or None for any.
    """

    apply: Callable[[tf.Tensor], tf.Tensor]
    undo: Callable[[tf.Tensor], tf.Tensor] | None
    value_range: tuple[float, float] | None
    needs_color: bool = False
    size: int | None = None


def _linear(scale: Sequence[float], offset: Sequence[float]) -> Normalization:
    """x * scale + offset, for each channel or for all."""
    scale, offset = (tuple(map(float, values)) for values in (scale, offset))
    ends = [y for a, b in zip(scale, offset, strict=True) for y in (b, 255 * a + b)]
    return Normalization(
        lambda image: image * scale + offset,
        lambda image: (image - offset) / scale,
        (min(ends), max(ends)),
        needs_color=len(scale) == 3,
    )


def _torch(means: Sequence[float], stds: Sequence[float]) -> Normalization:
    scale = [1 / (255 * std) for std in stds]
    return _linear(scale, [-mean / std for mean, std in zip(means, stds, strict=True)])


def _caffe() -> Normalization:
    return Normalization(
        lambda image: image[..., ::-1] - _CAFFE_MEANS,
        lambda image: (image + _CAFFE_MEANS)[..., ::-1],
        (-max(_CAFFE_MEANS), 255 - min(_CAFFE_MEANS)),
        needs_color=True,
    )


_DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


def _zca(path: str | None) -> Normalization:
    try:
        with tf.io.gfile.GFile(path, "rb") as raw, np.load(io.BytesIO(raw.read())) as file:
            size, mean, matrix = int(file["size"]), file["mean"], file["matrix"]
    except (tf.errors.OpError, *_DAMAGES) as error:
        raise ValueError(
            f"--normalization=zca: {path} is missing or damaged ({error}). Restore it, or convert "
            "the photographs again with --zca_size and --overwrite."
        ) from error
    with tf.device("CPU:0"):  # one copy, which no graph of the input pipeline holds
        mean, matrix = tf.constant(mean), tf.constant(matrix)

    def apply(image: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(image, [-1, mean.shape[0]]) * (1 / 255) - mean
        return tf.ensure_shape(tf.reshape(flat @ matrix, tf.shape(image)), image.shape)

    return Normalization(apply, None, None, needs_color=True, size=size)


NAMES = ("inception", "vgg", "lenet", "torch", "caffe", "whiten", "zca")


def get(
    name: str,
    means: Sequence[float] = TORCH_MEANS,
    stds: Sequence[float] = TORCH_STDS,
    zca_file: str | None = None,
) -> Normalization:
    """The normalisation of that name.

    Args:
      name: inception: -1..1; vgg: 0..255 less TF-Slim's channel means; lenet: -1..0.992; torch:
        0..1 less `means`, divided by `stds`; caffe: BGR in 0..255 less its channel means; whiten:
        each image less its mean, divided by its deviation; zca: whitened as `zca_file` says.
      means, stds: of torch, a number for each of red, green and blue, in 0..1.
      zca_file: of zca, what convert_data.py wrote.

    Raises:
      ValueError: no such name, not three means and deviations, or no such file.
    """
    if name == "torch":
        if len(means) != 3 or len(stds) != 3 or min(stds) <= 0:
            raise ValueError("--means and --stds: three numbers each, the deviations above 0.")
        return _torch(means, stds)
    table = {
        "inception": lambda: _linear([2 / 255], [-1]),
        "vgg": lambda: _linear([1, 1, 1], [-mean for mean in _VGG_MEANS]),
        "lenet": lambda: _linear([1 / 128], [-1]),
        "caffe": _caffe,
        "whiten": lambda: Normalization(ops.standardize, None, None),
        "zca": lambda: _zca(zca_file),
    }
    if name not in table:
        raise ValueError(f"--normalization={name}: one of {', '.join(NAMES)}.")
    return table[name]()
