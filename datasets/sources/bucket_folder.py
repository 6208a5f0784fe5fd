"""A folder of photographs in a bucket, reached through fsspec."""

import contextlib
import os
import posixpath
from collections.abc import Iterator

from datasets import buckets
from datasets.disk_table import DiskTable
from datasets.sources.image_folder import (
    MAX_FILE_BYTES,
    MISSING,
    Found,
    ImageFolder,
    is_clutter,
    is_photograph,
)
from foundation.errors import InputError
from foundation.files import unreadable

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def folder_at(path: str) -> ImageFolder:
    """The folder of photographs at a path of this machine or at a URL.

    Raises:
      InputError: there is no such folder, or nothing installed reaches it.
    """
    if path.lower().endswith(_ARCHIVES) and not os.path.isdir(path):
        raise InputError(
            "an archive is not read.",
            option="image_dir",
            value=path,
            remedy="Unpack it, and name the folder of its photographs.",
        )
    if path.startswith("file://"):  # where links lead elsewhere, as in no bucket
        return ImageFolder(path.removeprefix("file://"))
    return BucketFolder(path) if buckets.is_url(path) else ImageFolder(path)


class BucketFolder(ImageFolder):
    """Photographs in a bucket, named by their path below a URL.

    Where a folder is listed, what is known of its files is kept on the disk. Errors of the bucket's
    own are raised: a network that fails for a while says nothing of a photograph.
    """

    def __init__(self, path: str):
        """Raises InputError where there is no such folder, or nothing installed reaches it."""
        buckets.check(path, "image_dir")
        self.path = path.rstrip("/")
        buckets.check_folder(self.path, "image_dir")
        self._files, self._listed = DiskTable(), set()

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = buckets.entries(buckets.join(self.path, *filter(None, [folder])))
        if folder not in self._listed:
            self._listed.add(folder)
            for name, version in files.items():
                self._files.add(_key(posixpath.join(folder, name)), version)
        return folders, sorted(files)

    def photographs(self, within: str = "") -> Iterator[str]:
        folders, files = self.entries(within)
        yield from (posixpath.join(within, name) for name in files if is_photograph(name))
        for name in folders:
            if not is_clutter(name):
                yield from self.photographs(posixpath.join(within, name))

    def is_file(self, path: str) -> bool:
        return self.version(path) is not None

    def version(self, path: str) -> tuple[int, int] | None:
        folder = posixpath.dirname(path)
        if folder not in self._listed:
            with contextlib.suppress(FileNotFoundError):
                self.entries(folder)
        found = self._files.get(_key(path))
        return found[0] if found else None

    def find(self, name: str, near: str = "") -> Found | None:
        return super().find(name.removeprefix(f"{self.path}/"), near)

    def read(self, path: str) -> bytes:
        try:
            with buckets.open_file(buckets.join(self.path, path)) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError as error:
            raise ValueError(MISSING) from error
        except OSError as error:  # of a right that ran out too: it held for the photographs before
            raise unreadable(buckets.join(self.path, path), error) from error
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"file too large: more than {MAX_FILE_BYTES} bytes")
        return data


def required(folder: ImageFolder, what: str) -> str:
    """The path of a folder of this machine; raises InputError for a bucket, where `what` fails."""
    if isinstance(folder, BucketFolder):
        raise InputError(
            f"{what} in a bucket is not read.",
            option="image_dir",
            value=folder.path,
            remedy="Give the labels by --csv_file or by a folder per class, or mount the bucket.",
        )
    return folder.path


def _key(path: str) -> bytes:
    return os.fsencode(path)
