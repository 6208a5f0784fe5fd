"""The Keras layers that slim's nets are made of.

They name their variables as slim does, compute batch norm by TensorFlow's fused kernel, and draw
dropout from a seed that the caller sets. `blocks` puts them together.
"""

import contextlib
import contextvars
import functools
import types
import zlib
from collections.abc import Iterable, Iterator, Mapping

import keras
import tensorflow as tf

from nets import bfloat16, slim_names, xla


class _SlimLayer:
    """Names the variables as slim does and remembers which of them are regularised."""

    _slim_leaves: Mapping[str, str] = slim_names.LEAVES

    def __init__(self, *args, regularized: Iterable[str] = (), **kwargs):
        super().__init__(*args, **kwargs)
        self.regularized = tuple(regularized)

    def add_weight(self, *args, name=None, **kwargs):
        return super().add_weight(*args, name=self._slim_leaves.get(name, name), **kwargs)

    def get_config(self):
        return {**super().get_config(), "regularized": list(self.regularized)}


@keras.saving.register_keras_serializable("slim")
class Conv2D(_SlimLayer, keras.layers.Conv2D):
    """slim.conv2d's convolution."""

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
    """slim.separable_conv2d's without outputs: each channel by itself."""

    _slim_leaves = types.MappingProxyType({"kernel": "depthwise_weights", "bias": "biases"})

    def call(self, inputs):
        if not bfloat16.on_processor(inputs) or max(self.dilation_rate) > 1:
            return super().call(inputs)
        x = bfloat16.depthwise_conv2d(inputs, _tensor(self.kernel), self.strides, self.padding)
        return self.activation(x + self.bias if self.use_bias else x)


@keras.saving.register_keras_serializable("slim")
class SeparableConv2D(_SlimLayer, keras.layers.SeparableConv2D):
    """slim.separable_conv2d's: depthwise, then pointwise."""

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
    """slim.fully_connected's."""


@keras.saving.register_keras_serializable("slim")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation by TensorFlow's fused kernel, as TF-Slim ran it.

    Keras's own layer is put together from small operations: Inception V3 trains a third slower.

    x: [N, H, W, C], float32 or bfloat16; the result has the same type, the statistics are float32.
    In training it normalises by the batch and moves the stored statistics towards it by
    `1 - decay` (the variance by the unbiased one, n / (n - 1), as the kernel hands it out). In
    inference, and whenever `frozen` is set or the layer is not trainable, it uses the stored
    statistics and does not move them. Functions traced before `frozen` was set
    do not follow it.

    Each replica of a tf.distribute strategy normalises by its own batch and moves its own
    statistics; reading them outside of the replicas gives their mean. With `synchronized` set it is
    the batches of all replicas together, as if one device had them all. Inside of
    `batch_statistics` that context decides instead.
    """

    def __init__(self, decay: float, epsilon: float, scale: bool, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.decay, self.epsilon, self.scale = decay, epsilon, scale
        self.activation = keras.activations.get(activation)
        self.frozen = self.synchronized = False

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
        scale = tf.ones(self.beta.shape) if self.gamma is None else tf.identity(self.gamma)
        if learns and self.synchronized and _num_replicas() > 1:
            y, mean, variance = self._over_replicas(tf.cast(x, tf.float32), scale, move)
        else:
            y, mean, variance = self._fused(x, scale, move, learns)
        if learns and _MOVES.get():
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return tf.cast(self.activation(y), x.dtype)

    def _fused(self, x, scale, move, learns: bool):
        """The result, and the statistics after it, by TensorFlow's kernel."""
        return tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(x, bfloat16.batch_norm_dtype(x)),
            scale=scale,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            # The kernel mixes old and new itself: moving += move * (batch - moving).
            exponential_avg_factor=move if learns else 1.0,
            is_training=learns,
        )[:3]

    def _over_replicas(self, x, scale, move):
        """The same by the batches of all replicas, which are of one size."""
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        own = tf.stack(tf.nn.moments(x, [0, 1, 2]))
        # A sum in which each replica fills its own place: gradients come back through it, and
        # nothing cancels as it would between a mean square and a squared mean.
        place = tf.one_hot(context.replica_id_in_sync_group, replicas)[:, None, None]
        means, variances = tf.unstack(
            context.all_reduce(tf.distribute.ReduceOp.SUM, place * own), axis=1
        )
        mean = tf.reduce_mean(means, 0)
        variance = tf.reduce_mean(variances + (means - mean) ** 2, 0)
        y = tf.nn.batch_normalization(x, mean, variance, self.beta, scale, self.epsilon)
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]) * replicas, tf.float32)
        before = tf.identity(self.moving_mean), tf.identity(self.moving_variance)
        batch = mean, variance * count / (count - 1)
        return y, *(old + move * (new - old) for old, new in zip(before, batch, strict=True))

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


def _num_replicas() -> int:
    """How many replicas compute what is computed here."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


_SEED: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("seed", default=None)
_STEP: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("step", default=None)
_MOVE: contextvars.ContextVar[float | None] = contextvars.ContextVar("move", default=None)
_MOVES: contextvars.ContextVar[bool] = contextvars.ContextVar("moves", default=True)


def random_seed(seed: tf.Tensor) -> contextlib.AbstractContextManager:
    """Dropout of the nets called in this block is a function of `seed`, int32 or int64 [2]."""
    return _holding(_SEED, seed)


def training_step(step: tf.Tensor) -> contextlib.AbstractContextManager:
    """Drop path of the nets called in this block uses this number of steps done: a scalar."""
    return _holding(_STEP, step)


def batch_statistics(move: float) -> contextlib.AbstractContextManager:
    """Batch norms of the nets called in this block normalise by the batch, training or not.

    Their stored statistics move towards the batch's by `move`: 0 leaves them as they are, 1 puts
    the batch's in their place. Frozen ones keep to the stored statistics, as always.
    """
    return _holding(_MOVE, move)


def moving(is_it: bool) -> contextlib.AbstractContextManager:
    """Whether batch norms of the nets called in this block move their statistics at all."""
    return _holding(_MOVES, is_it)


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
        """Float32 in [0, 1): bfloat16's are multiples of 1/128, so that 0.1 % would drop 0.8 %."""
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
