"""A way around a fault of oneDNN's bfloat16 convolutions on processors with AMX.

The gradient of a convolution's weights cuts rows into blocks of at most 32 columns. Where these are
not full, but hold more than 30 columns on average, it multiplies zeros by memory that nobody wrote
to: NaN, wherever that holds one (TensorFlow 2.21). The widths were found with an allocator that
fills memory with NaN, as benchmarks/RESULTS.md tells. Whole blocks are safe, so zeros fill them.
"""

from collections.abc import Sequence

import tensorflow as tf

_BLOCK, _SAFE = 32, 30


def columns_missing(
    x: tf.Tensor,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilation_rate: Sequence[int],
    padding: str,
) -> int:
    """How many columns the gradient of a convolution's weights must be widened by.

    Args:
      x: [N, H, W, C].
      kernel_size, strides, dilation_rate: of height and width.
      padding: "same" or "valid".

    Returns:
      0 for convolutions that are safe.
    """
    if x.dtype != tf.bfloat16 or tf.config.get_visible_devices("GPU"):
        return 0
    if max(*strides, *dilation_rate) > 1 or kernel_size[1] == 1 or x.shape[2] is None:
        return 0
    width = x.shape[2] if padding == "same" else x.shape[2] - kernel_size[1] + 1
    blocks = -(-width // _BLOCK)
    return _BLOCK * blocks - width if width > _SAFE * blocks else 0


def conv2d(x: tf.Tensor, kernel: tf.Tensor, padding: str, columns: int) -> tf.Tensor:
    """tf.nn.conv2d of stride 1, whose weights' gradient is taken over widened rows.

    Args:
      x: bfloat16 [N, H, W, C].
      kernel: bfloat16 [h, w, C, filters].
      padding: "same" or "valid".
      columns: of zeros, to the right.

    Returns:
      bfloat16 [N, H, W, filters], with "valid" of fewer rows and columns.
    """
    padding, ones = padding.upper(), [1, 1, 1, 1]
    height, width = (size - 1 if padding == "SAME" else 0 for size in kernel.shape[:2])
    rows = [height // 2, height - height // 2]
    sides = [[0, 0], rows, [width // 2, width - width // 2 + columns], [0, 0]]

    @tf.custom_gradient
    def conv(x, kernel):
        def gradients(dy):
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=dy,
                strides=ones,
                padding=padding,
            )
            dkernel = tf.raw_ops.Conv2DBackpropFilter(
                input=tf.pad(x, sides),
                filter_sizes=kernel.shape,
                out_backprop=tf.pad(dy, [[0, 0], [0, 0], [0, columns], [0, 0]]),
                strides=ones,
                padding="VALID",
            )
            return dx, dkernel

        return tf.nn.conv2d(x, kernel, ones, padding), gradients

    return conv(x, kernel)
