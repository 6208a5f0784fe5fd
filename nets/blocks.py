"""The layers all nets are built from: slim's, with every default said out loud.

TF-Slim kept a family's settings in a stack of arg scopes. Here they are the fields of one frozen
`Blocks`; its methods add a layer under a slim scope. A part of a net with other settings uses
`dataclasses.replace(block, norm=None)`.

    block = Blocks(truncated_normal(0.09), norm=Norm(0.9997, 0.001, scale=True))
    x = block.conv(images, 32, 3, "MobilenetV1/Conv2d_0", stride=2)

A layer is named by its slim scope with '.' for '/', which Keras forbids; `slim_names` maps back.
All tensors are NHWC. Variables are float32; `dtype` says what is computed in: "float32", or
"mixed_bfloat16" for bfloat16 with float32 logits and batch-norm statistics.
"""

import contextlib
import contextvars
import dataclasses
import functools
import types
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import tensorflow as tf

from nets import bfloat16, xla

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


class _SlimLayer:
    """Names the variables as slim does and remembers which of them are regularised."""

    _slim_leaves: Mapping[str, str] = {}

    def __init__(self, *args, regularized: Iterable[str] = (), **kwargs):
        super().__init__(*args, **kwargs)
        self.regularized = tuple(regularized)

    def add_weight(self, *args, name=None, **kwargs):
        return super().add_weight(*args, name=self._slim_leaves.get(name, name), **kwargs)

    def get_config(self):
        return {**super().get_config(), "regularized": list(self.regularized)}


@keras.saving.register_keras_serializable("slim")
class Conv2D(_SlimLayer, keras.layers.Conv2D):
    _slim_leaves = types.MappingProxyType({"kernel": "weights", "bias": "biases"})

    def convolution_op(self, inputs, kernel):
        if xla.wants_wide_channels(inputs, kernel, self.strides, self.dilation_rate, self.groups):
            return xla.conv_of_few_channels(inputs, _tensor(kernel), self.padding)
        gradient = bfloat16.weights_gradient(
            inputs, self.kernel_size, self.strides, self.dilation_rate, self.padding, self.groups
        )
        if gradient is None:
            return super().convolution_op(inputs, kernel)
        return bfloat16.conv2d(inputs, _tensor(kernel), self.padding, gradient)


@keras.saving.register_keras_serializable("slim")
class DepthwiseConv2D(_SlimLayer, keras.layers.DepthwiseConv2D):
    _slim_leaves = types.MappingProxyType({"kernel": "depthwise_weights", "bias": "biases"})

    def call(self, inputs):
        if not bfloat16.on_processor(inputs) or max(self.dilation_rate) > 1:
            return super().call(inputs)
        x = bfloat16.depthwise_conv2d(inputs, _tensor(self.kernel), self.strides, self.padding)
        return self.activation(x + self.bias if self.use_bias else x)


@keras.saving.register_keras_serializable("slim")
class SeparableConv2D(_SlimLayer, keras.layers.SeparableConv2D):
    _slim_leaves = types.MappingProxyType(
        {
            "depthwise_kernel": "depthwise_weights",
            "pointwise_kernel": "pointwise_weights",
            "bias": "biases",
        }
    )

    def call(self, inputs):
        if not bfloat16.on_processor(inputs) or max(self.dilation_rate) > 1:
            return super().call(inputs)
        kernels = _tensor(self.depthwise_kernel), _tensor(self.pointwise_kernel)
        x = bfloat16.depthwise_conv2d(inputs, kernels[0], self.strides, self.padding)
        gradient = bfloat16.weights_gradient(x, (1, 1), (1, 1), (1, 1), "valid")
        x = bfloat16.conv2d(x, kernels[1], "valid", gradient)
        return self.activation(x + self.bias if self.use_bias else x)


def _tensor(kernel) -> tf.Tensor:
    """A kernel in the type that its layer computes in."""
    return tf.identity(keras.ops.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable("slim")
class MaxPooling2D(keras.layers.MaxPooling2D):
    def call(self, inputs):
        if not xla.is_compiling() or None in inputs.shape[1:3]:
            return super().call(inputs)
        return xla.max_pool(inputs, self.pool_size, self.strides, self.padding)


@keras.saving.register_keras_serializable("slim")
class Dense(_SlimLayer, keras.layers.Dense):
    _slim_leaves = types.MappingProxyType({"kernel": "weights", "bias": "biases"})


@keras.saving.register_keras_serializable("slim")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation by TensorFlow's fused kernel, as TF-Slim ran it.

    Keras's own layer is put together from small operations: Inception V3 trains a third slower.

    x: [N, H, W, C], float32 or bfloat16; the result has the same type, the statistics are float32.
    In training it normalises by the batch and moves the stored statistics towards it by
    `1 - decay` (the variance by the unbiased one, n / (n - 1), as the kernel hands it out). In
    inference, and whenever `frozen` is set or the layer is not trainable, it uses the stored
    statistics and does not move them. Functions traced before `frozen` changed keep the old way.

    Replicas of a tf.distribute strategy each move their own statistics; reading them outside of
    the replicas gives the mean. `batch_statistics` overrules all this for a check or a repair.
    """

    def __init__(self, decay: float, epsilon: float, scale: bool, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.decay, self.epsilon, self.scale = decay, epsilon, scale
        self.activation = keras.activations.get(activation)
        self.frozen = False

    def build(self, input_shape):
        shape = input_shape[-1:]
        add = functools.partial(self.add_weight, shape=shape, autocast=False, dtype="float32")
        self.gamma = add(initializer="ones", name="gamma") if self.scale else None
        self.beta = add(initializer="zeros", name="beta")
        self.moving_mean = _moving_statistic("zeros", shape, "moving_mean")
        self.moving_variance = _moving_statistic("ones", shape, "moving_variance")

    def call(self, x, training=False):
        move = _MOVE.get()
        if move is None:
            move = 1.0 - self.decay if training else None
        learns = move is not None and self.trainable and not self.frozen
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(x, bfloat16.batch_norm_dtype(x)),
            scale=tf.ones(self.beta.shape) if self.gamma is None else self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            # The kernel mixes old and new itself: moving += move * (batch - moving).
            exponential_avg_factor=move if learns else 1.0,
            is_training=learns,
        )
        if learns:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return tf.cast(self.activation(y), x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "decay": self.decay,
            "epsilon": self.epsilon,
            "scale": self.scale,
            "activation": keras.activations.serialize(self.activation),
        }


def _moving_statistic(initializer: str, shape, name: str) -> keras.Variable:
    # Not add_weight: it has no `synchronization`, and without it each step would all-reduce.
    return keras.Variable(
        keras.initializers.get(initializer),
        shape=shape,
        dtype="float32",
        trainable=False,
        autocast=False,
        aggregation="mean",
        synchronization="on_read",
        name=name,
    )


_SEED: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("seed", default=None)
_STEP: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("step", default=None)
_MOVE: contextvars.ContextVar[float | None] = contextvars.ContextVar("move", default=None)


def random_seed(seed: tf.Tensor) -> contextlib.AbstractContextManager:
    """Dropout of the nets called in this block is a function of `seed`, int32 or int64 [2]."""
    return _holding(_SEED, seed)


def training_step(step: tf.Tensor) -> contextlib.AbstractContextManager:
    """Tells drop path of the nets called in this block how many steps came before: a scalar."""
    return _holding(_STEP, step)


def batch_statistics(move: float) -> contextlib.AbstractContextManager:
    """Batch norms of the nets called in this block normalise by the batch, dropout or not.

    Their stored statistics move towards the batch's by `move`: 0 leaves them as they are, 1 puts
    the batch's in their place. Frozen ones keep to the stored statistics, as always.
    """
    return _holding(_MOVE, move)


@contextlib.contextmanager
def _holding(variable: contextvars.ContextVar, value: object) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@keras.saving.register_keras_serializable("slim")
class Dropout(keras.layers.Layer):
    """Sets elements to 0 in training and scales the others by 1 / keep_prob.

    Keras's own layer keeps a seed variable that no slim checkpoint knows and that a replica of a
    mirrored strategy may not write. This one draws from the `random_seed` that it is called in, so
    that a resumed run draws what an uninterrupted one would; outside of it from TensorFlow's
    stream. `noise_shape` as in `tf.nn.dropout`: (None, 1, 1, 1) drops whole examples.
    """

    def __init__(self, keep_prob: float, noise_shape=None, **kwargs):
        super().__init__(**kwargs)
        self.keep_prob, self.noise_shape = keep_prob, noise_shape

    def call(self, x, training=False):
        if not training or self.keep_prob >= 1:
            return x
        rate = tf.convert_to_tensor(self._rate(), tf.float32)
        scales = tf.where(self._noise(tf.shape(x)) < rate, 0.0, 1 / (1 - rate))
        return x * tf.cast(scales, x.dtype)

    def _rate(self):
        return 1 - self.keep_prob

    def _noise(self, shape):
        """Float32 in [0, 1), also for bfloat16: with its 128 numbers, 0.1 % to drop were 0.8 %."""
        if self.noise_shape:
            shape = [shape[i] if size is None else size for i, size in enumerate(self.noise_shape)]
        if (seed := _SEED.get()) is None:
            return tf.random.uniform(shape)
        own = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(self.name.encode()) >> 1)
        return tf.random.stateless_uniform(shape, own)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"keep_prob": self.keep_prob, "noise_shape": self.noise_shape}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("slim")
class DropPath(Dropout):
    """Drops a path of a net for whole examples, more of them the longer training lasts.

    The share of dropped examples grows from 0 to `1 - keep_prob` over the first `ramp_steps` of
    the `training_step` that it is called in; outside of it, it is `1 - keep_prob`.
    """

    def __init__(self, keep_prob: float, ramp_steps: int, **kwargs):
        super().__init__(keep_prob, **{"noise_shape": (None, 1, 1, 1)} | kwargs)
        self.ramp_steps = ramp_steps

    def _rate(self):
        if (step := _STEP.get()) is None:
            return 1 - self.keep_prob
        progress = tf.minimum(tf.cast(step, tf.float32) / self.ramp_steps, 1.0)
        return progress * (1 - self.keep_prob)

    def get_config(self):
        return {**super().get_config(), "ramp_steps": self.ramp_steps}


@dataclasses.dataclass(frozen=True)
class Norm:
    """Settings of a batch norm; `scale` says whether it has a gamma."""

    decay: float
    epsilon: float
    scale: bool


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Settings that the layers of a family share, and the methods that add the layers.

    `scope` arguments are full slim scopes ("InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1").
    `activation` and `padding` of a call override the family's; "linear" is no activation.
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
        padding: str | None = None,
        activation: str | None = None,
        weights_initializer: Initializer | None = None,
    ):
        """slim.conv2d: convolution, then batch norm or bias, then activation."""
        layer = Conv2D(
            filters,
            kernel,
            strides=stride,
            dilation_rate=rate,
            kernel_initializer=(weights_initializer or self.weights_initializer)(),
            **self._convolution(scope, padding, activation),
        )
        return self._finish(layer(x), scope, activation)

    def convs(self, x, scope: str, *steps: tuple, **options):
        """Convolutions one behind another; each step is (name below `scope`, filters, kernel).

        A step's fourth element, a dict, adds to the `options` of `conv` that hold for all steps.
        """
        for name, filters, kernel, *own in steps:
            x = self.conv(x, filters, kernel, f"{scope}/{name}", **options, **dict(*own))
        return x

    def stem(self, x, scope: str, rows: Iterable[tuple]) -> dict:
        """Convolutions and max pools one behind another, each by its name below `scope`.

        A row is (name, filters, kernel, stride, padding); no filters: a max pool.
        """
        end_points = {}
        for name, filters, kernel, stride, padding in rows:
            place = {"scope": f"{scope}/{name}", "stride": stride, "padding": padding}
            if filters is None:
                x = self.max_pool(x, kernel, **place)
            else:
                x = self.conv(x, filters, kernel, **place)
            end_points[name] = x
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
        padding: str | None = None,
        activation: str | None = None,
    ):
        """slim.separable_conv2d without outputs: each channel by itself."""
        layer = DepthwiseConv2D(
            kernel,
            strides=stride,
            dilation_rate=rate,
            depth_multiplier=multiplier,
            depthwise_initializer=self.weights_initializer(),
            **self._convolution(scope, padding, activation),
        )
        return self._finish(layer(x), scope, activation)

    def separable_conv(
        self,
        x,
        filters: int,
        kernel: int | tuple[int, int],
        scope: str,
        *,
        stride: int = 1,
        multiplier: int = 1,
        padding: str | None = None,
        activation: str | None = None,
    ):
        """slim.separable_conv2d: depthwise, pointwise, then batch norm or bias, then activation."""
        layer = SeparableConv2D(
            filters,
            kernel,
            strides=stride,
            depth_multiplier=multiplier,
            depthwise_initializer=self.weights_initializer(),
            pointwise_initializer=self.weights_initializer(),
            **self._convolution(scope, padding, activation),
        )
        return self._finish(layer(x), scope, activation)

    def fully_connected(
        self,
        x,
        units: int,
        scope: str,
        *,
        activation: str | None = None,
        weights_initializer: Initializer | None = None,
        biases_initializer: Initializer | None = None,
    ):
        """slim.fully_connected on [N, features]; it never has a batch norm in slim's nets."""
        return Dense(
            units,
            activation=activation or self.activation,
            kernel_initializer=(weights_initializer or self.weights_initializer)(),
            bias_initializer=(biases_initializer or self.biases_initializer)(),
            regularized=self.regularized,
            **self._named(scope),
        )(x)

    def batch_norm(self, x, scope: str, *, activation: str = "linear"):
        """slim.batch_norm by itself."""
        settings = dataclasses.asdict(self.norm)
        return BatchNorm(**settings, activation=activation, **self._named(scope))(x)

    def max_pool(self, x, kernel: int, scope: str, *, stride: int = 2, padding: str = "VALID"):
        """slim.max_pool2d, with its defaults."""
        return MaxPooling2D(kernel, strides=stride, padding=padding.lower(), **self._named(scope))(
            x
        )

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
        """The average pool under the classifier: [N, 1, 1, C], or a map where that is wanted.

        Slim's window shrinks to maps smaller than itself. Where it leaves several places and logits
        are to be `single`, slim fails; here the whole map is averaged, as `global_pool` does for
        any map. Between the two sizes slim passes over the last row, and so does this.
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
        return Dropout(keep_prob, **self._named(scope))(x)

    def drop_path(self, x, keep_prob: float, ramp_steps: int, scope: str):
        return DropPath(keep_prob, ramp_steps, **self._named(scope))(x)

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

    def _convolution(self, scope: str, padding: str | None, activation: str | None) -> dict:
        """What all kinds of convolution are given alike."""
        return {
            "padding": (padding or self.padding).lower(),
            "use_bias": self.biases and self.norm is None,
            "bias_initializer": self.biases_initializer(),
            "activation": None if self.norm else activation or self.activation,
            "regularized": self.regularized,
            **self._named(scope),
        }

    def _finish(self, x, scope: str, activation: str | None):
        if self.norm is None:
            return x
        return self.batch_norm(x, f"{scope}/BatchNorm", activation=activation or self.activation)


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
    """Raises ValueError for images on which the net would run out of pixels."""
    if image_size < smallest:
        raise ValueError(
            f"{name}: images of {image_size} x {image_size} pixels are too small; "
            f"it needs at least {smallest} x {smallest}."
        )
