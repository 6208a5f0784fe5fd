"""bfloat16 on processors: other ways to operations that oneDNN and Eigen do slowly or wrongly.

Seen with TensorFlow 2.21 on a processor with AMX; the figures are in benchmarks/RESULTS.md. The
functions give the results of TensorFlow's own, up to bfloat16's rounding.

- The gradient of a convolution's weights is a matrix product. oneDNN's matrix product is two to ten
  times as fast as its gradient where the images need no copy for it, or are small.
- The same gradient cuts rows into blocks of at most 32 columns. Where blocks are not full, but hold
  more than 30 columns on average, it multiplies zeros by uninitialised memory, which gives NaN
  wherever that memory holds NaN. The widths were found with an allocator that fills memory with
  NaN. Whole blocks are safe, so zeros fill them.
- Gradients of depthwise convolutions with strides or large kernels take twenty times as long as in
  float32, and so does batch norm of channels that do not come in sixteens.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import tensorflow as tf

_BLOCK, _SAFE = 32, 30  # columns
_SMALL = 64  # places of an output whose patches are worth their copies
_LANES = 16  # channels that batch norm takes at a time


def on_processor(x: tf.Tensor) -> bool:
    """Whether this module is in charge of `x`."""
    return x.dtype == tf.bfloat16 and not tf.config.get_visible_devices("GPU")


def weights_gradient(
    x: tf.Tensor,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilation_rate: Sequence[int],
    padding: str,
    groups: int = 1,
) -> Callable[[tf.Tensor, tf.Tensor, tf.TensorShape], tf.Tensor] | None:
    """Chooses the faster way to compute the gradient of a convolution's weights.

    Args:
      x: [N, H, W, C], the images.
      kernel_size, strides, dilation_rate: of height and width.
      padding: "same" or "valid".
      groups: of channels.

    Returns:
      A function of the images, of the gradient of the result and of the kernel's shape, which gives
      the gradient of the kernel; None where oneDNN's own is as good.
    """
    if not on_processor(x) or max(*strides, *dilation_rate) > 1:
        return None
    product = functools.partial(_product_of_patches, padding=padding)
    if max(kernel_size) == 1:
        return product if groups == 1 else None
    if None in x.shape[1:3]:
        return None
    lost = [size - 1 if padding == "valid" else 0 for size in kernel_size]
    height, width = (size - less for size, less in zip(x.shape[1:3], lost, strict=True))
    if height * width <= _SMALL and groups == 1:
        return product
    blocks = -(-width // _BLOCK)
    if kernel_size[1] == 1 or not _SAFE * blocks < width < _BLOCK * blocks:
        return None
    return functools.partial(_over_wider_rows, padding=padding, columns=_BLOCK * blocks - width)


def conv2d(x: tf.Tensor, kernel: tf.Tensor, padding: str, gradient: Callable) -> tf.Tensor:
    """tf.nn.conv2d of stride 1 with another gradient of its weights.

    Args:
      x: bfloat16 [N, H, W, C].
      kernel: bfloat16 [h, w, C, filters].
      padding: "same" or "valid".
      gradient: from `weights_gradient`.

    Returns:
      bfloat16 [N, H, W, filters], with "valid" of fewer rows and columns.
    """
    ones = [1, 1, 1, 1]

    @tf.custom_gradient
    def conv(x, kernel):
        def gradients(dy):
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=dy,
                strides=ones,
                padding=padding.upper(),
            )
            return dx, gradient(x, dy, kernel.shape)

        return tf.nn.conv2d(x, kernel, ones, padding.upper()), gradients

    return conv(x, kernel)


def depthwise_conv2d(
    x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str
) -> tf.Tensor:
    """tf.nn.depthwise_conv2d whose slow gradients are taken in float32.

    Args:
      x: bfloat16 [N, H, W, C].
      kernel: bfloat16 [h, w, C, multiplier].
      strides: of height and width, alike.
      padding: "same" or "valid".

    Returns:
      bfloat16 [N, rows, columns, C * multiplier].
    """
    options = {"strides": [1, *strides, 1], "padding": padding.upper()}

    @tf.custom_gradient
    def conv(x, kernel):
        def gradients(dy):
            of_images = tf.float32 if max(strides) > 1 else x.dtype
            of_weights = tf.float32 if max(kernel.shape[:2]) > 3 else x.dtype
            dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x),
                filter=tf.cast(kernel, of_images),
                out_backprop=tf.cast(dy, of_images),
                **options,
            )
            dkernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=tf.cast(x, of_weights),
                filter_sizes=kernel.shape,
                out_backprop=tf.cast(dy, of_weights),
                **options,
            )
            return tf.cast(dx, x.dtype), tf.cast(dkernel, kernel.dtype)

        return tf.nn.depthwise_conv2d(x, kernel, **options), gradients

    return conv(x, kernel)


def batch_norm_dtype(x: tf.Tensor) -> tf.DType:
    """The faster type for a batch norm of `x`, [N, H, W, C]: its own or float32."""
    return tf.float32 if on_processor(x) and x.shape[-1] % _LANES else x.dtype


def _product_of_patches(
    x: tf.Tensor, dy: tf.Tensor, shape: tf.TensorShape, padding: str
) -> tf.Tensor:
    """The patches that the kernel saw, one a row, by the gradient of what it made of them."""
    height, width, channels, filters = shape
    patches = _padded(x, shape, padding)
    if (height, width) != (1, 1) and (height, width) != patches.shape[1:3]:
        rows, columns = dy.shape[1:3]
        places = itertools.product(range(height), range(width))
        parts = [patches[:, i : i + rows, j : j + columns] for i, j in places]
        patches = tf.concat(parts, axis=-1)
    patches = tf.reshape(patches, [-1, height * width * channels])
    product = tf.matmul(patches, tf.reshape(dy, [-1, filters]), transpose_a=True)
    return tf.reshape(product, shape)


def _over_wider_rows(
    x: tf.Tensor, dy: tf.Tensor, shape: tf.TensorShape, padding: str, columns: int
) -> tf.Tensor:
    """oneDNN's own gradient, with `columns` of zeros to the right."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=_padded(x, shape, padding, columns),
        filter_sizes=shape,
        out_backprop=tf.pad(dy, [[0, 0], [0, 0], [0, columns], [0, 0]]),
        strides=[1, 1, 1, 1],
        padding="VALID",
    )


def _padded(x: tf.Tensor, shape: tf.TensorShape, padding: str, columns: int = 0) -> tf.Tensor:
    """Zeros around `x` as a kernel of stride 1 sees them, and `columns` more to the right."""
    height, width = (size - 1 if padding == "same" else 0 for size in shape[:2])
    if not (height or width or columns):
        return x
    sides = [height // 2, height - height // 2], [width // 2, width - width // 2 + columns]
    return tf.pad(x, [[0, 0], *sides, [0, 0]])
