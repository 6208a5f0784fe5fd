"""Where a converted dataset goes, and how its files appear there: all of them whole, or none.

A folder holds one dataset: NAME_SPLIT-00000-of-00004.tfrecord, labels.txt, dataset.json and
rejected.csv. A single file FILE has the same in its folder, as FILE.labels.txt, FILE.dataset.json …

Files are written in a hidden folder next to their place. Once they are whole, one rename of that
folder says so; then they are moved, dataset.json last. A conversion that was killed before the
rename has changed nothing, and one that was killed after it is finished by the next.

In a bucket, which has no folders to rename, dataset.json alone says that a dataset is whole.
"""

import contextlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping

from datasets import buckets
from datasets.options import DestinationOptions
from foundation import files, labels
from foundation.errors import InputError

DATASET_JSON = "dataset.json"
REJECTED = "rejected.csv"
DUPLICATES = "duplicates.csv"
NEAR_DUPLICATES = "near_duplicates.csv"
WHITENING = "zca.npz"
PAGE = "dataset.html"
_LISTS = (REJECTED, DUPLICATES, NEAR_DUPLICATES)
_SIDE_FILES = (DATASET_JSON, labels.FILE_NAME, WHITENING, PAGE, *_LISTS)


class Destination:
    """A dataset's place, a folder of this machine.

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
        """The place that options name, in a bucket where that is a URL.

        Raises:
          InputError: the path of a file is a folder's; no installed package reaches the bucket.
        """
        option = "output_file" if options.output_file else "output_dir"
        given = getattr(options, option)
        buckets.check(given, option)
        kind = BucketDestination if buckets.is_url(given) else cls
        if path := options.output_file:
            if os.path.isdir(path) or not os.path.basename(path):
                raise InputError(
                    "it is a folder. Name a file in it, or use --output_dir.",
                    option="output_file",
                    value=path,
                )
            return kind(os.path.dirname(path) or ".", os.path.basename(path), is_file=True)
        folder_name = os.path.basename(os.path.abspath(given))
        stated = None if options.from_tfds else options.dataset_name
        name = stated or re.sub(r"[^\w.-]+", "_", folder_name) or "dataset"
        return kind(given, name)

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
        return buckets.join(self.folder, self.side(name))

    def size(self, name: str) -> int | None:
        """Bytes of a file that was published; None where there is none."""
        return buckets.size(buckets.join(self.folder, name))

    def finished(self) -> dict | None:
        """What the dataset.json of a finished dataset says; None where there is none.

        Raises:
          InputError: dataset.json is there but cannot be read, or is another dataset's.
        """
        if os.path.isdir(self._ready):
            try:
                with files.locked(self._ready):
                    self._move_ready_files()
            except BlockingIOError as error:
                raise self._taken() from error
        path = self.side_path(DATASET_JSON)
        try:
            with buckets.open_file(path) as file:
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
        return [n for n in buckets.names(self.folder) if self._owns(n) and n not in lists]

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[str]:
        """The path to write a file to that is no part of the dataset; there when the block ends."""
        yield self.side_path(name)

    @contextlib.contextmanager
    def working(self) -> Iterator[str]:
        """Keeps a folder beside the dataset that all workers of a cluster reach, for the block.

        What killed conversions left in such folders is removed, where it can be told that nobody
        is at work there.
        """
        parent = os.path.join(self.folder, f".{self.name}.working")
        existed = os.path.isdir(self.folder)
        folder = os.path.join(parent, uuid.uuid4().hex)
        os.makedirs(folder)
        try:
            with files.locked(folder):
                for name in os.listdir(parent):
                    with contextlib.suppress(OSError), files.locked(os.path.join(parent, name)):
                        buckets.remove_folder(os.path.join(parent, name))
                yield folder
        finally:
            buckets.remove_folder(folder)
            for left in (parent, *([] if existed else [self.folder])):
                with contextlib.suppress(OSError):  # others are at work, or it holds the dataset
                    os.rmdir(left)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps an empty hidden folder for the files while the block runs, and removes it then.

        Raises:
          InputError: another conversion is writing there.
          OSError: it cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.own_folder(self._writing))
            except BlockingIOError as error:
                raise self._taken() from error
            except OSError as error:
                raise OSError(f"{self.folder} cannot be written: {error.strerror}.") from error
            yield

    def path(self, name: str) -> str:
        """Where to write a file in the block of `writing`."""
        return os.path.join(self._writing, name)

    def adopt(self, paths: Mapping[str, str]) -> None:
        """Takes files that lie elsewhere, each a path under the name that it gets here."""
        buckets.move((path, self.path(name)) for name, path in paths.items())

    def publish(self) -> None:
        """Moves the files to their place, in place of those of an earlier dataset.

        The disk has them before: a loss of power leaves no dataset.json beside empty shards.
        """
        files.say_whole(self._writing, self._ready)
        self._move_ready_files()

    def _taken(self) -> InputError:
        return InputError(f"{self.folder}: another conversion is writing {self.name} there.")

    def _move_ready_files(self) -> None:
        """Moves files that are whole; a second call does what an interrupted one left."""
        last = self.side(DATASET_JSON)
        if last in os.listdir(self._ready):  # else only the empty folder was left to remove
            with open(os.path.join(self._ready, last), encoding="utf-8") as file:
                keep = set(json.load(file)["files"])
            # The old dataset.json goes first: without one, no dataset is taken for finished.
            self._remove_stale(keep)
        files.move_all(self._ready, self.folder, last)

    def _remove_stale(self, keep: set[str]) -> None:
        """Removes an earlier dataset's files, its dataset.json first."""
        last = self.side(DATASET_JSON)
        names = buckets.names(self.folder)
        buckets.remove([buckets.join(self.folder, last)])
        stale = (name for name in names if self._owns(name) and name not in {*keep, last})
        buckets.remove(buckets.join(self.folder, name) for name in stale)

    def _owns(self, name: str) -> bool:
        if self.is_file and name == self.name:
            return True
        shards = re.escape(self.name) + r"_[a-z]+-\d{5,}-of-\d{5,}\.tfrecord"
        is_shard = not self.is_file and re.fullmatch(shards, name)
        return bool(is_shard) or name in map(self.side, _SIDE_FILES)


class BucketDestination(Destination):
    """A dataset's place in a bucket.

    Files are made on this machine, or by workers elsewhere in the bucket, and put into their place
    when all are whole. Nothing keeps a second conversion out.
    """

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps an empty folder of this machine for the files while the block runs."""
        with tempfile.TemporaryDirectory(prefix=f"{self.name}.") as self._writing:
            self._elsewhere: dict[str, str] = {}
            yield

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, name)
            yield path
            buckets.move([(path, self.side_path(name))])

    @contextlib.contextmanager
    def working(self) -> Iterator[str]:
        folder = buckets.join(self.folder, f".{self.name}.working", uuid.uuid4().hex)
        try:
            yield folder
        finally:
            buckets.remove_folder(folder)

    def adopt(self, paths: Mapping[str, str]) -> None:
        self._elsewhere |= paths

    def publish(self) -> None:
        last = self.side(DATASET_JSON)
        here = {name: self.path(name) for name in os.listdir(self._writing)} | self._elsewhere
        with open(here[last], encoding="utf-8") as file:
            self._remove_stale(set(json.load(file)["files"]))
        described = here.pop(last)
        buckets.move((path, buckets.join(self.folder, name)) for name, path in here.items())
        buckets.move([(described, buckets.join(self.folder, last))])
