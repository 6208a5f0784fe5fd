"""Where a converted dataset goes, and how its files appear there: all of them whole, or none.

A folder holds one dataset: NAME_SPLIT-00000-of-00004.tfrecord, labels.txt, dataset.json and
rejected.csv. A single file FILE has the same in its folder, as FILE.labels.txt, FILE.dataset.json …

Files are written in a hidden folder next to their place. Once they are whole, one rename of that
folder says so; then they are moved, dataset.json last. A conversion that was killed before the
rename has changed nothing, and one that was killed after it is finished by the next.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator

from datasets.options import DestinationOptions
from foundation import files, labels
from foundation.errors import InputError

DATASET_JSON = "dataset.json"
REJECTED = "rejected.csv"
DUPLICATES = "duplicates.csv"
NEAR_DUPLICATES = "near_duplicates.csv"
WHITENING = "zca.npz"
_LISTS = (REJECTED, DUPLICATES, NEAR_DUPLICATES)
_SIDE_FILES = (DATASET_JSON, labels.FILE_NAME, WHITENING, *_LISTS)


class Destination:
    """A dataset's place.

    Attributes:
      folder: where the files lie.
      name: the name of the dataset, or of the single file.
      is_file: everything goes into one file.
    """

    def __init__(self, folder: str, name: str, is_file: bool = False):
        self.folder = folder
        self.name = name
        self.is_file = is_file
        self._writing = os.path.join(folder, f".{name}.writing")
        self._ready = os.path.join(folder, f".{name}.ready")

    @classmethod
    def of(cls, options: DestinationOptions) -> "Destination":
        """Raises InputError where the path of a file is a folder's."""
        if path := options.output_file:
            if os.path.isdir(path) or not os.path.basename(path):
                raise InputError(
                    "it is a folder. Name a file in it, or use --output_dir.",
                    option="output_file",
                    value=path,
                )
            return cls(os.path.dirname(path) or ".", os.path.basename(path), is_file=True)
        folder_name = os.path.basename(os.path.abspath(options.output_dir))
        given = None if options.from_tfds else options.dataset_name
        name = given or re.sub(r"[^\w.-]+", "_", folder_name) or "dataset"
        return cls(options.output_dir, name)

    def shard(self, split: str, i: int, num_shards: int) -> str:
        """The name of a shard."""
        if self.is_file:
            return self.name
        return f"{self.name}_{split}-{i:05d}-of-{num_shards:05d}.tfrecord"

    def side(self, name: str) -> str:
        """The name here of labels.txt and the other files that are no shards."""
        return f"{self.name}.{name}" if self.is_file else name

    def side_path(self, name: str) -> str:
        """The path of labels.txt and the other files that are no shards, once published."""
        return os.path.join(self.folder, self.side(name))

    def finished(self) -> dict | None:
        """What the dataset.json of a finished dataset says; None where there is none.

        Raises:
          InputError: dataset.json is there but cannot be read, or is another dataset's.
        """
        if os.path.isdir(self._ready):
            with self._locked(self._ready):
                self._move_ready_files()
        path = self.side_path(DATASET_JSON)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            content = None
        if not isinstance(content, dict) or not {"name", "splits", "files"} <= content.keys():
            raise InputError(f"{path} is not a dataset.json of ours.", remedy="Move it away.")
        if content["name"] != self.name:
            raise InputError(
                f"it holds the dataset {content['name']!r}, and a folder holds one.",
                option="output_dir",
                value=self.folder,
                remedy=f"Choose another folder for {self.name!r}, or another --dataset_name.",
            )
        return content

    def files_in_the_way(self) -> list[str]:
        """Files there that publishing would replace or remove, except the lists of findings."""
        lists = [self.side(name) for name in _LISTS]
        return sorted(n for n in _list(self.folder) if self._owns(n) and n not in lists)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps an empty hidden folder for the files while the block runs, and removes it then.

        Raises:
          InputError: another conversion is writing there.
          OSError: it cannot be written.
        """
        try:
            os.makedirs(self._writing, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.folder} cannot be written: {error.strerror}.") from error
        with self._locked(self._writing):
            for name in os.listdir(self._writing):  # left by a conversion that was killed
                os.remove(os.path.join(self._writing, name))
            try:
                yield
            finally:
                shutil.rmtree(self._writing, ignore_errors=True)

    def path(self, name: str) -> str:
        """Where to write a file in the block of `writing`."""
        return os.path.join(self._writing, name)

    def publish(self) -> None:
        """Moves the files to their place, in place of those of an earlier dataset."""
        os.rename(self._writing, self._ready)
        self._move_ready_files()

    @contextlib.contextmanager
    def _locked(self, folder: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.locked(folder))
            except BlockingIOError as error:
                raise InputError(
                    f"{self.folder}: another conversion is writing {self.name} there."
                ) from error
            yield

    def _move_ready_files(self) -> None:
        """Moves files that are whole; a second call does what an interrupted one left."""
        last = self.side(DATASET_JSON)
        if last in os.listdir(self._ready):  # else only the empty folder was left to remove
            with open(os.path.join(self._ready, last), encoding="utf-8") as file:
                keep = set(json.load(file)["files"])
            # The old dataset.json goes first: without one, no dataset is taken for finished.
            stale = [name for name in _list(self.folder) if self._owns(name) and name not in keep]
            for name in sorted({*stale, last}, key=lambda name: name != last):
                _remove(os.path.join(self.folder, name))
            for name in sorted(os.listdir(self._ready), key=lambda name: name == last):
                os.replace(os.path.join(self._ready, name), os.path.join(self.folder, name))
        os.rmdir(self._ready)

    def _owns(self, name: str) -> bool:
        if self.is_file and name == self.name:
            return True
        shards = re.escape(self.name) + r"_[a-z]+-\d{5}-of-\d{5}\.tfrecord"
        is_shard = not self.is_file and re.fullmatch(shards, name)
        return bool(is_shard) or name in map(self.side, _SIDE_FILES)


def _list(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
