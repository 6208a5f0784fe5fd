"""TF-Slim's preprocessing of CifarNet, for small pictures of one size.

Float32, each image less its mean and divided by its deviation. Nothing is resized. Constants are
those of research/slim/preprocessing/cifarnet_preprocessing.py.
"""

import tensorflow as tf

from preprocessing import ops

_PADDING = 4
_BRIGHTNESS = 63.0
_CONTRAST = (0.2, 1.8)


def augment(
    encoded: tf.Tensor, size: int, boxes: tf.Tensor, seed: tf.Tensor, padding: int = _PADDING
) -> dict[str, tf.Tensor]:
    """A random crop of the padded image, mirrored or not, and draws of brightness and contrast.

    `to_input` applies the colours, on a batch.

    Args:
      encoded: image bytes, scalar string.
      size: side of the result in pixels.
      boxes: not used; here so that all recipes are called alike.
      seed: int32 [2]; decides every random choice.
      padding: zeros added on every side before the crop; more where the image is still too small.

    Returns:
      `image` uint8 [size, size, 3]; `color` float32 [2], what is added to it, its contrast.
    """
    del boxes
    top, left, mirror, brightness, contrast = ops.uniforms(seed, 5)
    image = ops.decode(encoded)
    sides = tf.shape(image)[:2]
    padded = tf.maximum(sides + 2 * padding, size)
    room = padded - size + 1
    offset = tf.stack([ops.index_below(top, room[0]), ops.index_below(left, room[1])])
    image = ops.crop_or_pad(image, size, offset - (padded - sides) // 2)
    brightness = ops.between(brightness, -_BRIGHTNESS, _BRIGHTNESS)
    contrast = ops.between(contrast, *_CONTRAST)
    return {"image": ops.flip(image, mirror), "color": tf.stack([brightness, contrast])}


# Compiled into few passes over the pixels.
@tf.function(jit_compile=True, autograph=False)
def to_input(
    batch: dict[str, tf.Tensor], use_grayscale: bool = False, standardize: bool = True
) -> tf.Tensor:
    """Turns a batch of what `augment` returns into float32 [B, size, size, 3 or 1].

    Each image has mean 0 and deviation 1; with `standardize` False it keeps the scale of 0..255,
    beyond which its colours may go.
    """
    brightness, contrast = tf.unstack(batch["color"][:, None, None, None], axis=-1)
    images = tf.cast(batch["image"], tf.float32)
    if use_grayscale:
        images = ops.grayscale(images)
    images = ops.adjust_contrast(images + brightness, contrast)
    return ops.standardize(images) if standardize else images


def evaluate_image(
    image: tf.Tensor, size: int, use_grayscale: bool = False, standardize: bool = True
) -> tf.Tensor:
    """Prepares one image for evaluation: the centre, or zeros around a small image.

    Args:
      image: uint8 or float [height, width, 3] in 0..255.
      size: side of the result in pixels.
      use_grayscale: return one channel.
      standardize: False leaves the scale of 0..255.

    Returns:
      float32 [size, size, 3 or 1] of mean 0 and deviation 1.
    """
    image = tf.cast(ops.crop_or_pad(image, size), tf.float32)
    image = ops.grayscale(image) if use_grayscale else image
    return ops.standardize(image) if standardize else image
