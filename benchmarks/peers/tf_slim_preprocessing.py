"""TF-Slim's inception preprocessing as its code runs it, for comparison: op by op, image by image.

The steps of research/slim/preprocessing/inception_preprocessing.py in their order, with
TensorFlow's own ops for each, on images that are decoded whole.
"""

import tensorflow as tf


def train(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Training in fast mode, its default; draws from TensorFlow's global state."""
    image = _decode(encoded)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        [[[0.0, 0.0, 1.0, 1.0]]],
        seed=0,
        min_object_covered=0.1,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.slice(image, begin, extent)
    image.set_shape([None, None, 3])
    image = tf.compat.v1.image.resize_images(image, [size, size], 0)
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_brightness(image, max_delta=32.0 / 255.0)
    image = tf.image.random_saturation(image, lower=0.5, upper=1.5)
    image = tf.clip_by_value(image, 0.0, 1.0)
    return tf.multiply(tf.subtract(image, 0.5), 2.0)


def evaluate(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Evaluation."""
    image = tf.image.central_crop(_decode(encoded), central_fraction=0.875)
    image = tf.compat.v1.image.resize_images(image, [size, size], 0)
    return tf.multiply(tf.subtract(image, 0.5), 2.0)


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.image.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return tf.image.convert_image_dtype(image, dtype=tf.float32)
