"""Optimizers: TF-Slim's seven with TensorFlow 1's numbers, and Keras' adamw, lamb, lion, nadam.

Where TensorFlow has the kernel of the TensorFlow 1 optimizer it is used: one fused pass over a
variable and its slots, and the old numbers by construction. Slots carry the names that TensorFlow
1's Saver gave them (`…/weights/RMSProp`, `…/weights/RMSProp_1`, `beta1_power`).

An optimizer is built under a strategy's scope and applied inside `strategy.run`, on gradients that
are already summed over the replicas: every replica then updates its own copy in the same way.

Keras' own adamw, lamb, lion and nadam can't take their places. They leave `strategy.run` to update
all copies together, which a compiled step does not allow; they know one learning rate for all
variables, where a scope may have a factor of its own; and they name their slots by position.
"""

import abc
import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from foundation.errors import InputError
from training.options import OptimizerOptions

_KERAS_EPSILON = 1e-7
# Dozat, "Incorporating Nesterov Momentum into Adam": mu_t = beta1 * (1 - 0.5 * 0.96^t).
_NADAM_DECAY = 0.96


class Optimizer(abc.ABC):
    """Moves variables against their gradients and keeps what it must remember between steps.

    Attributes:
      decoupled_weight_decay: whether the weight decay shrinks the variables by rate * factor
        apart from the gradient (adamw, lamb, lion) instead of being part of it as an L2 loss is.
    """

    decoupled_weight_decay = False

    def __init__(
        self,
        slots: Mapping[str, float],
        scalars: Mapping[str, float] | None = None,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        """
        Args:
          slots: what follows the variable's name in a slot's name → initial value.
          scalars: name of a number kept once for all variables → initial value.
          clip_norm: largest global norm of the gradients; they are scaled down to it together.
          clip_value: largest magnitude of any one component.
        """
        self._slot_values = dict(slots)
        self._scalar_values = dict(scalars or {})
        self._clip_norm = clip_norm
        self._clip_value = clip_value
        self._slots: dict[str, tf.Variable] = {}
        self._variables: list[tf.Variable] = []
        self._names: list[str] = []
        self._weight_decay: list[float] = []
        self._multipliers: list[float] = []

    def build(
        self,
        variables: Sequence[keras.Variable | tf.Variable],
        names: Sequence[str],
        *,
        weight_decay: Mapping[str, float] | None = None,
        multipliers: Mapping[str, float] | None = None,
    ) -> None:
        """Creates the slots under the current strategy's scope.

        Called anew with other variables, it keeps the slots of names it already knows.

        Args:
          variables: the trained variables, float32.
          names: their slim names, in the same order.
          weight_decay: name → L2 factor; the loss it stands for is factor * sum(v**2) / 2.
            Names that are absent are not decayed.
          multipliers: name → factor on the learning rate; 1 for absent names.
        """
        self._variables = [_tensorflow_variable(v) for v in variables]
        self._names = list(names)
        self._weight_decay = [(weight_decay or {}).get(name, 0.0) for name in names]
        self._multipliers = [(multipliers or {}).get(name, 1.0) for name in names]
        wanted = {name: ((), value) for name, value in self._scalar_values.items()}
        for variable, name in zip(self._variables, names, strict=True):
            for suffix, value in self._slot_values.items():
                wanted[f"{name}/{suffix}"] = (variable.shape, value)
        self._slots = {
            name: self._slots[name] if name in self._slots else _filled(name, shape, value)
            for name, (shape, value) in wanted.items()
        }

    def slots(self) -> dict[str, tf.Variable]:
        """Everything besides the variables that a later `apply` depends on, by checkpoint name."""
        return dict(self._slots)

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """One step; inside a `tf.function`, and inside `strategy.run` when there is a strategy.

        Args:
          gradients: float32, of the mean loss over the global batch without its weight decay,
            in the order of `build`.
          learning_rate: float32 scalar.

        Raises:
          InputError: a variable has no gradient.
        """
        gradients = self._clip(self._add_l2(self._checked(gradients)))
        # An update that starts while the backward pass still reads its variable would copy it.
        with tf.control_dependencies(gradients):
            learning_rate = tf.identity(learning_rate)
        scalars = {name: read(self._slots[name]) for name in self._scalar_values}
        for i, gradient in enumerate(gradients):
            variable, rate = self._variables[i], learning_rate
            if self._multipliers[i] != 1.0:
                rate = rate * self._multipliers[i]
            if self.decoupled_weight_decay and self._weight_decay[i]:
                _subtract(variable, rate * self._weight_decay[i] * read(variable))
            slots = [self._slots[f"{self._names[i]}/{suffix}"] for suffix in self._slot_values]
            self._update(variable, slots, gradient, rate, scalars)
        for name, value in self._advance(scalars).items():
            assign(self._slots[name], value)

    @abc.abstractmethod
    def _update(
        self,
        variable: tf.Variable,
        slots: list[tf.Variable],
        gradient: tf.Tensor,
        rate: tf.Tensor,
        scalars: dict[str, tf.Tensor],
    ) -> None:
        """Moves one variable and its slots, in the order of `slots` of the constructor."""

    def _advance(self, scalars: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The scalars of the next step."""
        return scalars

    def _checked(self, gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor]:
        pairs = zip(self._names, gradients, strict=True)
        if unreached := [name for name, gradient in pairs if gradient is None]:
            raise InputError(
                f"The loss does not depend on {', '.join(unreached)}: no gradient to train it by.",
                remedy="Leave it out of --trainable_scopes.",
            )
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _add_l2(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        if self.decoupled_weight_decay:
            return gradients
        return [
            gradient + factor * read(variable) if factor else gradient
            for gradient, variable, factor in zip(
                gradients, self._variables, self._weight_decay, strict=True
            )
        ]

    def _clip(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        if self._clip_value is not None:
            limit = self._clip_value
            gradients = [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        return gradients


class GradientDescent(Optimizer):
    def __init__(self, **clipping):
        super().__init__({}, **clipping)

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)


class Momentum(Optimizer):
    def __init__(self, momentum: float, **clipping):
        super().__init__({"Momentum": 0.0}, **clipping)
        self._momentum = momentum

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=slots[0].handle,
            lr=rate,
            grad=gradient,
            momentum=self._momentum,
        )


class RMSProp(Optimizer):
    """The mean square starts at one, and epsilon is inside the root."""

    def __init__(self, decay: float, momentum: float, epsilon: float, **clipping):
        super().__init__({"RMSProp": 1.0, "RMSProp_1": 0.0}, **clipping)
        self._decay, self._momentum, self._epsilon = decay, momentum, epsilon

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=slots[0].handle,
            mom=slots[1].handle,
            lr=rate,
            rho=self._decay,
            momentum=self._momentum,
            epsilon=self._epsilon,
            grad=gradient,
        )


class Adagrad(Optimizer):
    def __init__(self, initial_accumulator_value: float, **clipping):
        super().__init__({"Adagrad": initial_accumulator_value}, **clipping)

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyAdagrad(
            var=variable.handle, accum=slots[0].handle, lr=rate, grad=gradient
        )


class Adadelta(Optimizer):
    def __init__(self, rho: float, epsilon: float, **clipping):
        super().__init__({"Adadelta": 0.0, "Adadelta_1": 0.0}, **clipping)
        self._rho, self._epsilon = rho, epsilon

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyAdadelta(
            var=variable.handle,
            accum=slots[0].handle,
            accum_update=slots[1].handle,
            lr=rate,
            rho=self._rho,
            epsilon=self._epsilon,
            grad=gradient,
        )


class Ftrl(Optimizer):
    def __init__(
        self,
        learning_rate_power: float,
        initial_accumulator_value: float,
        l1: float,
        l2: float,
        **clipping,
    ):
        super().__init__({"Ftrl": initial_accumulator_value, "Ftrl_1": 0.0}, **clipping)
        self._power, self._l1, self._l2 = learning_rate_power, l1, l2

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyFtrl(
            var=variable.handle,
            accum=slots[0].handle,
            linear=slots[1].handle,
            grad=gradient,
            lr=rate,
            l1=self._l1,
            l2=self._l2,
            lr_power=self._power,
        )


class Adam(Optimizer):
    """Epsilon is added to the uncorrected root ("epsilon hat" of the paper)."""

    def __init__(
        self,
        beta1: float,
        beta2: float,
        epsilon: float,
        slots: tuple[str, str] = ("Adam", "Adam_1"),
        **clipping,
    ):
        powers = {"beta1_power": beta1, "beta2_power": beta2}
        super().__init__(dict.fromkeys(slots, 0.0), powers, **clipping)
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon

    def _update(self, variable, slots, gradient, rate, scalars):
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=scalars["beta1_power"],
            beta2_power=scalars["beta2_power"],
            lr=rate,
            beta1=self._beta1,
            beta2=self._beta2,
            epsilon=self._epsilon,
            grad=gradient,
        )

    def _advance(self, scalars):
        return {
            "beta1_power": scalars["beta1_power"] * self._beta1,
            "beta2_power": scalars["beta2_power"] * self._beta2,
        }


class AdamW(Adam):
    decoupled_weight_decay = True

    def __init__(self, beta1: float, beta2: float, epsilon: float, **clipping):
        slots = ("AdamW_momentum", "AdamW_velocity")
        super().__init__(beta1, beta2, epsilon, slots, **clipping)


class Lamb(Adam):
    """Adam's step, scaled for each variable to the norm of that variable."""

    decoupled_weight_decay = True

    def __init__(self, beta1: float, beta2: float, epsilon: float, **clipping):
        slots = ("Lamb_momentum", "Lamb_velocity")
        super().__init__(beta1, beta2, epsilon, slots, **clipping)

    def _update(self, variable, slots, gradient, rate, scalars):
        momentum = _average(slots[0], gradient, self._beta1)
        velocity = _average(slots[1], tf.square(gradient), self._beta2)
        corrected = momentum / (1.0 - scalars["beta1_power"])
        root = tf.sqrt(velocity / (1.0 - scalars["beta2_power"]))
        direction = corrected / (root + self._epsilon)
        ratio = tf.math.divide_no_nan(tf.norm(read(variable)), tf.norm(direction))
        # A variable at zero has no norm to scale to.
        ratio = tf.where(ratio > 0.0, ratio, 1.0)
        _subtract(variable, rate * ratio * direction)


class Lion(Optimizer):
    decoupled_weight_decay = True

    def __init__(self, beta1: float, beta2: float, **clipping):
        super().__init__({"Lion_momentum": 0.0}, **clipping)
        self._beta1, self._beta2 = beta1, beta2

    def _update(self, variable, slots, gradient, rate, scalars):
        direction = self._beta1 * read(slots[0]) + (1.0 - self._beta1) * gradient
        _subtract(variable, rate * tf.sign(direction))
        _average(slots[0], gradient, self._beta2)


class Nadam(Optimizer):
    """Adam with Nesterov's momentum; the share of the momentum grows with the steps."""

    def __init__(self, beta1: float, beta2: float, epsilon: float, **clipping):
        scalars = {"beta2_power": beta2, "nadam_decay_power": _NADAM_DECAY, "nadam_product": 1.0}
        super().__init__({"Nadam_momentum": 0.0, "Nadam_velocity": 0.0}, scalars, **clipping)
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon

    def _share(self, decay_power: tf.Tensor) -> tf.Tensor:
        return self._beta1 * (1.0 - 0.5 * decay_power)

    def _update(self, variable, slots, gradient, rate, scalars):
        share = self._share(scalars["nadam_decay_power"])
        next_share = self._share(scalars["nadam_decay_power"] * _NADAM_DECAY)
        product = scalars["nadam_product"] * share
        momentum = _average(slots[0], gradient, self._beta1)
        velocity = _average(slots[1], tf.square(gradient), self._beta2)
        ahead = next_share / (1.0 - product * next_share) * momentum
        direction = ahead + (1.0 - share) / (1.0 - product) * gradient
        root = tf.sqrt(velocity / (1.0 - scalars["beta2_power"]))
        _subtract(variable, rate * direction / (root + self._epsilon))

    def _advance(self, scalars):
        power = scalars["nadam_decay_power"]
        return {
            "beta2_power": scalars["beta2_power"] * self._beta2,
            "nadam_decay_power": power * _NADAM_DECAY,
            "nadam_product": scalars["nadam_product"] * self._share(power),
        }


class _Kind(NamedTuple):
    """How an optimizer is made, and the values that suit it where options are unset."""

    create: Callable[..., Optimizer]
    unset: Mapping[str, float] = types.MappingProxyType({})


_KERAS = {"opt_epsilon": _KERAS_EPSILON}
_KINDS = {
    "adadelta": _Kind(lambda o, clip: Adadelta(o.adadelta_rho, o.opt_epsilon, **clip)),
    "adagrad": _Kind(lambda o, clip: Adagrad(o.adagrad_initial_accumulator_value, **clip)),
    "adam": _Kind(lambda o, clip: Adam(*_adam(o), **clip)),
    "adamw": _Kind(lambda o, clip: AdamW(*_adam(o), **clip), _KERAS),
    "ftrl": _Kind(
        lambda o, clip: Ftrl(
            o.ftrl_learning_rate_power,
            o.ftrl_initial_accumulator_value,
            o.ftrl_l1,
            o.ftrl_l2,
            **clip,
        )
    ),
    "lamb": _Kind(lambda o, clip: Lamb(*_adam(o), **clip), _KERAS),
    "lion": _Kind(lambda o, clip: Lion(o.adam_beta1, o.adam_beta2, **clip), {"adam_beta2": 0.99}),
    "momentum": _Kind(lambda o, clip: Momentum(o.momentum, **clip)),
    "nadam": _Kind(lambda o, clip: Nadam(*_adam(o), **clip), _KERAS),
    "rmsprop": _Kind(
        lambda o, clip: RMSProp(o.rmsprop_decay, o.rmsprop_momentum, o.opt_epsilon, **clip)
    ),
    "sgd": _Kind(lambda o, clip: GradientDescent(**clip)),
}


def _adam(options: OptimizerOptions) -> tuple[float, float, float]:
    return options.adam_beta1, options.adam_beta2, options.opt_epsilon


def create(options: OptimizerOptions) -> Optimizer:
    """The optimizer that the options name; it is built later, on variables.

    Where `opt_epsilon` or `adam_beta2` were not set by hand, adamw, lamb, lion and nadam take
    Keras' defaults, and the others TF-Slim's.
    """
    kind = _KINDS[options.optimizer]
    suited = {name: v for name, v in kind.unset.items() if name not in options.given}
    clip = {
        "clip_norm": options.clip_gradient_norm or None,
        "clip_value": options.clip_gradient_value or None,
    }
    return kind.create(options.replace(**suited), clip)


def _tensorflow_variable(variable: keras.Variable | tf.Variable) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _filled(name: str, shape: tf.TensorShape | tuple, value: float) -> tf.Variable:
    # Mirrored under a strategy's scope, like the model's own variables.
    return tf.Variable(tf.fill(shape, value), trainable=False, dtype=tf.float32, name=name)


# The four below work on `handle`, which inside `strategy.run` is the replica's own copy;
# tf.Variable's methods would ask how to aggregate over the replicas.
def read(variable: tf.Variable) -> tf.Tensor:
    """The variable's value; inside `strategy.run` that of the replica's own copy."""
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def assign(variable: tf.Variable, value: tf.Tensor) -> None:
    """Sets the variable; inside `strategy.run` the replica's own copy alone."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _subtract(variable: tf.Variable, value: tf.Tensor) -> None:
    tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=value)


def _average(slot: tf.Variable, value: tf.Tensor, decay: float) -> tf.Tensor:
    """Moves a running average towards `value`, and returns it."""
    average = read(slot) * decay + value * (1.0 - decay)
    assign(slot, average)
    return average
