"""Checkpoints are written whole: each file appears under its name when it is complete."""

import contextlib
import glob
import os
import shutil
from collections.abc import Callable, Mapping

import tensorflow as tf

from foundation import files
from nets.checkpoints import find

_REASONS = {
    tf.errors.ResourceExhaustedError: "the disk is full, or a quota is used up",
    tf.errors.OutOfRangeError: "the file would be larger than is allowed here (ulimit -f)",
    tf.errors.PermissionDeniedError: "no permission to write there",
    tf.errors.NotFoundError: "the folder is gone",
}


def write(
    prefix: str,
    values: Mapping[str, object],
    keep: int = 0,
    spare: Callable[[float], bool] = lambda written_at: False,
) -> None:
    """Writes `prefix.index` and `prefix.data-00000-of-00001` and records them in `checkpoint`.

    Each file appears when it is whole and on the disk, the index last: neither a killed writer nor
    a loss of power leaves a half checkpoint.

    Args:
      prefix: path without endings, such as output/model.ckpt-100.
      values: arrays or tensors by name.
      keep: how many of the recorded checkpoints of the directory stay, this one included; the
        oldest are deleted. 0 keeps all.
      spare: is called for each checkpoint that would be deleted, with the time at which it was
        written (seconds since 1970); True keeps it.

    Raises:
      OSError: it could not be written; earlier checkpoints are untouched.
    """
    directory = os.path.dirname(prefix) or "."
    os.makedirs(directory, exist_ok=True)
    for left_over in glob.glob(f"{glob.escape(directory)}/*{find.PARTIAL}.*"):
        os.remove(left_over)
    _save(prefix, values)
    earlier = _take_its_place(directory, prefix)
    if keep and len(earlier) >= keep:
        everything = [*earlier, prefix]
        for old in everything[:-keep]:
            if not (os.path.exists(f"{old}.index") and spare(os.path.getmtime(f"{old}.index"))):
                _remove(old)
        find.record(directory, everything[-keep:])


def _save(prefix: str, values: Mapping[str, object]) -> None:
    """Writes both files under temporary names."""
    try:
        with tf.device("CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=prefix + find.PARTIAL,
                tensor_names=list(values),
                shape_and_slices=[""] * len(values),
                tensors=[tf.convert_to_tensor(value) for value in values.values()],
            )
    except tf.errors.OpError as error:
        raise OSError(
            f"{prefix}: {not_written(error)} Earlier checkpoints are untouched."
        ) from error


def not_written(error: tf.errors.OpError) -> str:
    """Why TensorFlow could not write a file, as a sentence, in place of its own many words."""
    return f"could not be written: {_REASONS.get(type(error), 'the file system refused it')}."


def _take_its_place(directory: str, prefix: str) -> list[str]:
    """Renames a saved checkpoint and records it; returns the recorded ones before it."""
    # The state file of a copied folder may name another run's files: those are left alone.
    here = [path for path in find.recorded(directory) if path == find.in_directory(directory, path)]
    previous = find.in_directory(directory, prefix + find.PREVIOUS)
    own = (find.in_directory(directory, prefix), previous)
    earlier = [path for path in here if path not in own]
    endings = (find.SHARD, ".index")
    if replaces := all(os.path.exists(prefix + ending) for ending in endings):
        # Until the new files are whole, the state file names the old ones by a second name.
        if previous not in here:  # else a killed writer left it, and only it is whole
            for ending in endings:
                _link(prefix + ending, previous + ending)
        find.record(directory, [*earlier, previous])
    for ending in endings:
        files.settle(prefix + find.PARTIAL + ending)
    for ending in endings:
        os.replace(prefix + find.PARTIAL + ending, prefix + ending)
    files.settle(directory)
    find.record(directory, [*earlier, prefix])
    if replaces or previous in here:
        _remove(previous)
    return earlier


def _link(path: str, name: str) -> None:
    """Gives a file a second name; copies it on file systems without hard links."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(name)
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)


def _remove(prefix: str) -> None:
    """Deletes a V2 checkpoint; without its index it counts as none from the first moment."""
    for file in (prefix + ".index", prefix + find.SHARD, prefix + ".meta"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)
