"""Which checkpoint a path stands for, and the `checkpoint` state file that names them in order."""

import glob
import os
import re

import tensorflow as tf

from foundation import files
from foundation.errors import InputError

PARTIAL = ".partial"  # in the name of a checkpoint that is being written
PREVIOUS = ".previous"  # in the name of the checkpoint that one of the same step is replacing
SHARD = ".data-00000-of-00001"  # of the checkpoints that this program writes
STATE = "checkpoint"
OTHER_ENDINGS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def latest(path: str) -> str | None:
    """The checkpoint that `path` stands for, as TF-Slim names it (V2: without endings).

    Args:
      path: a directory, whose `checkpoint` state file is followed to the files in that directory,
        since its absolute paths often belong to another machine; or that state file; or a
        checkpoint or one of its files; or an archive, which is returned as it is.

    Returns:
      None when there is nothing.

    Raises:
      InputError: a directory without a state file has several checkpoints and none is the last.
    """
    if os.path.basename(path) == STATE and os.path.isfile(path):
        path = os.path.dirname(path) or "."
    if not os.path.isdir(path):
        if os.path.isfile(path) and not OTHER_ENDINGS.search(path):
            return path
        prefix = OTHER_ENDINGS.sub("", path)
        return prefix if exists(prefix) else None
    found = in_order(path)
    if not found and (several := _present(path)):
        names = ", ".join(sorted(map(os.path.basename, several)))
        raise InputError(
            f"{path}: several checkpoints and no state file.", remedy=f"Name one of {names}."
        )
    return found[-1] if found else None


def exists(prefix: str) -> bool:
    """Whether a V1 or V2 checkpoint has this path without endings."""
    return os.path.isfile(first_file(prefix))


def first_file(prefix: str) -> str:
    """The file that says what a checkpoint holds: the index of V2, the only file of V1."""
    index = prefix + ".index"
    return index if os.path.isfile(index) else prefix


def data_files(prefix: str) -> list[str]:
    """The files that hold the values of a checkpoint, whether they are there or not."""
    if first_file(prefix) == prefix:
        return [prefix]
    present = glob.glob(f"{glob.escape(prefix)}.data-?????-of-?????")
    count = int(present[0][-5:]) if present else 1
    return [f"{prefix}.data-{i:05}-of-{count:05}" for i in range(count)]


def in_order(directory: str) -> list[str]:
    """The checkpoints of a directory, the last one last; [] where none is known to be the last."""
    if found := recorded(directory):
        return found
    found = _present(directory)
    steps = {prefix: re.search(r"-(\d+)$", prefix) for prefix in found}
    if len(found) > 1 and not all(steps.values()):
        return []
    return sorted(found, key=lambda prefix: (int(steps[prefix][1]) if steps[prefix] else 0, prefix))


def recorded(directory: str) -> list[str]:
    """The checkpoints of the `checkpoint` state file that are still there, the last one last."""
    try:
        state = tf.train.get_checkpoint_state(directory)
    except ValueError:  # empty, or no text; other damage it logs and gives None
        state = None
    if state is None:
        return []
    found = {}
    for path in [*state.all_model_checkpoint_paths, state.model_checkpoint_path]:
        for candidate in (in_directory(directory, path), path):
            if exists(candidate):
                found.pop(candidate, None)
                found[candidate] = True
                break
    return list(found)


def record(directory: str, prefixes: list[str]) -> None:
    """Writes the `checkpoint` state file; its paths are relative, so that folders may move."""
    names = [os.path.basename(prefix) for prefix in prefixes]
    state = tf.compat.v1.train.generate_checkpoint_state_proto("", names[-1], names)
    with files.whole(os.path.join(directory, STATE)) as file:
        file.write(str(state))


def in_directory(directory: str, path: str) -> str:
    """A file of this directory with the name that `path` has, be it a path of Windows."""
    return os.path.join(directory, re.split(r"[\\/]", path)[-1])


def _present(directory: str) -> set[str]:
    within = glob.escape(directory)
    found = {OTHER_ENDINGS.sub("", file) for file in glob.glob(f"{within}/*.index")}
    found |= set(glob.glob(f"{within}/*.ckpt"))
    return {prefix for prefix in found if not prefix.endswith((PARTIAL, PREVIOUS))}
