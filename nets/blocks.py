"""What all nets are composed of: slim's layers, with every default written down.

TF-Slim kept a family's settings in a stack of arg scopes. Here they are the fields of one frozen
`Blocks`; its methods add a layer under a slim scope. A part of a net with other settings uses
`dataclasses.replace(block, norm=None)`.

    block = Blocks(truncated_normal(0.09), norm=Norm(scale=True))
    x = block.conv(images, 32, 3, "MobilenetV1/Conv2d_0", stride=2)

A layer is named by its slim scope with '.' for '/', which Keras forbids; `slim_names` maps back.
All tensors are NHWC. Variables are float32; `dtype` says what is computed in: "float32", or
"mixed_bfloat16" for bfloat16 with float32 logits and batch-norm statistics.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Iterable

import keras

from foundation.errors import InputError
from nets import layers

# A Keras initializer draws the same numbers at each call, so every variable gets one of its own:
# settings hold functions that make an initializer.
Initializer = Callable[[], keras.initializers.Initializer]
glorot_uniform: Initializer = keras.initializers.GlorotUniform  # tf_slim's xavier_initializer
he_normal: Initializer = keras.initializers.HeNormal  # tf_slim's variance_scaling_initializer


def truncated_normal(stddev: float) -> Initializer:
    """Normal numbers around 0, redrawn beyond two standard deviations."""
    return functools.partial(keras.initializers.TruncatedNormal, stddev=stddev)


def constant(value: float) -> Initializer:
    return functools.partial(keras.initializers.Constant, value)


@dataclasses.dataclass(frozen=True)
class Norm:
    """Settings of a batch norm; `scale` says whether it has a gamma."""

    decay: float = 0.9997
    epsilon: float = 0.001
    scale: bool = False


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Settings that the layers of a family share, and the methods that add the layers.

    `scope` arguments are full slim scopes ("InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1").
    A call's `settings` are fields of this class with another value for the one layer, such as
    `padding="VALID"`; None means the family's. The activation "linear" is none.
    """

    weights_initializer: Initializer
    norm: Norm | None = None  # batch norm behind each convolution, in place of a bias
    biases: bool = True  # a bias where there is no batch norm
    biases_initializer: Initializer = keras.initializers.Zeros
    activation: str = "relu"
    padding: str = "SAME"
    # The variables that --weight_decay acts on, by the last part of their slim names.
    regularized: tuple[str, ...] = ("weights", "pointwise_weights")
    dtype: str = "float32"

    def for_logits(self) -> "Blocks":
        """The same for a layer that gives logits: a bias, nothing behind it, float32."""
        return dataclasses.replace(
            self, norm=None, biases=True, activation="linear", dtype="float32"
        )

    def conv(
        self,
        x,
        filters: int,
        kernel: int | tuple[int, int],
        scope: str,
        *,
        stride: int = 1,
        rate: int = 1,
        **settings,
    ):
        """slim.conv2d: convolution, then batch norm or bias, then activation."""
        own = self._but(settings)
        layer = layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            dilation_rate=rate,
            kernel_initializer=own.weights_initializer(),
            **own._convolution(scope),
        )
        return own._normalized(layer(x), scope)

    def chain(self, x, scope: str, *steps: tuple):
        """Convolutions and pools one behind another.

        A step is (name below `scope`, filters, kernel), and a dict of more options of `conv` or of
        the pool; without filters it is a pool, an average one where it is called AvgPool_….
        """
        for name, filters, kernel, *options in steps:
            options = {"scope": f"{scope}/{name}", **dict(*options)}
            if filters is not None:
                x = self.conv(x, filters, kernel, **options)
            elif name.startswith("AvgPool"):
                x = self.avg_pool(x, kernel, **options)
            else:
                x = self.max_pool(x, kernel, **options)
        return x

    def branches(self, x, scope: str, *branches: Iterable[tuple]):
        """Chains side by side, below `scope`/Branch_0 and so on, whose channels are joined."""
        ends = [self.chain(x, f"{scope}/Branch_{i}", *steps) for i, steps in enumerate(branches)]
        return self.concat(ends, scope)

    def stem(self, x, scope: str, rows: Iterable[tuple]) -> dict:
        """Convolutions and max pools one behind another, each by its name below `scope`.

        A row is (name, filters, kernel, stride, padding); no filters: a max pool.
        """
        end_points = {}
        for name, filters, kernel, stride, padding in rows:
            step = (name, filters, kernel, {"stride": stride, "padding": padding})
            x = end_points[name] = self.chain(x, scope, step)
        return end_points

    def depthwise_conv(
        self,
        x,
        kernel: int | tuple[int, int],
        scope: str,
        *,
        stride: int = 1,
        rate: int = 1,
        multiplier: int = 1,
        **settings,
    ):
        """slim.separable_conv2d without outputs: each channel by itself."""
        own = self._but(settings)
        layer = layers.DepthwiseConv2D(
            kernel,
            strides=stride,
            dilation_rate=rate,
            depth_multiplier=multiplier,
            depthwise_initializer=own.weights_initializer(),
            **own._convolution(scope),
        )
        return own._normalized(layer(x), scope)

    def separable_conv(
        self,
        x,
        filters: int,
        kernel: int | tuple[int, int],
        scope: str,
        *,
        stride: int = 1,
        multiplier: int = 1,
        **settings,
    ):
        """slim.separable_conv2d: depthwise, pointwise, then batch norm or bias, then activation."""
        own = self._but(settings)
        layer = layers.SeparableConv2D(
            filters,
            kernel,
            strides=stride,
            depth_multiplier=multiplier,
            depthwise_initializer=own.weights_initializer(),
            pointwise_initializer=own.weights_initializer(),
            **own._convolution(scope),
        )
        return own._normalized(layer(x), scope)

    def fully_connected(self, x, units: int, scope: str, **settings):
        """slim.fully_connected on [N, features]; it never has a batch norm in slim's nets."""
        own = self._but(settings)
        return layers.Dense(
            units,
            activation=own.activation,
            kernel_initializer=own.weights_initializer(),
            bias_initializer=own.biases_initializer(),
            regularized=own.regularized,
            **own._named(scope),
        )(x)

    def batch_norm(self, x, scope: str, *, activation: str = "linear"):
        """slim.batch_norm by itself."""
        settings = dataclasses.asdict(self.norm)
        return layers.BatchNorm(**settings, activation=activation, **self._named(scope))(x)

    def max_pool(self, x, kernel: int, scope: str, *, stride: int = 2, padding: str = "VALID"):
        """slim.max_pool2d, with its defaults."""
        return layers.MaxPooling2D(
            kernel, strides=stride, padding=padding.lower(), **self._named(scope)
        )(x)

    def avg_pool(
        self,
        x,
        kernel: int | tuple[int, int],
        scope: str,
        *,
        stride: int = 2,
        padding: str = "VALID",
    ):
        """slim.avg_pool2d, with its defaults; what SAME adds does not count in the mean."""
        return keras.layers.AveragePooling2D(
            kernel, strides=stride, padding=padding.lower(), **self._named(scope)
        )(x)

    def global_pool(self, x, scope: str, *, keep_dims: bool = True):
        """The mean over height and width: [N, 1, 1, C], or [N, C] without `keep_dims`."""
        return keras.layers.GlobalAveragePooling2D(keepdims=keep_dims, **self._named(scope))(x)

    def last_pool(
        self, x, window: int, scope: str, *, global_pool: bool, single: bool, stride: int = 2
    ):
        """The average pool before the classifier: [N, 1, 1, C], or [N, h, w, C].

        The window shrinks to maps that are smaller. On maps that are slightly larger it does not
        reach the last row and column, as in slim.

        Args:
          window: height and width.
          global_pool: average any map as a whole.
          single: average the map as a whole where the window has several places; slim fails there.
        """
        height, width = x.shape[1:3]
        several = max(height, width) >= window + stride
        if global_pool or max(height, width) <= window or (several and single):
            return self.global_pool(x, scope)
        window = (min(height, window), min(width, window))
        return self.avg_pool(x, window, scope, stride=stride)

    def pad(self, x, before: int, after: int, scope: str):
        """Zeros around height and width, as ResNet's strided convolutions want them."""
        return keras.layers.ZeroPadding2D(((before, after),) * 2, **self._named(scope))(x)

    def crop(self, x, before: int, after: int, scope: str):
        """Takes rows and columns off height and width."""
        return keras.layers.Cropping2D(((before, after),) * 2, **self._named(scope))(x)

    def dropout(self, x, keep_prob: float, scope: str):
        return layers.Dropout(keep_prob, **self._named(scope))(x)

    def drop_path(self, x, keep_prob: float, ramp_steps: int, scope: str):
        return layers.DropPath(keep_prob, ramp_steps, **self._named(scope))(x)

    def concat(self, tensors: list, scope: str):
        """Joins the channels."""
        return keras.layers.Concatenate(**self._named(f"{scope}/concat"))(tensors)

    def add(self, tensors: list, scope: str):
        return keras.layers.Add(**self._named(f"{scope}/add"))(tensors)

    def multiply(self, tensors: list, scope: str):
        """The product; [N, 1, 1, C] scales the channels of [N, H, W, C]."""
        return keras.layers.Multiply(**self._named(f"{scope}/mul"))(tensors)

    def activate(self, x, activation: str, scope: str):
        return keras.layers.Activation(activation, **self._named(scope))(x)

    def flatten(self, x, scope: str):
        """[N, H, W, C] to [N, H * W * C]."""
        return keras.layers.Flatten(**self._named(scope))(x)

    def squeeze(self, x, scope: str):
        """[N, 1, 1, C] to [N, C], of the type of `x`: float32 logits stay so."""
        return keras.layers.Reshape((x.shape[-1],), dtype=x.dtype, name=layer_name(scope))(x)

    def softmax(self, logits, scope: str):
        return keras.layers.Softmax(dtype="float32", name=layer_name(scope))(logits)

    def _named(self, scope: str) -> dict:
        return {"name": layer_name(scope), "dtype": self.dtype}

    def _but(self, settings: dict) -> "Blocks":
        """These settings with those of one layer in their place, where they are not None."""
        own = {name: value for name, value in settings.items() if value is not None}
        return dataclasses.replace(self, **own)

    def _convolution(self, scope: str) -> dict:
        """Arguments that all kinds of convolution share."""
        return {
            "padding": self.padding.lower(),
            "use_bias": self.biases and self.norm is None,
            "bias_initializer": self.biases_initializer(),
            "activation": None if self.norm else self.activation,
            "regularized": self.regularized,
            **self._named(scope),
        }

    def _normalized(self, x, scope: str):
        """Batch norm and activation behind a convolution, where the family has batch norm."""
        if self.norm is None:
            return x
        return self.batch_norm(x, f"{scope}/BatchNorm", activation=self.activation)


@dataclasses.dataclass(frozen=True)
class Request:
    """What each builder is asked for, and how all of them begin and end.

    Attributes:
      name: of the net, a key of `nets_factory.NETS`.
      num_classes: outputs, the background class included where there is one.
      image_size: height and width in pixels.
      channels: of the images.
      dtype: what is computed in, "float32" or "mixed_bfloat16".
    """

    name: str
    num_classes: int
    image_size: int
    channels: int
    dtype: str = "float32"

    def images(self, smallest: int = 1):
        """The input of the net; raises InputError for images below `smallest` pixels."""
        check_image_size(self.name, self.image_size, smallest)
        return images(self.image_size, self.channels)

    def model(self, images, end_points: dict, logits, predictions: str, aux_logits=None):
        """The net, with the end points "Logits" and "Predictions", a softmax in that scope."""
        softmax = keras.layers.Softmax(dtype="float32", name=layer_name(predictions))
        ends = {**end_points, "Logits": logits, "Predictions": softmax(logits)}
        return model(self.name, images, ends, logits, aux_logits)


# Of a pool between convolutions.
KEEP_SIZE = types.MappingProxyType({"stride": 1, "padding": "SAME"})


def layer_name(scope: str) -> str:
    """The Keras name of what slim builds in `scope`."""
    return scope.replace("/", ".")


def images(image_size: int, channels: int):
    """The input of a net: float32 [N, image_size, image_size, channels], as preprocessed."""
    return keras.Input((image_size, image_size, channels), dtype="float32", name="images")


def model(name: str, inputs, end_points: dict, logits, aux_logits=None) -> keras.Model:
    """Puts a net together; `end_points` holds slim's names in slim's order."""
    outputs = {"logits": logits}
    if aux_logits is not None:
        outputs["aux_logits"] = aux_logits
    net = keras.Model(inputs, outputs, name=name)
    # A plain dict would be wrapped, and searched for variables, by Keras.
    net.end_points = types.MappingProxyType(dict(end_points))
    return net


def check_image_size(name: str, image_size: int, smallest: int) -> None:
    """Raises InputError for images on which the net would run out of pixels."""
    if image_size < smallest:
        raise InputError(
            f"{name}: images of {image_size} x {image_size} pixels are too small; "
            f"it needs at least {smallest} x {smallest}."
        )
