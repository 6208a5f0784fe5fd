"""What XLA compiles badly for GPUs, put in words that it compiles well.

Seen with TensorFlow 2.21 on an H200; the figures are in benchmarks/RESULTS.md. The functions give
what TensorFlow's own give, to rounding. They stand for these in a net that is called within
`compiling`, and nowhere else.

- The gradient of a max pool: XLA writes four int32 indices for each result, turns them round in
  memory and scatters. Here a byte says which place of the window had the maximum.
- A convolution of the three colours: cuDNN copies the images to eight channels, and multiplies by
  the zeros. Here the four pixels that a stride of two passes over become channels of one.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import tensorflow as tf

# Not in tf.raw_ops, but in every release so far: operations that only XLA has.
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

_COMPILING: contextvars.ContextVar[bool] = contextvars.ContextVar("compiling", default=False)
_FEW_CHANNELS = 4
_LANES = 16  # channels that the matrix units take without a copy


@contextlib.contextmanager
def compiling(is_it: bool = True) -> Iterator[None]:
    """Nets called in this block may use operations that only XLA has."""
    token = _COMPILING.set(is_it)
    try:
        yield
    finally:
        _COMPILING.reset(token)


def is_compiling() -> bool:
    return _COMPILING.get()


def max_pool(x: tf.Tensor, window: Sequence[int], strides: Sequence[int], padding: str):
    """tf.nn.max_pool2d; of equal values in a window the first gets the gradient.

    Args:
      x: [N, H, W, C], of known height and width.
      window, strides: of height and width.
      padding: "same" or "valid".
    """
    around = _around(x.shape[1:3], window, strides, padding)
    places = [(i, j) for i in range(window[0]) for j in range(window[1])]
    sizes = [size + sum(ends) for size, ends in zip(x.shape[1:3], around, strict=True)]
    results = [(n - w) // s + 1 for n, w, s in zip(sizes, window, strides, strict=True)]

    def seen(x: tf.Tensor, place: tuple[int, int]) -> tf.Tensor:
        """What each window has at one of its places."""
        (top, left), (down, right) = place, strides
        rows = slice(top, top + (results[0] - 1) * down + 1, down)
        columns = slice(left, left + (results[1] - 1) * right + 1, right)
        return x[:, rows, columns]

    @tf.custom_gradient
    def pool(x: tf.Tensor):
        padded = _padded(x, around, x.dtype.min)
        largest = seen(padded, places[0])
        index = tf.zeros(tf.shape(largest), tf.int8)
        for number, place in enumerate(places[1:], start=1):
            value = seen(padded, place)
            index = tf.where(value > largest, tf.constant(number, tf.int8), index)
            # Not chosen by the comparison, which would lose NaN.
            largest = tf.maximum(value, largest)
        if len(places) > 1:
            # Else XLA computes the index anew wherever the gradient asks for it.
            largest, index = gen_xla_ops.xla_optimization_barrier([largest, index])

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            dy32 = tf.cast(dy, tf.float32)
            parts = [
                _spread(tf.where(index == number, dy32, 0.0), place, strides, sizes)
                for number, place in enumerate(places)
            ]
            (top, _), (left, _) = around
            dx = tf.add_n(parts)[:, top : top + x.shape[1], left : left + x.shape[2]]
            return tf.cast(dx, x.dtype)

        return largest, gradient

    return pool(x)


def wants_wide_channels(x: tf.Tensor, kernel, strides, dilation_rate, groups: int) -> bool:
    """Whether `conv_of_few_channels` had better do a convolution."""
    return (
        is_compiling()
        and x.shape[-1] <= _FEW_CHANNELS
        and tuple(strides) == (2, 2)
        and max(dilation_rate) == 1
        and groups == 1
        and min(kernel.shape[:2]) > 1
        and None not in x.shape[1:3]
    )


def conv_of_few_channels(x: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """tf.nn.conv2d of strides 2, as one of stride 1 over blocks of four pixels.

    Args:
      x: [N, H, W, C], of known height and width.
      kernel: [h, w, C, filters].
      padding: "same" or "valid".
    """
    window, channels, filters = kernel.shape[:2], *kernel.shape[2:]
    around = _around(x.shape[1:3], window, (2, 2), padding)
    x = _padded(x, around, 0)
    results = [(size - w) // 2 + 1 for size, w in zip(x.shape[1:3], window, strict=True)]
    even = [w + w % 2 for w in window]
    wanted = [2 * (n - 1) + w for n, w in zip(results, even, strict=True)]
    x = x[:, : wanted[0], : wanted[1]]
    x = _padded(x, [(0, w - n) for w, n in zip(wanted, x.shape[1:3], strict=True)], 0)
    rows, columns = (n // 2 for n in wanted)
    x = tf.reshape(x, [-1, rows, 2, columns, 2, channels])
    x = tf.reshape(tf.transpose(x, [0, 1, 3, 2, 4, 5]), [-1, rows, columns, 4 * channels])
    kernel = tf.pad(
        kernel, [*([0, e - w] for e, w in zip(even, window, strict=True)), [0, 0], [0, 0]]
    )
    high, wide = even[0] // 2, even[1] // 2
    kernel = tf.reshape(kernel, [high, 2, wide, 2, channels, filters])
    kernel = tf.transpose(kernel, [0, 2, 1, 3, 4, 5])
    kernel = tf.reshape(kernel, [high, wide, 4 * channels, filters])
    more = -4 * channels % _LANES
    x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, more]])
    kernel = tf.pad(kernel, [[0, 0], [0, 0], [0, more], [0, 0]])
    return tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "VALID")


def _around(sizes, window, strides, padding: str) -> list[tuple[int, int]]:
    """What TensorFlow adds before and behind rows and columns."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    sides = []
    for size, w, s in zip(sizes, window, strides, strict=True):
        lacking = max((-(-size // s) - 1) * s + w - size, 0)
        sides.append((lacking // 2, lacking - lacking // 2))
    return sides


def _padded(x: tf.Tensor, around: Sequence[tuple[int, int]], value) -> tf.Tensor:
    if not any(map(any, around)):
        return x
    return tf.pad(x, [(0, 0), *around, (0, 0)], constant_values=value)


def _spread(dy: tf.Tensor, place, strides, sizes: Sequence[int]) -> tf.Tensor:
    """Puts what belongs to one place of each window where that place lies, zeros elsewhere."""
    behind = [
        size - begin - (n - 1) * stride - 1
        for size, begin, n, stride in zip(sizes, place, dy.shape[1:3], strides, strict=True)
    ]
    return gen_xla_ops.xla_pad(
        input=dy,
        padding_value=tf.zeros([], dy.dtype),
        padding_low=tf.constant([0, *place, 0], tf.int64),
        padding_high=tf.constant([0, *behind, 0], tf.int64),
        padding_interior=tf.constant([0, *(stride - 1 for stride in strides), 0], tf.int64),
    )
