"""A training folder of a tiny net whose answers differ from picture to picture."""

import io
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from nets import checkpoints, nets_factory
from preprocessing import preprocessing_factory
from runs import config as run_config
from runs.opened import open_run
from tests.fixtures.slim_parity import weights

SIZE, NUM_PICTURES = 28, 3


def picture(i: int) -> bytes:
    """One of a few PNG files that the net tells apart."""
    pixels = np.roll(weights.test_image(60, 80), 25 * i, axis=(0, 1))
    buffer = io.BytesIO()
    Image.fromarray(255 - pixels if i % 2 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def train(folder: pathlib.Path, labels: Sequence[str]) -> str:
    """Writes a training folder of LeNet; its head is scaled so that its logits spread."""
    keras.utils.set_random_seed(1)
    model = nets_factory.build("lenet", len(labels), SIZE, 3)
    recipe = preprocessing_factory.get("lenet").evaluate
    pixels = np.stack([recipe(picture(i), SIZE) for i in range(NUM_PICTURES)])
    logits = model(pixels, training=False)["logits"].numpy()
    values = checkpoints.values(model)
    head = [name for name in values if values[name].shape[-1:] == (len(labels),)]
    values |= {name: values[name] / logits.std() for name in head}
    checkpoints.write(f"{folder}/model.ckpt-7", {**values, "global_step": np.int64(7)})
    config = run_config.RunConfig("lenet", len(labels), tuple(labels), SIZE, "lenet")
    run_config.save(str(folder), config)
    return str(folder)


def restored(train_dir: str) -> keras.Model:
    return open_run(train_dir, say=lambda line: None).model


def probabilities(model: keras.Model, encoded: bytes) -> np.ndarray:
    """What the net itself says of a picture, float32 [num_classes]."""
    pixels = preprocessing_factory.get("lenet").evaluate(encoded, SIZE)
    return tf.nn.softmax(model(pixels[None], training=False)["logits"])[0].numpy()
