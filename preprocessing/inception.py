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
# The orders of TF-Slim's colour steps: brightness, saturation, hue, contrast.
_ORDERS = ("bshc", "sbch", "chbs", "hscb")
_NUM_FAST_ORDERS = 2


def augment(
    encoded: tf.Tensor,
    size: int,
    boxes: tf.Tensor,
    seed: tf.Tensor,
    fast_mode: bool = True,
    crop_image: bool = True,
    num_color_orders: int | None = None,
) -> dict[str, tf.Tensor]:
    """The part of training that is done image by image; `to_input` does the rest on a batch.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels.
      boxes: float32 [n, 4], objects as (ymin, xmin, ymax, xmax) in fractions; n may be 0.
      seed: int32 [2]; decides every random choice.
      fast_mode: bilinear resize; brightness and saturation only. Otherwise one of four resize
        methods, and also hue and contrast.
      crop_image: crop at random; False resizes the whole image.
      num_color_orders: how many of the orders of the colour steps are drawn from. None is what
        TF-Slim's newest version does: the first of the two fast ones, or all four.

    Returns:
      In fast mode `image` uint8 [size, size, 3], cropped, resized and mirrored, and `color` float32
      [3]: what is added before the saturation is changed, its factor, what is added thereafter.
      Else `image` float32 [size, size, 3] in 0..1, with its colours changed.
    """
    mirror, method, order, brightness, saturation, contrast, hue = ops.uniforms(seed, 7)
    brightness = ops.between(brightness, -_BRIGHTNESS, _BRIGHTNESS)
    saturation = ops.between(saturation, *_SATURATION)
    if crop_image:
        image = ops.decode_window(encoded, lambda shape: ops.distorted_window(shape, boxes, seed))
    else:
        image = ops.decode(encoded)
    if fast_mode:
        image = tf.ensure_shape(ops.resize_bilinear(image, size, size), [size, size, 3])
        # A quarter of the bytes to mirror, to collect and to hand on; half a step of 255 is lost.
        image = ops.flip(ops.round_to_uint8(image), mirror)
        first = ops.index_below(order, min(num_color_orders or 1, _NUM_FAST_ORDERS)) == 0
        before = tf.where(first, brightness, 0.0)
        return {"image": image, "color": tf.stack([before, saturation, brightness - before])}
    image = ops.resize_by_method(image, size, size, ops.index_below(method, 4))
    image = ops.flip(tf.ensure_shape(image, [size, size, 3]), mirror) / 255
    steps = {
        "b": lambda x: x + brightness,
        "s": lambda x: ops.adjust_saturation(x, saturation),
        "h": lambda x: ops.adjust_hue(x, ops.between(hue, -_HUE, _HUE)),
        "c": lambda x: ops.adjust_contrast(x, ops.between(contrast, *_CONTRAST)),
    }
    orders = _ORDERS[:num_color_orders]
    image = tf.switch_case(
        ops.index_below(order, len(orders)),
        [lambda names=names: _in_order([steps[name] for name in names], image) for names in orders],
    )
    return {"image": tf.clip_by_value(image, 0.0, 1.0)}


# Compiled into one pass over the pixels: op by op, memory traffic costs ten times as much.
@tf.function(jit_compile=True, autograph=False)
def to_input(batch: dict[str, tf.Tensor], use_grayscale: bool = False) -> tf.Tensor:
    """Turns a batch of what `augment` returns into float32 [B, size, size, 3 or 1] in -1..1.

    The one channel of `use_grayscale` is taken after the colours are changed.
    """
    images = batch["image"]
    if "color" in batch:
        before, factor, after = tf.unstack(batch["color"][:, None, None, None], axis=-1)
        images = tf.cast(images, tf.float32) * (1 / 255) + before
        images = tf.clip_by_value(ops.adjust_saturation(images, factor) + after, 0.0, 1.0)
    if use_grayscale:
        images = ops.grayscale(images)
    return images * 2 - 1


def _in_order(steps, image: tf.Tensor) -> tf.Tensor:
    for step in steps:
        image = step(image)
    return image


def evaluate_image(
    image: tf.Tensor,
    size: int | None,
    use_grayscale: bool = False,
    central_fraction: float = _CENTRAL_FRACTION,
    crop_image: bool = True,
) -> tf.Tensor:
    """Prepares one image for evaluation.

    Args:
      image: uint8 or float [height, width, 3] in 0..255. A JPEG is decoded whole: at the edge of a
        decoded part its colours would differ a little from TF-Slim's.
      size: side of the result in pixels; None keeps the pixels of the crop.
      use_grayscale: return one channel.
      central_fraction: part of each side that is kept.
      crop_image: False takes the whole image.

    Returns:
      float32 [size, size, 3 or 1] in -1..1.
    """
    if crop_image:
        image = ops.crop(image, ops.central_window(tf.shape(image), central_fraction))
    image = tf.cast(image, tf.float32)
    if use_grayscale:
        image = ops.grayscale(image)
    if size is not None:
        image = ops.resize_bilinear(image, size, size)
    return image * (2 / 255) - 1
