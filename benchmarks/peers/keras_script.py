"""What a user would write with Keras alone: photographs in class folders to a saved model.

python benchmarks/peers/keras_script.py --data_dir=FOLDERS --output=model.keras --steps=1500
python benchmarks/peers/keras_script.py --step_only --model_name=mobilenet_v2 --image_size=96

FOLDERS has train/CLASS/*.jpg and validation/CLASS/*.jpg. Keras' own advice is followed:
image_dataset_from_directory with cache and prefetch, augmentation layers, Adam with a cosine,
compile and fit. With --step_only the images lie in memory, and images per second are printed.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def small_cnn(shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Three stages of convolution and pool, a dense layer, dropout."""
    stages = []
    for filters in (32, 64, 128):
        stages.append(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        stages.append(layers.MaxPooling2D(2))
    top = [layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dropout(0.5)]
    return keras.Sequential([keras.Input(shape), *stages, *top, layers.Dense(num_classes)])


def build(name: str, size: int, num_classes: int) -> keras.Model:
    """The net that keras.applications, or a first tutorial, has under this name; gives logits."""
    shape = (size, size, 3)
    if name == "small_cnn":
        return small_cnn(shape, num_classes)
    options = {"weights": None, "classes": num_classes, "classifier_activation": None}
    if name == "mobilenet_v2":
        return keras.applications.MobileNetV2(shape, **options)
    alpha = {"mobilenet_v1": 1.0, "mobilenet_v1_025": 0.25}[name]
    return keras.applications.MobileNet(shape, alpha=alpha, **options)


def compiled(model: keras.Model, rate) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def images_per_second(args: argparse.Namespace) -> float:
    model = compiled(build(args.model_name, args.image_size, args.num_classes), 1e-4)
    shape = (args.batch_size, args.image_size, args.image_size, 3)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    labels = np.arange(args.batch_size, dtype=np.int32) % args.num_classes
    ds = tf.data.Dataset.from_tensors((images, labels)).repeat()
    model.fit(ds, steps_per_epoch=3, verbose=0)
    began = time.perf_counter()
    model.fit(ds, steps_per_epoch=args.steps, verbose=0)
    return args.batch_size * args.steps / (time.perf_counter() - began)


def train(args: argparse.Namespace) -> float:
    """Trains on the folders, saves the model and returns its validation accuracy."""

    def read(split: str) -> tf.data.Dataset:
        return keras.utils.image_dataset_from_directory(
            os.path.join(args.data_dir, split),
            image_size=(args.image_size, args.image_size),
            batch_size=args.batch_size,
            shuffle=split == "train",
            seed=0,
            verbose=False,
        )

    training, validation = read("train"), read("validation")
    num_classes = len(training.class_names)
    augment = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomZoom(0.2),
            layers.RandomTranslation(0.1, 0.1),
        ]
    )
    net = build(args.model_name, args.image_size, num_classes)
    images = keras.Input((args.image_size, args.image_size, 3))
    model = keras.Model(images, net(layers.Rescaling(2 / 255, offset=-1)(augment(images))))
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, args.steps)
    compiled(model, rate)
    endless = training.cache().repeat().prefetch(tf.data.AUTOTUNE)
    model.fit(endless, steps_per_epoch=args.steps, verbose=0)
    _, accuracy = model.evaluate(validation, verbose=0)
    model.save(args.output)
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_name", default="mobilenet_v1_025")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--learning_rate", type=float, default=0.006)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--output", default="model.keras")
    parser.add_argument("--step_only", action="store_true")
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    print(json.dumps(images_per_second(args) if args.step_only else train(args)))


if __name__ == "__main__":
    main()
