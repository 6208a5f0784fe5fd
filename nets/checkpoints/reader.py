"""What is in a checkpoint: names, shapes, types, and values when asked for."""

import contextlib
import glob
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np

from foundation.errors import InputError
from nets import exported
from nets.checkpoints import find, formats
from nets.checkpoints.tables import Damaged

# No net's checkpoint is as large, the variables of its optimizer included.
_MOST_UNPACKED = 16 << 30


class Reader:
    """An open checkpoint; values are read when asked for."""

    def __init__(self, path: str):
        """Opens a directory, a V1 or V2 checkpoint (its prefix or any file of it) or an archive.

        Raises:
          InputError: there is no checkpoint, several that could be meant, a broken one, or an
            exported model.
        """
        self.path = path
        if _is_archive(path):
            # Deleted with this object.
            self._unpacked = tempfile.TemporaryDirectory(prefix="checkpoint")
            _unpack(path, self._unpacked.name)
            prefix = find.latest(self._unpacked.name)
        else:
            prefix = find.latest(path)
            self.path = prefix or path
        exported.refuse_file(path)
        if not prefix:
            exported.refuse_folder(path)
            raise InputError(f"{path}: no checkpoint there.{_missing_index(path)}")
        self._prefix = prefix
        with self._input_errors([find.first_file(prefix)]):
            self._stored = formats.opened(prefix)
        tensors = self._stored.tensors
        self.shapes: dict[str, tuple[int, ...]] = {name: tensors[name].shape for name in tensors}
        self.dtypes: dict[str, str] = {name: tensors[name].dtype.name for name in tensors}

    @property
    def names(self) -> list[str]:
        return sorted(self.shapes)

    def get(self, name: str) -> np.ndarray:
        """Reads one value; InputError when it is absent or its bytes are damaged."""
        if name not in self.shapes:
            raise InputError(f"{self.path}: has no {name}.")
        with self._input_errors(find.data_files(self._prefix)):
            return self._stored.get(name)

    @contextlib.contextmanager
    def _input_errors(self, files: list[str]) -> Iterator[None]:
        """What is wrong with these files in this block becomes an InputError that names them."""
        try:
            yield
        except (Damaged, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            missing = [file for file in files if not os.path.isfile(file)]
            reason = "it is missing" if missing else str(error)
            at_fault = " or ".join(map(os.path.basename, missing or files))
            folder, name = os.path.split(self.path)
            rescue = "Copy or download it again, with all its files."
            names = [os.path.basename(prefix) for prefix in find.in_order(folder or ".")]
            if names[-1:] == [name] and names[:-1]:
                rescue = f"Remove {name}.* from {folder or '.'}: {names[-2]} takes its place."
            raise InputError(
                f"{self.path}: not a checkpoint, or a damaged one ({at_fault}: {reason}).",
                remedy=rescue,
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


def global_step(reader: Reader | Values) -> int | None:
    """The step a checkpoint was written at, by its content, else by its name; None if unknown.

    Raises:
      InputError: its global_step is damaged.
    """
    if "global_step" in reader.shapes:
        step = np.asarray(reader.get("global_step"))
        if step.size != 1 or step.dtype.kind not in "iuf" or not np.isfinite(step).all():
            raise InputError(
                f"{reader.path}: its global_step is no number: the checkpoint is damaged.",
                remedy="Copy or download it again, or take another.",
            )
        return int(step.item())
    number = re.search(r"-(\d+)$", reader.path)
    return int(number[1]) if number else None


def _missing_index(path: str) -> str:
    """Says so where other files of a checkpoint are there, and the index is not."""
    prefix = find.OTHER_ENDINGS.sub("", path)
    alone = prefix != path or glob.glob(f"{glob.escape(prefix)}.data-*")
    return f" {prefix}.index is missing." if alone else ""


def _is_archive(path: str) -> bool:
    return path.endswith((".tar.gz", ".tgz", ".tar")) and os.path.isfile(path)


def _unpack(archive: str, directory: str) -> None:
    """Copies the checkpoint files of an archive, whatever folders they are in there."""
    end = size = 0
    try:
        with tarfile.open(archive) as members:
            for member in members:
                if members.offset <= end:  # of negative sizes, which lead round and round
                    raise tarfile.ReadError("its parts overlap")
                end, size = members.offset, size + member.size
                if size > _MOST_UNPACKED:
                    raise tarfile.ReadError(f"more than {_MOST_UNPACKED >> 30} GiB are in it")
                name = os.path.basename(member.name)
                if member.isfile() and (name.endswith(".ckpt") or find.OTHER_ENDINGS.search(name)):
                    with open(os.path.join(directory, name), "wb") as file:
                        shutil.copyfileobj(members.extractfile(member), file)
    except Exception as error:  # damaged bytes make the parsers raise anything
        raise InputError(
            f"{archive}: not a whole archive ({error}).", remedy="Download it again."
        ) from error
