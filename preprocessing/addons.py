"""A recipe that draws its changes from tensorflow-addons; Python 3.10 and 3.11.

Crop, mirror and evaluation are those of the inception recipe; in between, training draws one of
rotation, shear, translation, equalisation, sharpness, cutout, Gaussian blur and a change of hue,
saturation and brightness in YIQ. The last release of tensorflow-addons has no build for later
Pythons: there --randaugment_layers=2 does much the same.
"""

import functools
import importlib.util
import os
import sys

import tensorflow as tf

from foundation.errors import InputError
from preprocessing import inception, ops

_ROTATION = 0.26  # radians, 15 degrees
_SHEAR = 0.2
_TRANSLATION = 0.1  # of the side
_SHARPNESS = (0.2, 1.8)
_CUTOUT = 0.25  # of the side
_HUE, _SATURATION, _VALUE = 0.3, (0.6, 1.4), (0.7, 1.3)
_GRAY = 128

_in_graph = functools.cache(tf.function)  # one graph of a function, however often it is drawn

evaluate_image = inception.evaluate_image


def train(
    encoded: tf.Tensor,
    size: int,
    boxes: tf.Tensor,
    seed: tf.Tensor,
    use_grayscale: bool = False,
) -> tf.Tensor:
    """Draws one training image; arguments and result as Recipe has them.

    Raises:
      InputError: tensorflow-addons is missing, or TensorFlow was imported without what it needs.
    """
    tfa_image = require()
    mirror, which, first, second, third = ops.uniforms(
        tf.random.experimental.stateless_fold_in(seed, 1), 5
    )
    window = ops.decode_window(encoded, lambda shape: ops.distorted_window(shape, boxes, seed))
    image = ops.flip(ops.resize_bilinear(window, size, size), mirror)
    image = tf.ensure_shape(ops.round_to_uint8(image), [size, size, 3])
    even = 2 * int(size * _CUTOUT / 2)  # cutout takes even sides only
    place = tf.cast([first * size, second * size], tf.int32)

    def yiq():
        changed = tfa_image.adjust_hsv_in_yiq(
            tf.cast(image, tf.float32) / 255,
            ops.between(first, -_HUE, _HUE),
            ops.between(second, *_SATURATION),
            ops.between(third, *_VALUE),
        )
        return ops.round_to_uint8(tf.clip_by_value(changed * 255, 0, 255))

    changes = [
        lambda: tfa_image.rotate(image, ops.between(first, -_ROTATION, _ROTATION), "bilinear"),
        # It asks a tensor for its truth, which only autograph allows in a graph.
        lambda: _in_graph(tfa_image.shear_x)(image, ops.between(first, -_SHEAR, _SHEAR), _GRAY),
        lambda: tfa_image.translate(
            image, tf.stack([ops.between(d, -1, 1) * _TRANSLATION * size for d in (first, second)])
        ),
        lambda: tfa_image.equalize(image),
        # In a graph its factor must be a number of Python's.
        *(lambda factor=f: tfa_image.sharpness(image, factor) for f in _SHARPNESS),
        lambda: tfa_image.cutout(image[tf.newaxis], even, place, _GRAY)[0],
        lambda: tfa_image.gaussian_filter2d(image, 5, 1.0),
        yiq,
    ]
    image = tf.switch_case(
        ops.index_below(which, len(changes)),
        [lambda change=c: tf.ensure_shape(change(), [size, size, 3]) for c in changes],
    )
    image = tf.cast(tf.ensure_shape(image, [size, size, 3]), tf.float32)
    return (ops.grayscale(image) if use_grayscale else image) * (2 / 255) - 1


def require():
    """tensorflow_addons.image.

    Raises:
      InputError: it is not installed, or TensorFlow was imported without what it needs.
    """
    if importlib.util.find_spec("tensorflow_addons") is None:
        raise InputError(
            "needs tensorflow-addons, which exists for Python 3.10 and 3.11 only; this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}.",
            option="preprocessing_name",
            value="addons",
            remedy="Take --randaugment_layers=2 with another recipe instead.",
        )
    if os.environ.get("TF_USE_LEGACY_KERAS") != "1":
        raise InputError(
            "set the environment variable TF_USE_LEGACY_KERAS=1 before TensorFlow is imported.",
            option="preprocessing_name",
            value="addons",
        )
    import warnings

    import tf_keras

    # Addons looks for Keras 2 where it once was, and warns that it is no longer kept up.
    sys.modules.setdefault("keras.src.engine", tf_keras.src.engine)
    sys.modules.setdefault("keras.src.engine.keras_tensor", tf_keras.src.engine.keras_tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons

    return tensorflow_addons.image
