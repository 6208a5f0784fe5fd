"""The nets of keras.applications as nets of this table.

Keras builds the graph; here it is copied layer by layer, with the layers of `nets.layers` for
Keras's own. So computation type, fused batch norm, seeded dropout and slim's variable names are
those of all other nets, nothing global changes, and ConvNeXt trains on CPUs too, where TensorFlow
has no gradient for the grouped convolutions that Keras spells depthwise ones with.

The scope of a layer is Keras's class, then Keras's name for the layer in a fresh session:
`EfficientNetB0/block1a_dwconv/depthwise_weights`. Rows that begin with keras_ are Keras's versions
of nets that slim has too.

All of them take the pixels of the recipe "inception", -1 to 1, or "vgg", 0 to 255 minus means; a
net whose weights expect others begins with a layer that converts.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import numpy as np

from foundation.errors import AgainError, InputError
from nets import blocks, https, keras_files, layers
from nets.blocks import Request
from nets.shapes import shapes_only

_PIXELS = "pixels"  # name of the layer that converts them
_IMAGENET_MEAN, _IMAGENET_STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of 0 to 1

_SUBSTITUTES = {  # and which of their variables are regularised
    keras.layers.Conv2D: (layers.Conv2D, ("weights",)),
    keras.layers.Dense: (layers.Dense, ("weights",)),
    keras.layers.DepthwiseConv2D: (layers.DepthwiseConv2D, ()),
    keras.layers.SeparableConv2D: (layers.SeparableConv2D, ("pointwise_weights",)),
}


@dataclasses.dataclass(frozen=True)
class Application:
    """A net of keras.applications.

    `pixels` is what its weights were trained with: "symmetric" from -1 to 1; "caffe" 0 to 255 minus
    means, blue first; "standardized" by ImageNet's mean and standard deviation; "halved" 0 to 255
    by 128, minus 1.
    """

    scope: str  # the name of its class in keras.applications
    image_size: int
    pixels: str = "symmetric"
    smallest_image: int = 32

    @property
    def preprocessing(self) -> str:
        return "vgg" if self.pixels == "caffe" else "inception"


APPLICATIONS: Mapping[str, Application] = {
    "convnext_tiny": Application("ConvNeXtTiny", 224, "standardized"),
    "convnext_small": Application("ConvNeXtSmall", 224, "standardized"),
    "convnext_base": Application("ConvNeXtBase", 224, "standardized"),
    "convnext_large": Application("ConvNeXtLarge", 224, "standardized"),
    "convnext_xlarge": Application("ConvNeXtXLarge", 224, "standardized"),
    "densenet_121": Application("DenseNet121", 224, "standardized"),
    "densenet_169": Application("DenseNet169", 224, "standardized"),
    "densenet_201": Application("DenseNet201", 224, "standardized"),
    "efficientnet_b0": Application("EfficientNetB0", 224, "standardized"),
    "efficientnet_b1": Application("EfficientNetB1", 240, "standardized"),
    "efficientnet_b2": Application("EfficientNetB2", 260, "standardized"),
    "efficientnet_b3": Application("EfficientNetB3", 300, "standardized"),
    "efficientnet_b4": Application("EfficientNetB4", 380, "standardized"),
    "efficientnet_b5": Application("EfficientNetB5", 456, "standardized"),
    "efficientnet_b6": Application("EfficientNetB6", 528, "standardized"),
    "efficientnet_b7": Application("EfficientNetB7", 600, "standardized"),
    "efficientnet_v2_b0": Application("EfficientNetV2B0", 224, "standardized"),
    "efficientnet_v2_b1": Application("EfficientNetV2B1", 240, "standardized"),
    "efficientnet_v2_b2": Application("EfficientNetV2B2", 260, "standardized"),
    "efficientnet_v2_b3": Application("EfficientNetV2B3", 300, "standardized"),
    "efficientnet_v2_s": Application("EfficientNetV2S", 384, "halved"),
    "efficientnet_v2_m": Application("EfficientNetV2M", 480, "halved"),
    "efficientnet_v2_l": Application("EfficientNetV2L", 480, "halved"),
    "keras_inception_resnet_v2": Application("InceptionResNetV2", 299, smallest_image=75),
    "keras_inception_v3": Application("InceptionV3", 299, smallest_image=75),
    "keras_mobilenet_v1": Application("MobileNet", 224),
    "keras_mobilenet_v2": Application("MobileNetV2", 224),
    "keras_mobilenet_v3_large": Application("MobileNetV3Large", 224),
    "keras_mobilenet_v3_small": Application("MobileNetV3Small", 224),
    "keras_nasnet_large": Application("NASNetLarge", 331),
    "keras_nasnet_mobile": Application("NASNetMobile", 224),
    "keras_resnet_v1_50": Application("ResNet50", 224, "caffe"),
    "keras_resnet_v1_101": Application("ResNet101", 224, "caffe"),
    "keras_resnet_v1_152": Application("ResNet152", 224, "caffe"),
    "keras_resnet_v2_50": Application("ResNet50V2", 224),
    "keras_resnet_v2_101": Application("ResNet101V2", 224),
    "keras_resnet_v2_152": Application("ResNet152V2", 224),
    "keras_vgg_16": Application("VGG16", 224, "caffe"),
    "keras_vgg_19": Application("VGG19", 224, "caffe"),
    "xception": Application("Xception", 299, smallest_image=71),
}


def build(request: Request, *, dropout_keep_prob: float | None = None) -> keras.Model:
    """Builds the net; see `nets_factory.build`. End points bear Keras's layer names.

    Args:
      dropout_keep_prob: of the dropout before the classifier; None means Keras's.

    Raises:
      InputError: too small an image.
      ValueError: `dropout_keep_prob` for a net without that dropout.
    """
    application = APPLICATIONS[request.name]
    images = _converted(application, request.images(smallest=application.smallest_image))
    # Keras's net is only a plan: none of its variables is made.
    with shapes_only():
        plan = _keras_net(
            application,
            weights=None,
            classes=request.num_classes,
            input_tensor=images,
            input_shape=images.shape[1:],
        )
    if dropout_keep_prob is not None and not any(map(_drops_features, plan.layers)):
        raise ValueError(
            f"{request.name} has no dropout for dropout_keep_prob={dropout_keep_prob}; "
            "--head=dropout:RATE puts one before a classifier of your own."
        )
    last = max(i for i, layer in enumerate(plan.layers) if layer.weights)
    names = _fresh_names(plan.layers)

    def copy(operation: keras.Operation) -> Callable:
        if not isinstance(operation, keras.Layer) or operation.name == _PIXELS:
            return operation.from_config(operation.get_config())
        if isinstance(operation, keras.Sequential):
            steps = [copy(layer) for layer in operation.layers]
            return lambda x: functools.reduce(lambda x, step: step(x), steps, x)
        scope = f"{application.scope}/{names.get(operation.name, operation.name)}"
        dtype = "float32" if operation in plan.layers[last:] else request.dtype  # of the logits
        own = {"name": blocks.layer_name(scope), "dtype": dtype}
        return _substitute(operation, own, dropout_keep_prob)

    net = keras.models.clone_model(plan, clone_function=copy, call_function=_call)
    prefix = blocks.layer_name(f"{application.scope}/")
    end_points = {
        layer.name.removeprefix(prefix): layer.output
        for layer in net.layers
        if layer.name.startswith(prefix)
    }
    return request.model(net.inputs[0], end_points, net.outputs[0], f"{prefix}Predictions")


def pretrained_weights(name: str, cache_dir: str) -> dict[str, np.ndarray]:
    """Keras's ImageNet weights, for 1000 classes, by slim name; downloaded once.

    Args:
      name: a key of `APPLICATIONS`.
      cache_dir: the folder whose `models/` keeps the download.

    Raises:
      AgainError: the download failed by the network's or the server's fault.
      OSError: it failed otherwise.
    """
    application = APPLICATIONS[name]
    try:
        with _downloads_to(cache_dir), https.kept():
            net = _keras_net(application, weights="imagenet")
    except Exception as error:  # Keras has no class of its own for a failed download
        problem = f"Keras could not fetch the weights of {name}: {error}"
        if https.is_passing(error):
            raise AgainError(problem, option="checkpoint_path", value="pretrained") from error
        raise OSError(f"--checkpoint_path=pretrained: {problem}") from error
    return _by_slim_name(application, net)


def stored_weights(name: str, path: str, num_classes: int) -> dict[str, np.ndarray]:
    """The weights of a net of Keras in a `.keras` or `.h5` file, by slim name.

    A `.keras` file may hold a larger model that has the net inside, as users' own classifiers do.
    An `.h5` file, `.weights.h5` or as Keras publishes it, is of a bare net; its top comes along
    when it is for `num_classes` or 1000.

    Raises:
      InputError: Keras cannot read the file, or it holds no weights of that net.
    """
    application = APPLICATIONS[name]
    try:
        keras_files.check(path)
        if path.endswith(".keras"):
            whole = keras.models.load_model(path, compile=False, safe_mode=True)
            return _by_slim_name(application, whole)
        for top in ({"classes": num_classes}, {"classes": 1000}, {"include_top": False}):
            net = _keras_net(application, weights=None, **top)
            # Keras only warns of some layers that keep their random weights.
            with warnings.catch_warnings(), contextlib.suppress(KeyError, UserWarning, ValueError):
                warnings.simplefilter("error", UserWarning)
                net.load_weights(path)
                return _by_slim_name(application, net)
    except Exception as error:  # damaged bytes make its parsers raise anything
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path} is no file of weights that Keras can read: {reason}") from error
    raise InputError(f"{path} does not hold weights of keras.applications.{application.scope}.")


def _keras_net(application: Application, **options) -> keras.Model:
    create = getattr(keras.applications, application.scope)
    if "include_preprocessing" in inspect.signature(create).parameters:
        options["include_preprocessing"] = False
    return create(classifier_activation=None, **options)


def _converted(application: Application, images):
    """From the pixels of the recipe to those of the weights; caffe's differ by channel order only,
    which is `_by_slim_name`'s business."""
    if application.pixels == "halved":
        return keras.layers.Rescaling(127.5 / 128, offset=-0.5 / 128, name=_PIXELS)(images)
    if application.pixels != "standardized":
        return images
    mean, stddev = 2 * np.array(_IMAGENET_MEAN) - 1, 2 * np.array(_IMAGENET_STDDEV)
    if images.shape[-1] != len(mean):
        mean, stddev = (np.full(images.shape[-1], np.mean(x)) for x in (mean, stddev))
    return keras.layers.Normalization(mean=mean, variance=stddev**2, name=_PIXELS)(images)


def _call(operation: Callable, *args, mask=None, **kwargs):
    """Keras's batch norms are called with a mask, which ours don't know."""
    return operation(*args, **kwargs)


def _substitute(layer: keras.Layer, own: dict, keep_prob: float | None):
    """Our layer for one of Keras's; `own` has its name and dtype."""
    if isinstance(layer, (keras.layers.Normalization, keras.layers.Rescaling)):
        return lambda x: x  # EfficientNet's pixels are converted already
    if isinstance(layer, keras.layers.BatchNormalization):
        return layers.BatchNorm(layer.momentum, layer.epsilon, layer.scale, **own)
    if isinstance(layer, keras.layers.Dropout):
        keep = keep_prob if keep_prob and _drops_features(layer) else 1 - layer.rate
        return layers.Dropout(keep, layer.noise_shape, **own)
    if type(layer).__name__ == "LayerScale":
        return LayerScale(layer.init_values, **own)
    config = layer.get_config() | own
    if _is_depthwise(layer):
        config["depthwise_initializer"] = config.pop("kernel_initializer")
        for unused in ("filters", "groups", "kernel_regularizer", "kernel_constraint"):
            config.pop(unused)
        return layers.DepthwiseConv2D.from_config(config)
    if type(layer) in _SUBSTITUTES:
        ours, regularized = _SUBSTITUTES[type(layer)]
        return ours.from_config(config | {"regularized": regularized})
    return layer.from_config(config)


@keras.saving.register_keras_serializable("slim")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a number that is learnt; Keras's own gives it no name."""

    def __init__(self, initial: float, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.initial)
        self.gamma = self.add_weight(input_shape[-1:], initializer, name="gamma")

    def call(self, x):
        return x * self.gamma

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}


def _by_slim_name(application: Application, net: keras.Model) -> dict[str, np.ndarray]:
    """The values of Keras's net, or of a model that has it inside, as `build` wants them."""
    weighted = [
        layer
        for layer in net._flatten_layers(include_self=False)
        if layer._trainable_variables + layer._non_trainable_variables
        and not isinstance(layer, keras.layers.Normalization)
    ]
    names = _fresh_names(weighted)
    values = {}
    for layer in weighted:
        for variable in layer.weights:
            value = variable.value.numpy()
            leaf = variable.name
            if _is_depthwise(layer) and leaf == "kernel":
                value, leaf = value.transpose(0, 1, 3, 2), "depthwise_weights"
            elif type(layer) in _SUBSTITUTES:
                leaf = _SUBSTITUTES[type(layer)][0]._slim_leaves.get(leaf, leaf)
            elif type(layer).__name__ == "LayerScale":
                leaf = "gamma"
            values[f"{application.scope}/{names.get(layer.name, layer.name)}/{leaf}"] = value
    if application.pixels == "caffe":
        first = next(iter(values))
        values[first] = values[first][:, :, ::-1]  # it saw blue first
    return values


def _is_depthwise(layer: keras.Layer) -> bool:
    """ConvNeXt's, which TensorFlow computes thirty times faster when they are called so."""
    return isinstance(layer, keras.layers.Conv2D) and layer.groups == layer.filters > 1


def _drops_features(layer: keras.Layer) -> bool:
    """Unlike the dropouts of whole paths, which are all over a net."""
    return isinstance(layer, keras.layers.Dropout) and layer.noise_shape is None


def _fresh_names(named: Iterable[keras.Layer]) -> dict[str, str]:
    """The names of layers that Keras named by number, as if no net had been built before."""
    numbered = defaultdict(list)
    for layer in named:
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        if match := re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name):
            numbered[kind].append((int(match[1] or 0), layer.name))
    return {
        name: f"{kind}_{i}" if i else kind
        for kind, found in numbered.items()
        for i, (_, name) in enumerate(sorted(found))
    }


@contextlib.contextmanager
def _downloads_to(cache_dir: str) -> Iterator[None]:
    """Keras's nets download into its own folder and take no other."""
    module, original = sys.modules[keras.utils.get_file.__module__], keras.utils.get_file
    module.get_file = functools.partial(original, cache_dir=cache_dir)
    try:
        yield
    finally:
        module.get_file = original
