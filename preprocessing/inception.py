"""TF-Slim's preprocessing of the Inception, MobileNet, NASNet and PNASNet families.

Float32 in -1..1. Training crops, resizes without regard to the aspect ratio, mirrors and changes
the colours; evaluation resizes the central 87.5 % of each side. Constants are those of
research/slim/preprocessing/inception_preprocessing.py.
"""

import tensorflow as tf

from preprocessing import ops

_CENTRAL_FRACTION = 0.875
_BRIGHTNESS = 32 / 255
_SATURATION = (0.5, 1.5)
_CONTRAST = (0.5, 1.5)
_HUE = 0.2
# The orders that TF-Slim applies its colour steps in, the fast ones without its slower steps.
_FAST_ORDERS = ("bs", "sb")
_ORDERS = ("bshc", "sbch", "chbs", "hscb")


def train(
    encoded: tf.Tensor,
    size: int,
    boxes: tf.Tensor,
    seed: tf.Tensor,
    use_grayscale: bool = False,
    fast_mode: bool = True,
    crop_image: bool = True,
    num_color_orders: int | None = None,
) -> tf.Tensor:
    """Draws one distorted training image.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels.
      boxes: float32 [n, 4], objects as (ymin, xmin, ymax, xmax) in fractions; n may be 0.
      seed: int32 [2]; decides every draw.
      use_grayscale: return one channel, taken after the colours are changed.
      fast_mode: bilinear resize; brightness and saturation only. Otherwise one of four resize
        methods, and also hue and contrast.
      crop_image: crop at random; False resizes the whole image.
      num_color_orders: how many of the orders of the colour steps are drawn from. None is what
        TF-Slim's newest version does: the first of the two fast ones, or all four.

    Returns:
      float32 [size, size, 3 or 1] in -1..1.
    """
    mirror, method, order, *color_draws = ops.uniforms(seed, 7)
    if crop_image:
        image = ops.decode_window(encoded, lambda s: ops.distorted_window(s, boxes, seed))
    else:
        image = ops.decode(encoded)
    if fast_mode:
        image = ops.resize_bilinear(image, size, size)
        orders = _FAST_ORDERS[: num_color_orders or 1]
    else:
        image = ops.resize_by_method(image, size, size, ops.index_below(method, 4))
        orders = _ORDERS[:num_color_orders]
    image = ops.flip(tf.ensure_shape(image, [size, size, 3]), mirror)
    image = _distort_color(image / 255, orders, order, color_draws)
    if use_grayscale:
        image = ops.grayscale(image)
    return image * 2 - 1


def evaluate(
    encoded: tf.Tensor,
    size: int | None,
    use_grayscale: bool = False,
    central_fraction: float = _CENTRAL_FRACTION,
    crop_image: bool = True,
) -> tf.Tensor:
    """Prepares one encoded image for evaluation.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels; None keeps the pixels of the crop.
      use_grayscale: return one channel.
      central_fraction: part of each side that is kept.
      crop_image: False takes the whole image.

    Returns:
      float32 [size, size, 3 or 1] in -1..1.
    """
    image = ops.decode_window(encoded, lambda s: _window(s, crop_image, central_fraction))
    return _resize_and_scale(image, size, use_grayscale)


def evaluate_image(
    image: tf.Tensor,
    size: int | None,
    use_grayscale: bool = False,
    central_fraction: float = _CENTRAL_FRACTION,
    crop_image: bool = True,
) -> tf.Tensor:
    """As `evaluate`, of a decoded image: uint8 or float [height, width, 3] in 0..255."""
    window = _window(tf.shape(image), crop_image, central_fraction)
    return _resize_and_scale(ops.crop(image, window), size, use_grayscale)


def _window(shape: tf.Tensor, crop_image: bool, central_fraction: float) -> tf.Tensor:
    if crop_image:
        return ops.central_window(shape, central_fraction)
    return ops.whole_window(shape)


def _resize_and_scale(image: tf.Tensor, size: int | None, use_grayscale: bool) -> tf.Tensor:
    image = tf.cast(image, tf.float32)
    if use_grayscale:
        image = ops.grayscale(image)
    if size is not None:
        image = ops.resize_bilinear(image, size, size)
    return image * (2 / 255) - 1


def _distort_color(
    image: tf.Tensor, orders: tuple[str, ...], order_draw: tf.Tensor, draws: list[tf.Tensor]
) -> tf.Tensor:
    """Changes colours of float32 [h, w, 3] in 0..1 by one of `orders`; clipped to 0..1."""
    brightness, saturation, contrast, hue = draws
    steps = {
        "b": lambda x: x + ops.between(brightness, -_BRIGHTNESS, _BRIGHTNESS),
        "s": lambda x: ops.adjust_saturation(x, ops.between(saturation, *_SATURATION)),
        "c": lambda x: ops.adjust_contrast(x, ops.between(contrast, *_CONTRAST)),
        "h": lambda x: ops.adjust_hue(x, ops.between(hue, -_HUE, _HUE)),
    }

    def apply(order: str) -> tf.Tensor:
        x = image
        for step in order:
            x = steps[step](x)
        return x

    chosen = ops.index_below(order_draw, len(orders))
    image = tf.switch_case(chosen, [lambda order=order: apply(order) for order in orders])
    return tf.clip_by_value(image, 0.0, 1.0)
