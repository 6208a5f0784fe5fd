"""Lays transparency on white, inside a graph, as conversion does it."""

import tensorflow as tf


@tf.autograph.experimental.do_not_convert
def on_white(image: tf.Tensor) -> tf.Tensor:
    """uint8 [h, w, 4], the last channel opacity, → uint8 [h, w, 3]; rounded as Pillow rounds."""
    color, opacity = (tf.cast(x, tf.int32) for x in (image[..., :3], image[..., 3:]))
    mixed = color * opacity + (255 - opacity) * 255 + 128
    return tf.cast((mixed // 256 + mixed) // 256, tf.uint8)
