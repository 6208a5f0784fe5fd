"""A tiny net to export; its recipe is a stand-in, as serving/ knows none."""

import os
import pathlib

import keras
import tensorflow as tf

from nets import blocks
from runs import unusual_pictures
from serving import exporter, latency, tflite_metadata
from serving.options import ExportOptions
from serving.pictures import reading

SIZE = 32
LABELS = ("cat", "chien ñ", "emu")
ABOUT = tflite_metadata.About("tiny", "model.ckpt-7", "the whole picture")


def decode(encoded):
    return prepare(tf.io.decode_image(encoded, 3, expand_animations=False))


def prepare(image):
    image = tf.image.resize(tf.cast(image, tf.float32), [SIZE, SIZE])
    return tf.reshape(image / 127.5 - 1, [SIZE, SIZE, 3])


def shown(pixels):
    return tf.cast(tf.round(pixels * 127.5 + 127.5), tf.uint8)


def recipe_for(config, find):
    assert config.run["preprocessing_name"] == "stand-in"
    return decode


def tiny_net(seed):
    """Two convolutions with batch norm, so that an export takes a moment only."""
    keras.utils.set_random_seed(seed)
    block = blocks.Blocks(blocks.truncated_normal(0.5), norm=blocks.Norm(0.9, 0.001, scale=True))
    images = blocks.images(SIZE, 3)
    x = block.conv(images, 16, 5, "Tiny/Conv2d_0", stride=2)
    x = block.conv(x, 64, 3, "Tiny/Conv2d_1", stride=2)
    x = block.global_pool(x, "Tiny/Logits/AvgPool_1a")
    x = block.for_logits().conv(x, len(LABELS), 1, "Tiny/Logits/Conv2d_1c_1x1")
    logits = block.squeeze(x, "Tiny/Logits/SpatialSqueeze")
    model = blocks.model("tiny", images, {"Logits": logits}, logits)
    # Not the moments of a fresh batch norm: those hide whether they were exported.
    for variable in model.weights:
        if "moving" in variable.name:
            variable.assign(keras.random.uniform(variable.shape, 0.5, 2))
    return model


def export_folder(folder, subject, formats, **options):
    return exporter.export(
        subject, ExportOptions(output_dir=folder, formats=tuple(formats), **options)
    )


def export_file(file, subject, **options):
    return exporter.export(subject, ExportOptions(output_file=file, **options))


def classes(model, pictures):
    pixels = tf.stack([decode(picture) for picture in pictures])
    return model(pixels, training=False)["logits"].numpy().argmax(axis=1).tolist()


def snapshot(folder):
    return {
        os.path.join(place, name): pathlib.Path(place, name).read_bytes()
        for place, _, names in os.walk(folder)
        for name in names
    }


def read_plainly(encoded, prepare, pixels):
    """`reading.read` of pictures that are all sound and usual: tracing the whole takes longest.

    What it does: test_serving_pictures.py; that exports have it: test_saved_model.py.
    """

    def prepared(one):
        image = tf.io.decode_image(one, 3, expand_animations=False)
        return prepare(tf.ensure_shape(image, [None, None, 3]))

    images = tf.map_fn(prepared, encoded, fn_output_signature=pixels)
    nothing_wrong = tf.fill(tf.shape(encoded), "")
    return reading.Pictures(images, tf.range(tf.size(encoded)), nothing_wrong)


def usual_pictures(image):
    """In place of `unusual_pictures.drawn`, for exports that read plainly."""
    return [(tf.io.encode_png(image).numpy(), image)]


def export_quickly():
    """Has exports read pictures by `read_plainly`, and measure no seconds of latency.

    For scripts, as `first` of `run_script`; else the fixture `quick_exports`.
    """
    latency._SECONDS = 0.0
    reading.read = read_plainly
    unusual_pictures.drawn = usual_pictures
