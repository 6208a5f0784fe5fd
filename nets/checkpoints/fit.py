"""Whether a checkpoint fits a model: plan, check, assign, report."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from foundation.errors import InputError
from nets import slim_names
from nets.checkpoints.reader import Reader, Values, read
from nets.shapes import shapes_only

AVERAGE = "/ExponentialMovingAverage"


def values(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a model by slim name, as arrays that can't be written to."""
    return {
        name: np.asarray(tf.convert_to_tensor(variable.value))
        for name, variable in slim_names.variables(model).items()
    }


def assign(model: keras.Model, values: Mapping[str, np.ndarray], partial: bool = False) -> None:
    """Gives a model its weights; with `partial`, only some of them.

    Raises:
      ValueError: a name is missing, unknown or has another shape; the model is as it was.
    """
    variables = slim_names.variables(model)
    problems = []
    if missing := [] if partial else [name for name in variables if name not in values]:
        problems.append(f"without a value: {_shortened(missing)}")
    if unknown := [name for name in values if name not in variables]:
        problems.append(f"unknown to the model: {_shortened(unknown)}")
    if resized := [
        f"{name} {list(np.shape(value))} for {list(variables[name].shape)}"
        for name, value in values.items()
        if name in variables and np.shape(value) != tuple(variables[name].shape)
    ]:
        problems.append(f"of another shape: {_shortened(resized)}")
    if problems:
        raise ValueError(f"{model.name}: these weights do not fit: {'; '.join(problems)}.")
    for name, value in values.items():
        variables[name].assign(value)


@dataclasses.dataclass(frozen=True)
class Report:
    """What a checkpoint gives a model; all names are slim names."""

    path: str
    restored: dict[str, str]  # variable of the model → name in the file
    excluded: dict[str, list[str]]  # scope → what it kept out
    missing: list[str]  # wanted, not in the file
    other_shape: dict[str, tuple[tuple, tuple]]  # → (shape in the file, shape in the model)
    other_type: dict[str, str]  # → type in the file
    unused: list[str]  # in the file, not wanted

    def problem(self, ignore_missing: bool = False) -> str | None:
        """Why this must not be restored, in one line with what to do; None when it may."""
        path = self.path
        if self.missing and not self.restored and not self.other_shape:
            tops = list(dict.fromkeys(name.split("/")[0] for name in self.unused))
            return (
                f"{path}: holds no variable of the model (there: {_shortened(tops)}; wanted: "
                f"{_shortened(self.missing)}). It is the checkpoint of another net or kind."
            )
        problems, advice, head = [], [], []
        if self.other_shape:
            shapes = [
                f"{name} is {list(there)}, the model's is {list(here)}"
                for name, (there, here) in self.other_shape.items()
            ]
            problems.append(f"of another shape: {_shortened(shapes)}")
            if head := self._scopes_of_head():
                scopes = ",".join([*self.excluded, *head])
                advice.append(
                    f"for another number of classes add --checkpoint_exclude_scopes={scopes}"
                )
            else:
                advice.append("it is of another net, width or image size: choose the right one")
        if self.missing and not ignore_missing:
            problems.append(f"not in the checkpoint: {_shortened(self.missing)}")
            if not all(name.startswith(tuple(head)) for name in self.missing):
                advice.append("to keep fresh values for what is missing add --ignore_missing_vars")
        if self.other_type:
            types = [f"{name} is {there}" for name, there in self.other_type.items()]
            problems.append(f"not stored in the model's type: {_shortened(types)}")
            advice.append("convert them to float32 first")
        if not problems:
            return None
        return f"{path} does not fit the model: {'; '.join(problems)}. Remedy: {'; '.join(advice)}."

    def _scopes_of_head(self) -> list[str]:
        """The scopes of the classifiers when it is only these that have another size."""
        shapes = self.other_shape.values()
        same_inputs = all(there[:-1] == here[:-1] for there, here in shapes)
        if not same_inputs or len({here[-1] for _, here in shapes}) > 1:
            return []
        # InceptionV3/Logits of InceptionV3/Logits/Conv2d_1c_1x1/weights, vgg_16/fc8, …
        return list(dict.fromkeys("/".join(n.split("/")[:-1][:2]) for n in self.other_shape))

    def __str__(self) -> str:
        """Some lines for the screen."""
        excluded = len({name for names in self.excluded.values() for name in names})
        lines = [
            f"{self.path}: {len(self.restored)} variables restored, {excluded} excluded, "
            f"{len(self.missing)} missing, {len(self.other_shape)} of another shape, "
            f"{len(self.unused)} in the file unused."
        ]
        for scope, names in self.excluded.items():
            lines.append(f"  excluded by {scope} ({len(names)}): {_shortened(names)}")
        if self.missing:
            lines.append(f"  missing ({len(self.missing)}): {_shortened(self.missing)}")
        for name, (there, here) in self.other_shape.items():
            lines.append(f"  other shape: {name}, {list(there)} there, {list(here)} here")
        if self.unused:
            lines.append(f"  unused: {self._kinds_of_unused()}")
        return "\n".join(lines)

    def _kinds_of_unused(self) -> str:
        """Optimizer slots and averages are counted by kind, as there are hundreds of them."""
        kinds, others = collections.Counter(), []
        known = {*self.restored, *self.missing, *self.other_shape, *self.unused}
        known.update(name for names in self.excluded.values() for name in names)
        for name in self.unused:
            owner, _, kind = name.rpartition("/")
            if owner in known:
                kinds[kind] += 1
            elif name in self.restored:
                kinds["values replaced by their averages"] += 1
            else:
                others.append(name)
        parts = [f"{count} {kind}" for kind, count in kinds.items()]
        return ", ".join(parts + ([_shortened(others)] if others else []))


def plan(
    model: keras.Model,
    reader: Reader | Values,
    exclude: Iterable[str] = (),
    use_moving_averages: bool = False,
) -> Report:
    """Compares a checkpoint with a model; changes nothing. See `restore`."""
    variables = slim_names.variables(model)
    excluded = slim_names.caught_by_prefix(exclude, variables)
    kept_out = {name for names in excluded.values() for name in names}
    if use_moving_averages and not any(name + AVERAGE in reader.shapes for name in variables):
        raise InputError(
            f"{reader.path}: holds no moving averages of the model.",
            remedy="Leave out --moving_average_decay, or choose a checkpoint of a run that had it.",
        )
    restored, missing, other_shape, other_type = {}, [], {}, {}
    for name, variable in variables.items():
        average = name + AVERAGE
        stored = average if use_moving_averages and average in reader.shapes else name
        if name in kept_out:
            continue
        if stored not in reader.shapes:
            missing.append(name)
        elif reader.shapes[stored] != tuple(variable.shape):
            other_shape[name] = (reader.shapes[stored], tuple(variable.shape))
        elif reader.dtypes[stored] != variable.dtype:
            other_type[name] = reader.dtypes[stored]
        else:
            restored[name] = stored
    used = {*restored.values(), *kept_out, *other_shape, *other_type}
    unused = [name for name in reader.names if name not in used]
    return Report(reader.path, restored, excluded, missing, other_shape, other_type, unused)


def head_size(
    net, reader: Reader | Values, guess: int, image_size: int | None, channels: int | None
) -> int:
    """How many outputs the head in a checkpoint of `net` has: only its shapes depend on that.

    Args:
      net: a `nets_factory.Net`.
      reader: the checkpoint.
      guess: a number to compare with, given back where nothing in the checkpoint differs from it.
      image_size, channels: as for `net.build`.
    """
    with shapes_only():  # shapes, without values
        model = net.build(guess, image_size, channels)
    for there, here in plan(model, reader).other_shape.values():
        if here[-1] == guess:
            return there[-1]
    return guess


def restore(
    model: keras.Model,
    source: str | Reader | Values,
    exclude: Iterable[str] = (),
    ignore_missing: bool = False,
    use_moving_averages: bool = False,
) -> Report:
    """Gives a model the weights of a checkpoint: all that are asked for, or none.

    Args:
      model: of `nets_factory.build`.
      source: whatever `read` opens, or already opened.
      exclude: scopes, by string prefix, whose variables keep the values they have.
      ignore_missing: variables that are not in the file keep the values they have.
      use_moving_averages: take `NAME/ExponentialMovingAverage` where the file has it.

    Raises:
      InputError: the file is broken or does not fit, a scope catches nothing, or a weight is not a
        number; the model is as it was.
    """
    reader = read(source) if isinstance(source, str) else source
    report = plan(model, reader, exclude, use_moving_averages)
    if problem := report.problem(ignore_missing):
        raise InputError(problem)
    assign(model, weights(reader, report), partial=True)
    return report


def weights(reader: Reader | Values, report: Report) -> dict[str, np.ndarray]:
    """Reads all that a plan restores, by the model's slim names.

    Raises:
      InputError: the file is broken, or a weight is not a number.
    """
    found = {name: reader.get(stored) for name, stored in report.restored.items()}
    if broken := [name for name, value in found.items() if not np.all(np.isfinite(value))]:
        raise InputError(
            f"{reader.path}: NaN or infinite numbers in {_shortened(broken)}. The run that wrote "
            "it diverged.",
            remedy="Choose an earlier checkpoint.",
        )
    return found


def _shortened(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
