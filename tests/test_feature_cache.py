"""The frozen part of a net, computed once: the same training, many times faster."""

import functools
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from datasets import batches, tfrecord_dataset
from foundation.errors import InputError
from foundation.options import changed
from nets import checkpoints, nets_factory, slim_names
from preprocessing import preprocessing_factory
from tests.conftest import run_script
from training import batch_norm, distribution, feature_cache, run
from training.contracts import Examples
from training.log import Log
from training.options import TrainingOptions
from training.restoring import NetConfig


def frozen_but(model, *scopes):
    """The variables under `scopes`, with all other batch norms standing still."""
    trained = {
        name
        for name, variable in slim_names.variables(model).items()
        if variable.trainable and name.startswith(scopes)
    }
    batch_norm.freeze(model, trained)
    return trained


@functools.lru_cache(1)
def net_with_five_classes(name, size):
    return nets_factory.build(name, 5, size)


@pytest.mark.parametrize(
    ("name", "size", "scopes", "features"),
    [
        ("mobilenet_v1_025", 32, ["MobilenetV1/Logits"], [(1, 1, 256)]),
        (
            *("inception_v3", 139, ["InceptionV3/Logits", "InceptionV3/AuxLogits"]),
            [(1, 1, 768), (1, 1, 2048)],
        ),
        # The auxiliary logits are the same in every epoch: they are features themselves.
        ("inception_v3", 139, ["InceptionV3/Logits"], [(1, 1, 2048), (5,)]),
        ("resnet_v1_50", 64, ["resnet_v1_50/block4", "resnet_v1_50/logits"], [(2, 2, 1024)]),
        ("densenet_121", 64, ["DenseNet121/predictions"], [(1024,)]),
    ],
)
def test_both_parts_together_are_the_net(name, size, scopes, features):
    model = net_with_five_classes(name, size)
    split = feature_cache.split(model, frozen_but(model, *scopes))
    assert [tuple(tensor.shape[1:]) for tensor in split.frozen.outputs] == features
    assert not split.held_back and split.drawback() is None
    images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    halves = split.head(tuple(tf.nest.flatten(split.frozen(images))))
    for output, whole in model(images, training=False).items():
        np.testing.assert_allclose(halves[output], whole, atol=1e-6)
    shared = {id(variable) for variable in model.variables}
    assert {id(v) for part in (split.frozen, split.head) for v in part.variables} == shared


def test_dropout_before_frozen_layers_moves_the_cut_before_it(monkeypatch):
    def zeros(self, shape, dtype=None):  # drawing AlexNet's 50 million weights takes longer
        return tf.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.TruncatedNormal, "__call__", zeros)
    model = nets_factory.build("small_cnn", 3, 32, filters=(4, 4), dense_units=8)
    split = feature_cache.split(model, frozen_but(model, "SmallCnn/logits"))
    assert split.head.get_layer("SmallCnn.logits")
    vgg = nets_factory.build("alexnet_v2", 3, 224)
    split = feature_cache.split(vgg, frozen_but(vgg, "alexnet_v2/fc8"))
    assert split.held_back == ("alexnet_v2.fc7",)
    wide = nets_factory.build("mobilenet_v1_050", 3, 32)
    split = feature_cache.split(wide, frozen_but(wide, "MobilenetV1/Conv2d_1_"))
    assert "4096 features an image are more than its 3072 pixels" in split.drawback()


def test_moving_batch_norms_are_not_frozen():
    model = nets_factory.build("mobilenet_v1_025", 3, 32)
    trained = frozen_but(model, "MobilenetV1/Logits")
    model.get_layer("MobilenetV1.Conv2d_5_pointwise.BatchNorm").frozen = False
    split = feature_cache.split(model, trained)
    assert split.held_back[0] == "MobilenetV1.Conv2d_6_depthwise"
    with pytest.raises(InputError, match="nothing of the net is frozen"):
        feature_cache.split(model, frozen_but(model, "MobilenetV1"))


def features_of(count, variants=1):
    rows = np.arange(variants * count, dtype=np.float32)
    return feature_cache.Features((rows[:, None], rows * 10), np.arange(count, dtype=np.int32) % 3)


def test_batches_hold_every_image_once_an_epoch_and_can_be_resumed():
    features = features_of(10)
    drawn = list(features.batches(4, seed=3).take(10).as_numpy_iterator())
    rows = np.concatenate([batch["image"][0][:, 0] for batch in drawn])
    for epoch in range(4):
        assert sorted(rows[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert list(rows[:10]) != list(rows[10:20])
    for batch in drawn:
        np.testing.assert_array_equal(batch["image"][1], 10 * batch["image"][0][:, 0])
        np.testing.assert_array_equal(batch["label"], batch["image"][0][:, 0] % 3)
    resumed = features.batches(4, seed=3, skip_examples=12).take(3).as_numpy_iterator()
    for one, other in zip(drawn[3:6], resumed, strict=True):
        np.testing.assert_array_equal(one["image"][0], other["image"][0])
    other_seed = next(features.batches(10, seed=4).as_numpy_iterator())
    assert list(other_seed["image"][0][:, 0]) != list(rows[:10])


def test_epochs_take_turns_with_the_draws():
    batches = features_of(6, variants=2).batches(6, seed=0).take(4).as_numpy_iterator()
    for epoch, batch in enumerate(batches):
        rows = set(batch["image"][0][:, 0].astype(int))
        assert rows == set(range(6 * (epoch % 2), 6 * (epoch % 2) + 6))


@pytest.fixture
def make(colours, tmp_path, short_mobilenet):
    """Makes runs of a small net whose logits alone are trained; returns it, train and lines."""
    dataset = tfrecord_dataset.find(str(colours))
    recipe = preprocessing_factory.get("cifarnet")

    class Pictures:
        """The colours, or other batches in their place; a `training.contracts.Data`."""

        def __init__(self, data_key, read):
            self.identity, self._read = {"data": data_key}, read

        def batches(self, image_size, consumed):
            return self._read(image_size)

        def single_pass(self, variant):
            preparation = batches.Preparation(lambda e, b, s: recipe.evaluate(e, 32))
            return batches.single_pass_batches(dataset, preparation, 10, variant=variant)

        def check_unchanged(self):
            pass

    def make_run(train_dir="run", data_key="one", read=None, augment=False, balanced=False, **more):
        given = {"batch_size": 8, "max_number_of_steps": 6, "optimizer": "sgd"}
        given |= {"trainable_scopes": ("MobilenetV1/Logits",), "feature_cache": "auto"} | more
        chosen = changed(TrainingOptions(), {"train_dir": str(tmp_path / train_dir)} | given)
        examples = Examples(24, augmented=augment, balanced=balanced)
        net, lines = NetConfig("mobilenet_v1_025", 3, 32), []
        current = run.Run(chosen, net, examples, distribution.create(), lines.append)

        def train():
            data = Pictures(data_key, read)
            current.cache_features(data)
            current.train(data, Log())

        return current, train, lines

    return make_run


def values_at(train_dir):
    reader = checkpoints.read(str(train_dir))
    return {name: reader.get(name) for name in reader.names}


def test_the_result_is_that_of_training_on_images(make, colours, tmp_path):
    _, train, lines = make("cached")
    train()
    assert any(line.startswith("Feature cache: filled at") for line in lines)
    # The same order of the same images, without the cache.
    dataset = tfrecord_dataset.find(str(colours))
    recipe = preprocessing_factory.get("cifarnet")
    once = batches.single_pass_batches(
        dataset, batches.Preparation(lambda e, b, s: recipe.evaluate(e, 32)), 24
    )
    images = next(iter(once))["image"].numpy()
    labels = next(iter(once))["label"].numpy()
    order = feature_cache.Features((np.arange(24, dtype=np.float32),), labels).batches(8, 0)

    def in_pixels(batch):
        rows = tf.cast(batch["image"][0], tf.int32)
        return {"image": tf.gather(images, rows), "label": batch["label"]}

    _, train, lines = make("plain", read=lambda size: order.map(in_pixels), feature_cache="off")
    train()
    cached, plain = values_at(tmp_path / "cached"), values_at(tmp_path / "plain")
    assert cached.keys() == plain.keys()  # a whole net, as any other
    for name in plain:
        np.testing.assert_allclose(cached[name], plain[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert (cached["MobilenetV1/Logits/Conv2d_1c_1x1/biases"] != 0).any()


def test_it_is_found_again_and_made_anew_when_something_changed(make, tmp_path):
    def said(**options):
        _, train, lines = make(**options)
        train()
        return [line for line in lines if line.startswith("Feature cache:")][1:]

    folder = tmp_path / "run" / "feature_cache"
    assert said(max_number_of_steps=2)[-1].startswith("Feature cache: filled")
    assert said(max_number_of_steps=3) == [f"Feature cache: reused from {folder}."]
    for change in ({"data_key": "two"}, {"data_key": "two", "feature_cache_dtype": "float16"}):
        lines = said(max_number_of_steps=4, **change)
        assert "is of other weights, data or flags, so it is made anew" in lines[0]
    about = json.loads((folder / "cache.json").read_text())
    assert np.load(folder / f"{about['arrays'][0]}.npy").dtype == np.float16
    # Damaged: cut off in the middle.
    path = folder / f"{about['arrays'][0]}.npy"
    os.truncate(path, path.stat().st_size // 2)
    again = {"data_key": "two", "feature_cache_dtype": "float16"}
    assert said(max_number_of_steps=5, **again)[-1].startswith("Feature cache: filled")
    assert not list(folder.parent.glob("*.writing"))


def test_in_memory_nothing_is_written(make, tmp_path):
    _, train, _ = make(feature_cache_storage="memory")
    train()
    assert not (tmp_path / "run" / "feature_cache").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"augment": True}, "each image is augmented anew"),
        ({"frozen_batch_norm": "slim"}, "something random or moving comes"),
        ({"trainable_scopes": ("MobilenetV1",)}, "nothing of the net is frozen"),
        ({"balanced": True}, "--balanced_sampling draws some more often"),
        ({"unfreeze": ((2, "MobilenetV1/Conv2d_1"),)}, "--unfreeze will change what is computed"),
    ],
)
def test_auto_says_why_it_is_off_and_on_refuses(make, options, reason):
    current, _, lines = make(**options)
    assert current.trainee.split is None
    (line,) = [line for line in lines if line.startswith("Feature cache: off")]
    assert reason in line
    if "frozen_batch_norm" not in options:
        with pytest.raises(InputError, match=f"--feature_cache=on: .*{reason}"):
            make(**options, feature_cache="on")


def test_by_the_command_line_with_draws_and_a_kill(colours, tmp_path):
    def train(train_dir, steps, *more):
        flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/{train_dir}")
        flags += ("--model_name=small_cnn", "--small_cnn_filters=4", "--small_cnn_dense_units=4")
        flags += ("--train_image_size=16", "--batch_size=8")
        flags += ("--trainable_scopes=SmallCnn/logits", "--feature_cache_augmentations=2")
        flags += ("--deterministic", "--precision=float32", f"--max_number_of_steps={steps}")
        return run_script("train_image_classifier.py", *flags, *more)

    whole = train("whole", 8)
    assert whole.returncode == 0, whole.stderr
    assert "the frozen part of the net sees 48 images once" in whole.stdout
    assert train("parts", 5).returncode == 0
    resumed = train("parts", 8)
    assert "Feature cache: reused" in resumed.stdout
    one, other = values_at(tmp_path / "whole"), values_at(tmp_path / "parts")
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    clones = train("clones", 2, "--clone_on_cpu", "--num_clones=2")
    assert clones.returncode == 0, clones.stderr
    both = train("both", 1, "--augment=false")
    assert both.returncode == 2 and "excludes --augment=false" in both.stderr
