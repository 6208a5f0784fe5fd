"""Steps that the recipes share: decode, crop, resize, flip, colour, standardise.

Images are [height, width, channels]. All randomness comes in as numbers drawn by `uniforms` from
an example's own seed, so that a picture looks the same however many threads prepare it.
"""

from collections.abc import Callable

import tensorflow as tf

# Weights of tf.image.rgb_to_grayscale (ITU-R BT.601).
_GRAY = (0.2989, 0.5870, 0.1140)


def uniforms(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Draws `count` float32 scalars from [0, 1) by one operation; `seed` is int32 [2]."""
    # Another stream than the one that ops given `seed` itself draw from.
    seed = tf.bitwise.bitwise_xor(seed, tf.constant([0x5D1EC0DE, 0], tf.int32))
    return tf.unstack(tf.raw_ops.StatelessRandomUniform(shape=[count], seed=seed))


def between(draw: tf.Tensor, lower: float, upper: float) -> tf.Tensor:
    """Maps a draw from [0, 1) to [lower, upper)."""
    return lower + draw * (upper - lower)


def index_below(draw: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Maps a draw from [0, 1) to one of 0 … count - 1, int32."""
    number = tf.cast(draw * tf.cast(count, tf.float32), tf.int32)
    return tf.minimum(number, tf.cast(count, tf.int32) - 1)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP or the first frame of a GIF to uint8 [height, width, 3]."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def decode_window(encoded: tf.Tensor, window_of: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Decodes only a part of an image.

    At the right edge of the part, where a JPEG stores colours at half the resolution, they differ
    a little from those of the whole image.

    Args:
      encoded: image bytes, scalar string.
      window_of: given the image's shape, int32 [3], returns int32 [4]: top, left, height, width.

    Returns:
      uint8 [height, width, 3].
    """

    def of_jpeg():
        window = window_of(tf.io.extract_jpeg_shape(encoded))
        return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)

    def of_other():
        image = decode(encoded)
        return crop(image, window_of(tf.shape(image)))

    image = tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_other)
    return tf.ensure_shape(image, [None, None, 3])


def crop(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Cuts out a window, int32 [4]: top, left, height, width."""
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]


def central_window(shape: tf.Tensor, fraction: float) -> tf.Tensor:
    """The window of tf.image.central_crop, which keeps `fraction` of each side or a pixel more."""
    sides = tf.cast(shape[:2], tf.float64)
    begin = tf.cast((sides - sides * fraction) / 2, tf.int32)
    return tf.concat([begin, shape[:2] - 2 * begin], axis=0)


def distorted_window(shape: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws TF-Slim's training crop.

    Args:
      shape: int32 [3] of the image.
      boxes: float32 [n, 4] of (ymin, xmin, ymax, xmax) in fractions of the sides, of which the crop
        covers a tenth of one at least; n = 0 means the whole image. They are clipped to the image;
        empty ones do not count.
      seed: int32 [2].

    Returns:
      int32 [4]: top, left, height, width. Its area is 5 to 100 % of the image's and its width to
      height 0.75 to 1.33; the whole image where 100 attempts find no such window.
    """
    boxes = tf.clip_by_value(boxes, 0.0, 1.0)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        boxes[tf.newaxis],
        seed,
        min_object_covered=0.1,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def resize_bilinear(image: tf.Tensor, height, width) -> tf.Tensor:
    """Resizes as TensorFlow 1 does, which TF-Slim's nets are trained with; float32, unrounded.

    Pixel i of the result is taken at i * (old side / new side): half_pixel_centers is False.
    """
    # On float32 the op has a vectorised path, worth more than the cast costs.
    images = tf.cast(image, tf.float32)[tf.newaxis]
    return tf.raw_ops.ResizeBilinear(images=images, size=[height, width])[0]


def round_to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds values within 0..255 to whole numbers."""
    return tf.cast(image + 0.5, tf.uint8)


def resize_by_method(image: tf.Tensor, height, width, method: tf.Tensor) -> tf.Tensor:
    """Resizes by one of TensorFlow 1's methods: 0 bilinear, 1 nearest, 2 bicubic, 3 area; float32.

    As there, bicubic can overshoot the range of the image.
    """
    images, size = tf.cast(image, tf.float32)[tf.newaxis], [height, width]
    return tf.switch_case(
        method,
        [
            lambda: tf.raw_ops.ResizeBilinear(images=images, size=size)[0],
            lambda: tf.raw_ops.ResizeNearestNeighbor(images=images, size=size)[0],
            lambda: tf.raw_ops.ResizeBicubic(images=images, size=size)[0],
            lambda: tf.raw_ops.ResizeArea(images=images, size=size)[0],
        ],
    )


def flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Mirrors left and right where the draw from [0, 1) is below a half."""
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)


def crop_or_pad(image: tf.Tensor, size: int, offset: tf.Tensor | None = None) -> tf.Tensor:
    """Cuts out a square, with zeros where it lies outside the image.

    Args:
      image: of any type.
      size: side of the square in pixels.
      offset: int32 [2], its top and left edge in the image; may be negative. None takes the centre,
        as tf.image.resize_with_crop_or_pad does.

    Returns:
      [size, size, channels], of the image's type.
    """
    sides = tf.shape(image)[:2]
    if offset is None:
        offset = tf.truncatediv(sides - size, 2)
    begin = tf.clip_by_value(offset, 0, sides)
    end = tf.clip_by_value(offset + size, 0, sides)
    part = image[begin[0] : end[0], begin[1] : end[1]]
    before = tf.clip_by_value(begin - offset, 0, size)
    missing = tf.stack([before, size - before - (end - begin)], axis=1)
    part = tf.pad(part, tf.concat([missing, [[0, 0]]], axis=0))
    return tf.ensure_shape(part, [size, size, image.shape[-1]])


def grayscale(image: tf.Tensor) -> tf.Tensor:
    """Three channels to one, float32 [height, width, 1] in the range of the image."""
    return tf.reduce_sum(tf.cast(image, tf.float32) * _GRAY, axis=-1, keepdims=True)


def adjust_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """tf.image.adjust_saturation without its way through HSV; float32 in about 0..1.

    Saturation is the distance of the lesser channels from the largest, relative to that one. So it
    is scaled by scaling those distances, up to where the least channel arrives at zero.
    """
    red, green, blue = image[..., 0:1], image[..., 1:2], image[..., 2:3]
    largest = tf.maximum(tf.maximum(red, green), blue)
    spread = largest - tf.minimum(tf.minimum(red, green), blue)
    limit = tf.maximum(largest, 0.0) / tf.maximum(spread, 1e-20)
    return largest + (image - largest) * tf.minimum(factor, limit)


def adjust_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Scales a channel's distance from its mean over an image; float32 [..., h, w, channels]."""
    mean = tf.reduce_mean(image, axis=[-3, -2], keepdims=True)
    return mean + (image - mean) * factor


def adjust_hue(image: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """Turns the hue by `delta` of a full circle; float32."""
    return tf.raw_ops.AdjustHue(images=image, delta=delta)


def standardize(image: tf.Tensor) -> tf.Tensor:
    """Whitens one image: (x - mean) / max(deviation, 1 / sqrt(number of values)); float32."""
    return tf.image.per_image_standardization(image)


def transform(
    image: tf.Tensor, matrices: list[tf.Tensor], fill_mode: str, fill_value: float = 0.0
) -> tf.Tensor:
    """Moves pixels by a chain of matrices around the image's centre, in one bilinear resampling.

    Args:
      image: float32 [height, width, channels].
      matrices: float32 [3, 3] each, on (x, y, 1); the result at a place shows the image at the
        product of all of them times that place.
      fill_mode: what lies outside: nearest, constant, reflect or wrap.
      fill_value: of constant.

    Returns:
      float32 of the same shape.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    centre = (sides - 1) / 2
    whole = translation(centre[1], centre[0])
    for matrix in [*matrices, translation(-centre[1], -centre[0])]:
        whole = whole @ matrix
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.reshape(whole, [1, 9])[:, :8],
        output_shape=tf.shape(image)[:2],
        interpolation="BILINEAR",
        fill_mode=fill_mode.upper(),
        fill_value=fill_value,
    )[0]
    return tf.ensure_shape(moved, image.shape)


def _matrix(*rows) -> tf.Tensor:
    return tf.stack([tf.stack([tf.cast(x, tf.float32) for x in row]) for row in (*rows, (0, 0, 1))])


def rotation(angle: tf.Tensor) -> tf.Tensor:
    """For `transform`: turns the image counterclockwise by `angle` in radians, as seen."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _matrix((cos, -sin, 0), (sin, cos, 0))


def translation(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """For `transform`: shows what lies x pixels to the right and y below."""
    return _matrix((1, 0, x), (0, 1, y))


def shear(angle: tf.Tensor) -> tf.Tensor:
    """For `transform`: Keras' shear by an angle in radians."""
    return _matrix((1, -tf.sin(angle), 0), (0, tf.cos(angle), 0))


def shear_x(level: tf.Tensor) -> tf.Tensor:
    """For `transform`: a row is shown from `level` times its distance further right."""
    return _matrix((1, level, 0), (0, 1, 0))


def shear_y(level: tf.Tensor) -> tf.Tensor:
    """For `transform`: a column is shown from `level` times its distance further down."""
    return _matrix((1, 0, 0), (level, 1, 0))


def scaling(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """For `transform`: shows x and y times as much of the sides."""
    return _matrix((x, 0, 0), (0, y, 0))


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Spreads each channel's histogram evenly, as Pillow's ImageOps.equalize; float in 0..255."""
    levels = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.int32)

    def channel(values: tf.Tensor) -> tf.Tensor:
        histogram = tf.math.bincount(tf.reshape(values, [-1]), minlength=256, maxlength=256)
        last = tf.gather(histogram, tf.reduce_max(tf.where(histogram > 0)[:, 0]))
        step = (tf.reduce_sum(histogram) - last) // 255
        before = tf.cumsum(histogram, exclusive=True)
        table = tf.minimum((before + step // 2) // tf.maximum(step, 1), 255)
        return tf.where(step == 0, values, tf.gather(table, values))

    planes = [channel(plane) for plane in tf.unstack(levels, axis=-1)]
    return tf.ensure_shape(tf.cast(tf.stack(planes, axis=-1), tf.float32), image.shape)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255; float in 0..255."""
    low = tf.reduce_min(image, axis=[0, 1])
    spread = tf.reduce_max(image, axis=[0, 1]) - low
    return tf.where(spread > 0, (image - low) * 255 / tf.maximum(spread, 1e-6), image)


def posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    """Keeps the highest `bits` of each value; float in 0..255."""
    step = 2.0 ** (8 - bits)
    return tf.floor(image / step) * step


def blend(other: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """From `other` at 0 over the image at 1 to more of what distinguishes it; clipped to 0..255."""
    return tf.clip_by_value(other + factor * (image - other), 0.0, 255.0)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """As Pillow's ImageEnhance.Sharpness: 0 smooths, 1 leaves, 2 sharpens; float in 0..255."""
    channels = image.shape[-1]
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
    kernel = tf.tile(kernel[..., tf.newaxis, tf.newaxis], [1, 1, channels, 1])
    smooth = tf.nn.depthwise_conv2d(image[tf.newaxis], kernel, [1, 1, 1, 1], "VALID")[0]
    # Pillow leaves the border as it is.
    inside = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]])
    smooth = tf.where(inside > 0, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), image)
    return blend(smooth, image, factor)


def letterbox(image: tf.Tensor, size: int) -> tf.Tensor:
    """The whole image in proportion, in the middle of a black square; float32 [size, size, 3]."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    inner = tf.maximum(tf.cast(tf.round(sides * (size / tf.reduce_max(sides))), tf.int32), 1)
    return crop_or_pad(resize_bilinear(image, inner[0], inner[1]), size)
