"""From pixels in 0..255 to the numbers that a net is fed, and back."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from preprocessing import ops
from preprocessing.options import PLAIN_PIXELS, TORCH_MEANS, TORCH_STDS, PixelsOptions
from preprocessing.zca import Whitening

_VGG_MEANS = (123.68, 116.78, 103.94)  # TF-Slim's
_CAFFE_MEANS = (103.939, 116.779, 123.68)  # of blue, green, red


@dataclasses.dataclass(frozen=True)
class Normalization:
    """`apply` takes float32 [..., H, W, C] in 0..255; `undo` goes back, where it can.

    `value_range` is the least and the greatest value, or None where they depend on the image;
    `size` the one side in pixels of the images that it takes, or None for any; `moments` are mean
    and deviation where it is (x - mean) / deviation, a value for each of R, G and B or one for all.
    """

    apply: Callable[[tf.Tensor], tf.Tensor]
    undo: Callable[[tf.Tensor], tf.Tensor] | None
    value_range: tuple[float, float] | None
    needs_color: bool = False
    size: int | None = None
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def _linear(scale: Sequence[float], offset: Sequence[float]) -> Normalization:
    """x * scale + offset, for each channel or for all."""
    scale, offset = (tuple(map(float, values)) for values in (scale, offset))
    ends = [y for a, b in zip(scale, offset, strict=True) for y in (b, 255 * a + b)]
    return Normalization(
        lambda image: image * scale + offset,
        lambda image: (image - offset) / scale,
        (min(ends), max(ends)),
        needs_color=len(scale) == 3,
        moments=(
            tuple(-b / a for a, b in zip(scale, offset, strict=True)),
            tuple(1 / a for a in scale),
        ),
    )


def _torch(pixels: PixelsOptions) -> Normalization:
    means, stds = pixels.means or TORCH_MEANS, pixels.stds or TORCH_STDS
    scale = [1 / (255 * std) for std in stds]
    return _linear(scale, [-mean / std for mean, std in zip(means, stds, strict=True)])


def _caffe() -> Normalization:
    return Normalization(
        lambda image: image[..., ::-1] - _CAFFE_MEANS,
        lambda image: (image + _CAFFE_MEANS)[..., ::-1],
        (-max(_CAFFE_MEANS), 255 - min(_CAFFE_MEANS)),
        needs_color=True,
    )


_TABLE: dict[str, Callable[[PixelsOptions], Normalization]] = {
    "inception": lambda _: _linear([2 / 255], [-1]),
    "vgg": lambda _: _linear([1, 1, 1], [-mean for mean in _VGG_MEANS]),
    "lenet": lambda _: _linear([1 / 128], [-1]),
    "torch": _torch,
    "caffe": lambda _: _caffe(),
    "whiten": lambda _: Normalization(ops.standardize, None, None),
}


def get(
    name: str, pixels: PixelsOptions = PLAIN_PIXELS, zca: Whitening | None = None
) -> Normalization:
    """The normalisation of that name, one of `options.NORMALIZATIONS`.

    Args:
      name: inception: -1..1; vgg: 0..255 less TF-Slim's channel means; lenet: -1..0.992; torch:
        0..1 less `pixels.means`, divided by `pixels.stds`; caffe: BGR in 0..255 less its channel
        means; whiten: each image less its mean, divided by its deviation; zca: `zca`.
      pixels: options of torch.
      zca: the whitening of the normalisation zca.
    """
    if name == "zca":
        return Normalization(zca.apply, None, None, needs_color=True, size=zca.size)
    return _TABLE[name](pixels)
