"""The SavedModel: pictures in, labels out, with the preprocessing and the labels inside."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from foundation import labels as class_names
from foundation import machine
from foundation.errors import InputError
from nets import checkpoints, maps
from serving import explain, frozen_graph
from serving.pictures import reading

ENCODED = "serving_default"
IMAGES = "images"
IMAGES_UINT8 = "images_uint8"
FEATURES = "features"
EXPLAIN = "explain"
_NUM_BEST = 5
# What lies between the halves of a net is numbered behind this.
_BETWEEN = "between_"
# What serving_default gives, in which order: for people, who must not pair the two orders.
OUTPUTS = {
    "logits": "in class order, as labels.txt has it",
    "probabilities": "in class order, as labels.txt has it",
    "classes": "best first: indices of the most probable classes",
    "labels": "best first: their names",
    "scores": "best first: their probabilities",
    "valid": "one a picture, of encoded pictures alone: whether it could be read",
    "status": "one a picture, of encoded pictures alone: empty, or what is wrong and what to do",
}
# Of a net whose weights are constants of its graph. TensorFlow copies them several times while it
# prepares the graph.
_MOST_CONSTANT_BYTES = 2**28
# What a picture has that could not be read.
_NOTHING = {"classes": -1, "labels": ""}


def write(
    directory: str,
    model: keras.Model,
    prepare: Callable[[tf.Tensor], tf.Tensor],
    picture: Callable[[tf.Tensor], tf.Tensor],
    labels_file: str,
    precision: str = "float32",
) -> None:
    """Writes a SavedModel with five signatures.

    `serving_default`, `features` and `explain` take `encoded_images`, string [N]: the bytes of
    JPEG, PNG, GIF or BMP files, mixed. They are seen as in training: turned as their EXIF says,
    transparency laid on white. `images` takes `images`, float32 [N, H, W, 3], `images_uint8` takes
    the same as uint8: decoded RGB pictures, 0 to 255, of any one size. N may be 0. These and
    `serving_default` give

    - `logits` and `probabilities`, float32 [N, num_classes], in class order;
    - `classes`, int32 [N, K]: the most probable classes, best first; K is 5, or all if fewer;
    - `labels`, string [N, K]: their names; `scores`, float32 [N, K]: their probabilities.

    `features` gives `features`, float32 [N, C]: what the net's classifier is fed, the mean of its
    last feature maps over height and width.

    `explain` also takes `classes`, int32 [N], -1 for the likeliest. It gives `heat`, float32
    [N, h, w], which places led to them as `explain.heat` has it, and `pictures`, what the net saw,
    uint8 [N, S, S, 3]. A net without feature maps lacks it.

    Of encoded pictures there are also `valid`, bool [N], and `status`, string [N]: "", or what is
    wrong with a picture and what to do. A picture that is not valid has numbers of 0, classes of
    -1 and empty labels; the others of its batch are answered.

    Args:
      directory: where to write, such as `saved_model/1`; must not exist.
      model: takes float32 [N, S, S, C], gives a dict with "logits".
      prepare: the recipe on a decoded picture, uint8 or float32 [h, w, 3] in 0..255 → float32
        [S, S, C].
      picture: from what the model takes to what people see: uint8 [N, S, S, 3].
      labels_file: labels.txt; kept inside as an asset.
      precision: what the net computes in, of `serving.options.PRECISIONS`.

    Raises:
      InputError: the net can't be computed in this precision.
      OSError: can't be written.
    """
    recipe = prepare, picture
    functions = _signatures(model, *recipe, class_names.read(labels_file), precision)
    # Of a function that was not traced yet, `save` would trace another.
    signatures = {name: one.get_concrete_function() for name, one in functions.items()}
    module = tf.Module()
    # Those that signatures read: none of the net where its weights are constants.
    read = [variable for one in signatures.values() for variable in one.variables]
    module.weights = list({id(variable): variable for variable in read}.values())
    module.labels_file = tf.saved_model.Asset(labels_file)
    try:
        tf.saved_model.save(module, directory, signatures=signatures)
    except tf.errors.OpError as error:
        raise OSError(f"{os.path.dirname(directory)}: {checkpoints.not_written(error)}") from error


def _signatures(
    model: keras.Model,
    prepare: Callable[[tf.Tensor], tf.Tensor],
    picture: Callable[[tf.Tensor], tf.Tensor],
    names: Sequence[str],
    precision: str,
) -> dict[str, Callable]:
    """By their names; arguments as of `write`, and the classes' names."""
    pixels = tf.TensorSpec(model.inputs[0].shape[1:], tf.float32)
    halves = maps.halves(model)
    read, net = _reading(prepare, pixels), _net(model, halves, precision)
    classify = functools.partial(_named, tf.constant(names))
    signatures = {
        ENCODED: _of_encoded(read, lambda images: classify(net(images)["logits"])),
        FEATURES: _of_encoded(read, lambda images: {"features": net(images)["features"]}),
    }
    for name, dtype in ((IMAGES, tf.float32), (IMAGES_UINT8, tf.uint8)):
        signatures[name] = _of_decoded(
            tf.TensorSpec([None, None, None, 3], dtype, name="images"),
            prepare,
            pixels,
            lambda images: classify(net(images)["logits"]),
        )
    if halves.name:
        shared = dataclasses.replace(halves, trunk=lambda images: _between(net(images)))
        signatures[EXPLAIN] = _explaining(read, shared, picture)
    return signatures


def _net(
    model: keras.Model, halves: maps.Halves, precision: str
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """The net as one function, which all signatures call: it is stored and loaded once.

    It gives "logits", float32 [N, num_classes], "features", float32 [N, C], and "between_0" and so
    on: what lies between the halves. The weights of all but the largest nets are constants of it,
    as in the frozen graph.
    """
    images = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32, name="pixels")

    @tf.function(input_signature=[images], autograph=False)
    def forward(images):
        between = halves.trunk(images)
        found = halves.tail(between)
        if found["features"].shape.rank == 4:
            found["features"] = tf.reduce_mean(found["features"], axis=[1, 2])
        found |= {f"{_BETWEEN}{i}": x for i, x in enumerate(between)}
        return {name: tf.identity(tf.cast(x, tf.float32), name=name) for name, x in found.items()}

    is_small = 4 * model.count_params() <= _MOST_CONSTANT_BYTES
    answer = forward
    if is_small or precision != "float32":
        outputs = list(forward.get_concrete_function().structured_outputs)
        answer = frozen_graph.constant_function(forward, outputs, precision)

    @tf.function(input_signature=[images], autograph=False)
    def net(images):
        # oneDNN's fused convolutions (TensorFlow 2.21) give an empty batch a wrong shape.
        count, blank = tf.shape(images)[0], tf.zeros([1, *images.shape[1:]])
        images = tf.cond(count > 0, lambda: images, lambda: blank)
        return {name: x[:count] for name, x in answer(images).items()}

    return net


def _between(found: dict[str, tf.Tensor]) -> list[tf.Tensor]:
    """What lies between the halves of a net, of all that `_net` gives."""
    names = (name for name in found if name.startswith(_BETWEEN))
    return [found[name] for name in sorted(names, key=lambda name: int(name[len(_BETWEEN) :]))]


def _reading(
    prepare: Callable[[tf.Tensor], tf.Tensor], pixels: tf.TensorSpec
) -> Callable[[tf.Tensor], reading.Pictures]:
    """`reading.read` as one function, too: its graph is larger than that of many nets."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def read(encoded):
        return reading.read(encoded, prepare, pixels)

    return read


def _of_encoded(
    read: Callable[[tf.Tensor], reading.Pictures],
    answer: Callable[[tf.Tensor], dict[str, tf.Tensor]],
):
    """A signature on encoded pictures; `answer` is of those that could be read."""
    encoded = tf.TensorSpec([None], tf.string, name="encoded_images")

    @tf.function(input_signature=[encoded], autograph=False)
    def signature(encoded_images):
        pictures = read(encoded_images)
        answers = {
            name: _placed(found, pictures.rows, _NOTHING.get(name, 0.0))
            for name, found in answer(pictures.pixels).items()
        }
        return {**answers, "valid": pictures.rows >= 0, "status": pictures.status}

    return signature


def _of_decoded(
    images: tf.TensorSpec,
    prepare: Callable[[tf.Tensor], tf.Tensor],
    pixels: tf.TensorSpec,
    answer: Callable[[tf.Tensor], dict[str, tf.Tensor]],
):
    """A signature on decoded pictures."""

    @tf.function(input_signature=[images], autograph=False)
    def signature(images):
        return answer(tf.map_fn(prepare, images, fn_output_signature=pixels))

    return signature


def _explaining(
    read: Callable[[tf.Tensor], reading.Pictures],
    halves: maps.Halves,
    picture: Callable[[tf.Tensor], tf.Tensor],
):
    """The signature `explain`."""
    encoded = tf.TensorSpec([None], tf.string, name="encoded_images")
    classes = tf.TensorSpec([None], tf.int32, name="classes")

    @tf.function(input_signature=[encoded, classes], autograph=False)
    def signature(encoded_images, classes):
        pictures = read(encoded_images)
        is_read = pictures.rows >= 0
        asked = tf.tensor_scatter_nd_update(
            tf.fill([tf.shape(pictures.pixels)[0]], explain.LIKELIEST),
            tf.boolean_mask(pictures.rows, is_read)[:, tf.newaxis],
            tf.boolean_mask(classes, is_read),
        )
        heat = explain.heat(halves, pictures.pixels, asked)
        return {
            "heat": _placed(heat, pictures.rows, 0.0),
            "pictures": _placed(picture(pictures.pixels), pictures.rows, 0.0),
            "valid": is_read,
            "status": pictures.status,
        }

    return signature


def _named(labels: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """What all signatures but `features` say of logits, float32 [N, num_classes]."""
    probabilities = tf.nn.softmax(logits)
    scores, classes = tf.math.top_k(probabilities, k=min(_NUM_BEST, len(labels)))
    return {
        "logits": logits,
        "probabilities": probabilities,
        "classes": classes,
        "labels": tf.gather(labels, classes),
        "scores": scores,
    }


def _placed(found: tf.Tensor, rows: tf.Tensor, nothing: float | str) -> tf.Tensor:
    """The rows of `found`, [M, …], that `rows`, int32 [N], names; `nothing` where that is -1."""
    blank = tf.fill([1, *tf.unstack(tf.shape(found))[1:]], tf.cast(nothing, found.dtype))
    return tf.gather(tf.concat([blank, found], axis=0), rows + 1)


def load(directory: str) -> tuple[Callable[[Sequence[bytes]], dict], tuple[str, ...]]:
    """A SavedModel of export_model.py as a function of encoded pictures.

    Returns:
      function from N byte strings to {"logits", "probabilities"}, float32 [N, num_classes], and
      the labels.

    Raises:
      InputError: no SavedModel, damaged, or without our signatures and labels. The function
        raises it for pictures that the model can't read.
    """
    run = _on_encoded(directory, _loaded(directory))
    labels_file = os.path.join(directory, "assets", class_names.FILE_NAME)
    if not os.path.exists(labels_file):
        raise InputError(
            f"{directory}: a SavedModel without labels, so not one of export_model.py."
        )
    return run, class_names.read(labels_file)


def load_images(directory: str) -> Callable[[np.ndarray], dict]:
    """The same on decoded pictures, float32 [N, H, W, 3] in 0..255."""
    return _on_images(directory, _loaded(directory))


def load_both(
    directory: str,
) -> tuple[Callable[[Sequence[bytes]], dict], Callable[[np.ndarray], dict]]:
    """What `load` and `load_images` give, both of one SavedModel that was loaded once."""
    loaded = _loaded(directory)
    return _on_encoded(directory, loaded), _on_images(directory, loaded)


def load_explainer(directory: str) -> Callable[[Sequence[bytes], Sequence[int]], dict]:
    """Grad-CAM of a SavedModel, on encoded pictures.

    Returns:
      function from N byte strings and N classes, `explain.LIKELIEST` for the likeliest, to "heat",
      float32 [N, h, w], and "pictures", uint8 [N, S, S, 3].

    Raises:
      InputError: as `load`, or a SavedModel without Grad-CAM.
    """
    run = _signature(directory, _loaded(directory), EXPLAIN, ("heat", "pictures"))
    return lambda encoded, classes: run(
        encoded_images=tf.constant(encoded, tf.string), classes=tf.constant(classes, tf.int32)
    )


def _on_encoded(directory: str, loaded) -> Callable[[Sequence[bytes]], dict]:
    run = _signature(directory, loaded, ENCODED)
    return lambda encoded: run(encoded_images=tf.constant(encoded, tf.string))


def _on_images(directory: str, loaded) -> Callable[[np.ndarray], dict]:
    run = _signature(directory, loaded, IMAGES)
    return lambda images: run(images=tf.constant(images, tf.float32))


def check_place(folder: str) -> None:
    """Raises InputError where TensorFlow would not find a SavedModel's weights below a folder."""
    if "[" in folder or "\\" in folder:
        raise InputError(
            f"{folder}: in the path of a SavedModel TensorFlow takes [ and \\ for a pattern.",
            remedy="Name a folder without them.",
        )


def _loaded(directory: str):
    """What TensorFlow makes of a SavedModel; raises InputError where that is nothing."""
    check_place(os.path.abspath(directory))
    try:
        with machine.without_collector():
            return tf.saved_model.load(directory)
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{directory}: TensorFlow can't load this SavedModel: {reason}") from error


def _signature(
    directory: str, loaded, name: str, outputs: Sequence[str] = ("logits", "probabilities")
) -> Callable[..., dict]:
    """A signature of what `_loaded` gave, from arrays to those of its outputs."""
    if name not in loaded.signatures:
        raise InputError(
            f"{directory}: a SavedModel without the signature {name!r}, so not one of "
            "export_model.py, or an older one.",
            remedy="Export again with export_model.py.",
        )

    # Weights that are constants come with a graph that has been rewritten for the processor.
    is_rewritten = not loaded.signatures[name].variables

    def run(**inputs):
        with _without_rewriting() if is_rewritten else contextlib.nullcontext():
            # Through `loaded`: a signature by itself does not keep the weights alive.
            answer = loaded.signatures[name](**inputs)
        problems = (
            [text.decode() for text in answer["status"].numpy()] if "status" in answer else []
        )
        for i, problem in enumerate(problems):
            if problem:
                raise InputError(f"picture {i}: {problem}")
        return {key: answer[key].numpy() for key in outputs}

    return run


@contextlib.contextmanager
def _without_rewriting() -> Iterator[None]:
    """Has TensorFlow run graphs as they are: rewriting one takes longer than the first answer."""
    option = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})
