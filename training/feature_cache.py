"""The frozen part of a net, computed once an image and kept.

Where only late layers are trained, the layers before them give an image the same features in every
epoch. So they run over the data once. The trained part then learns from the kept features, many
times faster than from pixels, and with the same result.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from foundation import seeds
from foundation.errors import InputError
from nets import layers, slim_names

_ABOUT = "cache.json"
_LABELS = "labels"
_SAY_SECS = 10.0
# Attributes of layers that are random in training where they are not 0.
_RANDOM = ("rate", "drop_rate", "drop_path_rate", "stddev")


@dataclasses.dataclass(frozen=True)
class Split:
    """A net in two: `frozen` gives features of images, `head` outputs of features.

    Both share the net's layers. `held_back` names layers that are part of the head although they
    are not trained, because dropout or a moving batch norm comes before them.
    """

    frozen: keras.Model
    head: keras.Model
    held_back: tuple[str, ...]

    def drawback(self) -> str | None:
        """Why a cache of the features would save little, or None."""
        pixels = math.prod(self.frozen.input.shape[1:])
        features = sum(math.prod(tensor.shape[1:]) for tensor in self.frozen.outputs)
        if features > pixels:
            return f"{features} features an image are more than its {pixels} pixels"
        late = sum(self.head.get_layer(name).count_params() for name in self.held_back)
        if late > self.frozen.count_params():
            return (
                f"something random or moving comes before {self.held_back[0]} and most other "
                "frozen layers"
            )
        return None


def split(model: keras.Model, trained: Collection[str]) -> Split:
    """Cuts a net as late as possible before the first layers that training changes.

    Args:
      model: functional net whose outputs are a dict with "logits".
      trained: slim names of the variables to train.

    Raises:
      InputError: nothing of the net is frozen.
    """
    constant: dict[int, bool] = {}  # by tensor: whether an image has the same in every epoch
    learned: dict[int, bool] = {}  # by tensor: whether a trained layer comes before it
    cut: dict[int, keras.KerasTensor] = {}
    held_back: list[str] = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            layer, inputs = node.operation, node.input_tensors
            trains = _trains(layer, trained)
            after = any(learned[id(tensor)] for tensor in inputs)
            stays = all(constant[id(tensor)] for tensor in inputs)
            if not stays and not after and not trains and getattr(layer, "weights", ()):
                held_back.append(layer.name)
            stays = stays and not trains and not _changes(layer)
            for tensor in node.outputs:
                constant[id(tensor)], learned[id(tensor)] = stays, after or trains
            if not stays:
                cut.update({id(tensor): tensor for tensor in inputs if constant[id(tensor)]})
    outputs = dict(model.output)
    for name, tensor in outputs.items():
        if constant[id(tensor)]:
            cut[id(tensor)] = tensor
            outputs[name] = keras.layers.Identity()(tensor)  # a model's input is no output
    features = list(cut.values())
    if any(tensor is image for tensor in features for image in model.inputs):
        raise InputError("nothing of the net is frozen, or something random comes first")
    head = keras.Model(tuple(features), outputs)
    return Split(keras.Model(model.input, features), head, tuple(held_back))


def _trains(operation, trained: Collection[str]) -> bool:
    weights = getattr(operation, "weights", ())
    return any(slim_names.slim_name(variable) in trained for variable in weights)


def _changes(layer) -> bool:
    """Whether a layer that isn't trained gives an image something else from step to step."""
    if isinstance(layer, layers.BatchNorm):
        return layer.trainable and not layer.frozen
    if isinstance(layer, layers.Dropout):
        return layer.keep_prob < 1
    rates = (getattr(layer, name, None) for name in _RANDOM)
    return any(isinstance(rate, int | float) and rate for rate in rates)


def choose(
    model: keras.Model,
    trained: Collection[str],
    wish: str,
    *,
    obstacle: str | None,
    drawn: bool,
    say: Callable[[str], None],
) -> Split | None:
    """The net in two where features are to be cached, else None; says what it chose and why.

    Args:
      model, trained: as `split` takes them.
      wish: "on", or "auto": where it saves time and the training stays the same.
      obstacle: what of the run rules a cache out.
      drawn: whether each image is augmented anew in each epoch.

    Raises:
      InputError: the wish is "on" and can't be granted.
    """
    found, problem = None, obstacle
    if not problem:
        try:
            found = split(model, trained)
            problem = found.drawback() if wish == "auto" else None
        except InputError as error:
            problem = error.problem
    if not problem and drawn:
        problem = (
            "each image is augmented anew in each epoch (with --augment=false, or with "
            "--feature_cache_augmentations=4 for four variants of each, a cache is possible, and "
            "training many times faster)"
        )
    if problem and wish == "on":
        raise InputError(f"not possible, since {problem}.", option="feature_cache", value="on")
    if problem:
        say(f"Feature cache: off, since {problem}.")
        return None
    size = found.frozen.count_params() / 1e6
    say(f"Feature cache: on; {size:.2f} M parameters are computed once an image.")
    return found


@dataclasses.dataclass(frozen=True)
class Features:
    """What the frozen part gave: `arrays` [variants * N, …] each, and int32 `labels` [N].

    Row d * N + i is of image i in variant d of its augmentation.
    """

    arrays: tuple[np.ndarray, ...]
    labels: np.ndarray

    @property
    def num_variants(self) -> int:
        return len(self.arrays[0]) // len(self.labels)

    def batches(self, batch_size: int, seed: int, skip_examples: int = 0) -> tf.data.Dataset:
        """Endless batches: every image once an epoch, in a new order each epoch.

        Equal arguments give equal batches. Epoch e takes variant e modulo the number of variants.

        Args:
          batch_size: of every batch; may exceed the number of images.
          seed: decides the order.
          skip_examples: how many examples of this sequence were consumed already.

        Returns:
          Batches of {"image": (features float32 [B, …], …), "label": int32 [B]}.
        """
        count = len(self.labels)
        epoch, position = divmod(skip_examples, count)

        @tf.autograph.experimental.do_not_convert
        def rows(number: tf.Tensor) -> tf.data.Dataset:
            first = tf.cast(tf.stack(seeds.pair(seed, number)), tf.int32)
            order = tf.random.experimental.stateless_shuffle(
                tf.range(count, dtype=tf.int64), seed=first
            )
            variant = number % self.num_variants
            passed = tf.where(number == epoch, tf.constant(position, tf.int64), 0)
            return tf.data.Dataset.from_tensor_slices(order[passed:] + variant * count)

        def take(chosen: np.ndarray):
            # From a file, rows in its order are read faster.
            order = np.argsort(chosen, kind="stable")
            back = np.argsort(order, kind="stable")
            parts = [np.float32(array[chosen[order]])[back] for array in self.arrays]
            return [*parts, self.labels[chosen % count]]

        @tf.autograph.experimental.do_not_convert
        def gather(chosen: tf.Tensor) -> dict[str, object]:
            types = [tf.float32] * len(self.arrays) + [tf.int32]
            *parts, labels = tf.numpy_function(take, [chosen], types, stateful=False)
            for part, array in zip(parts, self.arrays, strict=True):
                part.set_shape([batch_size, *array.shape[1:]])
            labels.set_shape([batch_size])
            return {"image": tuple(parts), "label": labels}

        ds = tf.data.Dataset.range(epoch, tf.int64.max).flat_map(rows)
        ds = ds.batch(batch_size, drop_remainder=True).map(gather)
        options = tf.data.Options()
        options.autotune.enabled = False
        policy = tf.data.experimental.AutoShardPolicy.OFF
        options.experimental_distribute.auto_shard_policy = policy
        return ds.prefetch(2).with_options(options)


def key(frozen: keras.Model, about: Mapping[str, object]) -> str:
    """A text that changes with the frozen weights and with `about`, plain values of the rest."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, variable in sorted(slim_names.variables(frozen).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tf.convert_to_tensor(variable.value)).tobytes())
    return digest.hexdigest()


def load_or_compute(
    frozen: keras.Model,
    read: Callable[[int], Iterable[Mapping[str, tf.Tensor]]],
    num_examples: int,
    variants: int,
    dtype: str,
    folder: str | None,
    wanted: str,
    say: Callable[[str], None],
) -> Features:
    """The features in `folder` where they have the key `wanted`, else those of `compute`."""
    if folder and os.path.exists(folder):
        if features := load(folder, wanted):
            say(f"Feature cache: reused from {folder}.")
            return features
        say(f"Feature cache: {folder} is of other weights, data or flags, so it is made anew.")
    return compute(frozen, read, num_examples, variants, dtype, folder, wanted, say)


def load(folder: str, wanted: str) -> Features | None:
    """The features kept in `folder`, or None where they are not those of the key `wanted`."""
    try:
        with open(os.path.join(folder, _ABOUT), encoding="utf-8") as file:
            about = json.load(file)
        if about["key"] != wanted:
            return None
        paths = [os.path.join(folder, f"{name}.npy") for name in (*about["arrays"], _LABELS)]
        *read, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
        if any(len(array) != about["draws"] * len(labels) for array in read):
            return None
        return Features(tuple(read), np.array(labels))
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def compute(
    frozen: keras.Model,
    read: Callable[[int], Iterable[Mapping[str, tf.Tensor]]],
    num_examples: int,
    variants: int,
    dtype: str,
    folder: str | None,
    wanted: str,
    say: Callable[[str], None],
) -> Features:
    """Runs the frozen part over all images.

    Args:
      frozen: of `split`.
      read: a variant's number → batches of {"image", "label"}, each example once.
      num_examples: in an epoch.
      variants: how many.
      dtype: float32 or float16, the type that features are kept in.
      folder: where they are kept, replaced once the new ones are whole; None: in memory.
      wanted: the key to keep them under.
      say: gets a line of progress every ten seconds.

    Raises:
      OSError: they can't be written; what was there is untouched.
      InputError: the examples are not as many as were counted, or a feature is not finite.
    """
    shapes = [(variants * num_examples, *tensor.shape[1:]) for tensor in frozen.outputs]
    size = sum(math.prod(shape) for shape in shapes) * np.dtype(dtype).itemsize
    say(
        f"Feature cache: the frozen part of the net sees {variants * num_examples} images once; "
        f"{size / 2**20:.0f} MiB in {folder or 'memory'}."
    )
    if not folder:
        arrays = [np.empty(shape, dtype) for shape in shapes]
        return Features(tuple(arrays), _fill(arrays, frozen, read, variants, num_examples, say))
    writing = f"{folder}.writing"
    try:
        arrays = _open_files(writing, shapes, dtype, size)
        labels = _fill(arrays, frozen, read, variants, num_examples, say)
        for array in arrays:
            array.flush()
        names = [_array_name(i) for i in range(len(arrays))]
        del arrays
        np.save(os.path.join(writing, f"{_LABELS}.npy"), labels)
        with open(os.path.join(writing, _ABOUT), "w", encoding="utf-8") as file:
            json.dump({"key": wanted, "arrays": names, "draws": variants}, file)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(writing, folder)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return load(folder, wanted)


def _array_name(number: int) -> str:
    return f"features_{number}"


def _open_files(
    folder: str, shapes: Sequence[tuple[int, ...]], dtype: str, size: int
) -> list[np.ndarray]:
    """Empty arrays in files of a new folder; OSError where `size` bytes are more than is free."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"{folder}: the features take {size / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free. "
            "Make room, add --feature_cache_dtype=float16, or turn it off by --feature_cache=off."
        )
    return [
        np.lib.format.open_memmap(
            os.path.join(folder, f"{_array_name(i)}.npy"), "w+", np.dtype(dtype), shape
        )
        for i, shape in enumerate(shapes)
    ]


def _fill(
    arrays: Sequence[np.ndarray],
    frozen: keras.Model,
    read: Callable[[int], Iterable[Mapping[str, tf.Tensor]]],
    variants: int,
    num_examples: int,
    say: Callable[[str], None],
) -> np.ndarray:
    """Writes the features of all images into `arrays`; returns their labels, int32 [N]."""
    run = tf.function(lambda images: frozen(images, training=False), autograph=False)
    labels = np.empty(num_examples, np.int32)
    progress = _Progress(variants * num_examples, say)
    done = 0
    for variant in range(variants):
        first, end = variant * num_examples, (variant + 1) * num_examples
        for batch in read(variant):
            last = done + len(batch["label"])
            if last > end:
                break
            for array, part in zip(arrays, tf.nest.flatten(run(batch["image"])), strict=True):
                array[done:last] = _finite(part, array.dtype)
            labels[done - first : last - first] = batch["label"]
            done = last
            progress.show(done)
        if done != end:
            raise InputError(
                f"{num_examples} examples were counted, but others were read. The files changed "
                "meanwhile: run the command again."
            )
    progress.close()
    return labels


def _finite(part: tf.Tensor, dtype: np.dtype) -> np.ndarray:
    kept = tf.cast(part, dtype).numpy()
    if not np.isfinite(kept).all():
        raise InputError(
            "features of the frozen part are not finite in it.",
            option="feature_cache_dtype",
            value=dtype,
            remedy="Take float32; if they aren't in that either, the frozen weights are damaged.",
        )
    return kept


class _Progress:
    """Says every ten seconds how many images are done, and at the end how fast it went."""

    def __init__(self, total: int, say: Callable[[str], None]):
        self._total, self._say = total, say
        self._began = self._said_at = time.monotonic()

    def show(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said_at <= _SAY_SECS:
            return
        self._said_at = now
        speed = done / (now - self._began)
        minutes, seconds = divmod(round((self._total - done) / speed), 60)
        self._say(
            f"  {done}/{self._total} images  {speed:.1f} images/s  {minutes}:{seconds:02} left"
        )

    def close(self) -> None:
        speed = self._total / max(time.monotonic() - self._began, 1e-9)
        self._say(f"Feature cache: filled at {speed:.1f} images/s.")
