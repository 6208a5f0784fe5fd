"""Checkpoints of TF-Slim's kind: weights under slim names, read and written.

Read: V1 (one file) and V2 (an .index and a .data file) checkpoints, the directory that holds them,
and archives of the model zoo as downloaded. Written: V2, with TF-Slim's `checkpoint` state file, so
that TF-Slim and every tool for its checkpoints can read it.

What is wrong with a file is a ValueError of one line, found before the net is touched.
"""

import collections
import contextlib
import dataclasses
import glob
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from nets import slim_names

AVERAGE = "/ExponentialMovingAverage"
_PARTIAL = ".partial"  # in the name of a checkpoint that is being written
_PREVIOUS = ".previous"  # in the name of what one of the same step was, while it is replaced
_SHARD = ".data-00000-of-00001"
_OTHER_ENDINGS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


class Reader:
    """An open checkpoint; values are read when asked for."""

    def __init__(self, path: str):
        """Opens a directory, a V1 or V2 checkpoint (its prefix or any file of it) or an archive.

        Raises:
          ValueError: there is no checkpoint, several that could be meant, or a broken one.
        """
        self.path = path
        if _is_archive(path):
            # Deleted with this object.
            self._unpacked = tempfile.TemporaryDirectory(prefix="checkpoint")
            _unpack(path, self._unpacked.name)
            prefix = latest(self._unpacked.name)
        else:
            prefix = self.path = latest(path) or path
        if prefix is None or not _exists(prefix):
            raise ValueError(f"{path}: no checkpoint there.")
        with self._one_line_errors():
            self._reader = tf.train.load_checkpoint(prefix)
            dtypes = self._reader.get_variable_to_dtype_map()
            shapes = self._reader.get_variable_to_shape_map()
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shapes[name]) for name in shapes}
        self.dtypes: dict[str, str] = {name: dtypes[name].name for name in dtypes}

    @property
    def names(self) -> list[str]:
        return sorted(self.shapes)

    def get(self, name: str) -> np.ndarray:
        """Reads one value; ValueError when it is absent or its bytes are damaged."""
        if name not in self.shapes:
            raise ValueError(f"{self.path}: has no {name}.")
        with self._one_line_errors():
            return self._reader.get_tensor(name)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        # TensorFlow raises different kinds for different damages: IndexError for a short file.
        try:
            yield
        except (tf.errors.OpError, IndexError, RuntimeError) as error:
            reason = " ".join(str(getattr(error, "message", error)).split())
            folder, name = os.path.split(self.path)
            rescue = "Copy or download it again, with all its files."
            names = [os.path.basename(prefix) for prefix in _in_order(folder or ".")]
            if names[-1:] == [name] and names[:-1]:
                rescue = f"Remove {name}.* from {folder or '.'}: {names[-2]} takes its place."
            raise ValueError(
                f"{self.path}: not a checkpoint, or a damaged one ({reason[:200]}). {rescue}"
            ) from error


class Values:
    """Weights in memory, read as a checkpoint is."""

    def __init__(self, path: str, values: Mapping[str, np.ndarray]):
        """path: where they come from, for messages."""
        self.path, self._values = path, values
        self.shapes = {name: np.shape(value) for name, value in values.items()}
        self.dtypes = {name: value.dtype.name for name, value in values.items()}

    @property
    def names(self) -> list[str]:
        return sorted(self.shapes)

    def get(self, name: str) -> np.ndarray:
        return self._values[name]


def read(path: str) -> Reader:
    """Opens a checkpoint; see `Reader`."""
    return Reader(path)


def latest(path: str) -> str | None:
    """The checkpoint that `path` stands for, as TF-Slim names it (V2: without endings).

    path: a directory, whose `checkpoint` state file is followed to the file *beside* it, since its
    absolute paths often belong to another machine; or a checkpoint or one of its files; or an
    archive, which is returned as it is. None when there is nothing.

    Raises:
      ValueError: a directory without state file has several checkpoints and none is the last.
    """
    if not os.path.isdir(path):
        if os.path.isfile(path) and not _OTHER_ENDINGS.search(path):
            return path
        prefix = _OTHER_ENDINGS.sub("", path)
        return prefix if _exists(prefix) else None
    found = _in_order(path)
    if not found and (several := _present(path)):
        names = ", ".join(sorted(map(os.path.basename, several)))
        raise ValueError(f"{path}: several checkpoints and no state file. Name one of {names}.")
    return found[-1] if found else None


def write(
    prefix: str,
    values: Mapping[str, object],
    keep: int = 0,
    spare: Callable[[float], bool] = lambda written_at: False,
) -> None:
    """Writes `prefix.index` and `prefix.data-00000-of-00001` and records them in `checkpoint`.

    Each file appears when it is whole, the index last: a killed writer leaves no half checkpoint.

    Args:
      prefix: path without endings, such as output/model.ckpt-100.
      values: arrays or tensors by name.
      keep: how many of the recorded checkpoints of the directory stay, this one included; the
        oldest are deleted. 0 keeps all.
      spare: time when a checkpoint was written, seconds of the epoch → whether it stays all the
        same; asked for those that would be deleted.

    Raises:
      OSError: it could not be written.
    """
    directory = os.path.dirname(prefix) or "."
    os.makedirs(directory, exist_ok=True)
    for left_over in glob.glob(f"{glob.escape(directory)}/*{_PARTIAL}.*"):
        os.remove(left_over)
    partial = prefix + _PARTIAL
    try:
        with tf.device("CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=partial,
                tensor_names=list(values),
                shape_and_slices=[""] * len(values),
                tensors=[tf.convert_to_tensor(value) for value in values.values()],
            )
    except tf.errors.OpError as error:
        # TensorFlow's words end with the system's: {{node}} path; No space left on device [Op:…
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(
            f"{prefix}: could not be written: {reason}. Earlier checkpoints are untouched."
        ) from error
    # Of the state file, only what lies here: in a copied folder it may name another run's files.
    beside = [path for path in _recorded(directory) if path == _beside(directory, path)]
    previous = _beside(directory, prefix + _PREVIOUS)
    earlier = [path for path in beside if path not in (_beside(directory, prefix), previous)]
    if replaces := all(os.path.exists(prefix + ending) for ending in (_SHARD, ".index")):
        # Written again, under its own name: until it is whole, the state file names what it was.
        if previous not in beside:  # else it is what an earlier kill has left, and the whole one
            for ending in (_SHARD, ".index"):
                _link(prefix + ending, previous + ending)
        _record(directory, [*earlier, previous])
    os.replace(partial + _SHARD, prefix + _SHARD)
    os.replace(partial + ".index", prefix + ".index")
    everything = [*earlier, prefix]
    _record(directory, everything)
    if replaces or previous in beside:
        _remove(previous)
    if keep and len(everything) > keep:
        for old in everything[:-keep]:
            if not (os.path.exists(f"{old}.index") and spare(os.path.getmtime(f"{old}.index"))):
                _remove(old)
        _record(directory, everything[-keep:])


def _link(path: str, name: str) -> None:
    """Gives a file a second name, or where there are no such names a copy."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(name)
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)


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
                f"{_shortened(self.missing)}). It is the checkpoint of "
                "another net or kind."
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
                kinds["values in place of which an average was taken"] += 1
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
        raise ValueError(
            f"{reader.path}: holds no moving averages of the model. Leave out "
            "--moving_average_decay, or choose a checkpoint of a run that had it."
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
    looked_at = {*restored.values(), *kept_out, *other_shape, *other_type}
    unused = [name for name in reader.names if name not in looked_at]
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
    model = net.build(guess, image_size, channels)
    for there, here in plan(model, reader).other_shape.values():
        if here[-1] == guess:
            return there[-1]
    return guess


def global_step(reader: Reader | Values) -> int | None:
    """The step a checkpoint was written at, by its content, else by its name; None if unknown."""
    if "global_step" in reader.shapes:
        return int(reader.get("global_step"))
    number = re.search(r"-(\d+)$", reader.path)
    return int(number[1]) if number else None


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
      ValueError: the file is broken or does not fit, a scope catches nothing, or a weight is not a
        number; the model is as it was.
    """
    reader = read(source) if isinstance(source, str) else source
    report = plan(model, reader, exclude, use_moving_averages)
    if problem := report.problem(ignore_missing):
        raise ValueError(problem)
    found = {name: reader.get(stored) for name, stored in report.restored.items()}
    if broken := [name for name, value in found.items() if not np.all(np.isfinite(value))]:
        raise ValueError(
            f"{reader.path}: NaN or infinite numbers in {_shortened(broken)}. The run that wrote "
            "it diverged: choose an earlier checkpoint."
        )
    assign(model, found, partial=True)
    return report


def _shortened(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _exists(prefix: str) -> bool:
    return os.path.isfile(prefix + ".index") or os.path.isfile(prefix)


def _remove(prefix: str) -> None:
    """Deletes a V2 checkpoint; without its index it counts as none from the first moment."""
    for file in (prefix + ".index", prefix + _SHARD, prefix + ".meta"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)


def _beside(directory: str, path: str) -> str:
    return os.path.join(directory, re.split(r"[\\/]", path)[-1])


def _in_order(directory: str) -> list[str]:
    """The checkpoints of a directory, the last one last; [] where none is known to be the last."""
    if recorded := _recorded(directory):
        return recorded
    found = _present(directory)
    steps = {prefix: re.search(r"-(\d+)$", prefix) for prefix in found}
    if len(found) > 1 and not all(steps.values()):
        return []
    return sorted(found, key=lambda prefix: (int(steps[prefix][1]) if steps[prefix] else 0, prefix))


def _present(directory: str) -> set[str]:
    within = glob.escape(directory)
    found = {_OTHER_ENDINGS.sub("", file) for file in glob.glob(f"{within}/*.index")}
    found |= set(glob.glob(f"{within}/*.ckpt"))
    return {prefix for prefix in found if not prefix.endswith((_PARTIAL, _PREVIOUS))}


def _recorded(directory: str) -> list[str]:
    """The checkpoints of the `checkpoint` state file that are still there, the last one last."""
    try:
        state = tf.train.get_checkpoint_state(directory)
    except ValueError:  # empty, or no text; other damage it logs and gives None
        state = None
    if state is None:
        return []
    found = {}
    for path in [*state.all_model_checkpoint_paths, state.model_checkpoint_path]:
        for candidate in (_beside(directory, path), path):
            if _exists(candidate):
                found.pop(candidate, None)
                found[candidate] = True
                break
    return list(found)


def _record(directory: str, prefixes: list[str]) -> None:
    """Writes the `checkpoint` state file; its paths are relative, so that folders may move."""
    names = [os.path.basename(prefix) for prefix in prefixes]
    state = tf.compat.v1.train.generate_checkpoint_state_proto("", names[-1], names)
    partial = os.path.join(directory, f"checkpoint{_PARTIAL}.tmp")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(str(state))
    os.replace(partial, os.path.join(directory, "checkpoint"))


def _is_archive(path: str) -> bool:
    return path.endswith((".tar.gz", ".tgz", ".tar")) and os.path.isfile(path)


def _unpack(archive: str, directory: str) -> None:
    """Copies the checkpoint files of an archive, whatever folders they are in there."""
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = os.path.basename(member.name)
                if member.isfile() and (name.endswith(".ckpt") or _OTHER_ENDINGS.search(name)):
                    with open(os.path.join(directory, name), "wb") as file:
                        shutil.copyfileobj(members.extractfile(member), file)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{archive}: not a whole archive ({error}). Download it again.") from error
