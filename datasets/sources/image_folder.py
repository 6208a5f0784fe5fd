"""The folder of photographs: finds them by what a source calls them, and stays inside.

A name in a source may be wrong, may lack its extension, or may try to lead out of the folder.
"""

import functools
import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from datasets.disk_table import DiskTable
from foundation import files
from foundation.errors import InputError, Unreadable

# A record holds an image whole, and protobuf ends at two gibibytes; no photograph comes near.
MAX_FILE_BYTES = 1 << 29
MISSING = "missing file"  # why there is no photograph where a source names one

# Files that accompany photographs, and are not reported as a photograph that could not be read.
_OTHER_SUFFIXES = (
    ".cache .cfg .csv .data .db .doc .docx .gz .htm .html .ini .json .jsonl .mat .md .names .npy "
    ".npz .pdf .pickle .pkl .py .record .rst .sh .tar .tfrecord .tfrecords .tsv .txt .xls .xlsx "
    ".xml .yaml .yml .zip"
).split()


class Found(NamedTuple):
    """A photograph's path in the folder, and what to report of how it was found; "" for nothing."""

    path: str
    remark: str = ""


class ImageFolder:
    """Photographs under one folder, named by their path in it, with `/`."""

    def __init__(self, path: str):
        """Raises InputError where there is no such folder."""
        if not os.path.isdir(path):
            raise InputError("there is no such folder.", option="image_dir", value=path)
        self.path = path
        self._real_path = os.path.realpath(path)
        self._known_folders: dict[str, bool] = {}

    def find(self, name: str, near: str = "") -> Found | None:
        """The photograph that a source means, or None.

        Args:
          name: as the source calls it, with or without folders and extension. Of a path on another
            machine as much of its end is used as exists here, be it the bare name.
          near: folder to prefer: where the source's own file lies in its tree.

        Raises:
          ValueError: the name leads out of the folder, or fits several photographs.
        """
        given, name = name, _plain(name)
        if posixpath.isabs(name):
            name = posixpath.normpath(os.path.relpath(name, self.path))
        is_foreign = _is_foreign(name)
        if not is_foreign and (found := self._find(name, near)):
            return found
        parts = [part for part in name.split("/") if part not in ("", "..")]
        for start in range(0 if is_foreign else 1, len(parts)):
            end = "/".join(parts[start:])
            # A relative name with a folder means that folder, where photographs lie in folders: the
            # same name in another is another picture.
            if not is_foreign and "/" not in end and self._has_folders:
                continue
            if found := self._find(end, "", outside=False):
                return Found(found.path, f"foreign path: {given}, taken for {found.path}")
        if is_foreign:
            raise ValueError(f"leaves --image_dir: {given}, and none in it is called so")
        return None

    def _find(self, name: str, near: str, outside: bool = True) -> Found | None:
        wanted = []
        for path in self._meanings(name, near, outside):
            if self.is_file(path):
                return Found(path)
            wanted.append(path)
        base = posixpath.basename(name)
        alike = self._named(base) or self._named(_stem(base))
        for folder in map(posixpath.dirname, wanted):
            if found := [p for p in alike if _form(posixpath.dirname(p)) == _form(folder)]:
                break
        else:
            found = [] if "/" in name else _nearest(alike, near)
        if len(found) > 1:
            raise ValueError(f"ambiguous name: {name} may be {found[0]} or {found[1]}")
        if not found:
            return None
        if _form(_stem(found[0])) not in (_form(base), _form(_stem(base))):
            return Found(found[0], f"name in another case: {name}, {found[0]}")
        stated, own = (posixpath.splitext(path)[1] for path in (base, found[0]))
        if stated in ("", own) or _form(_stem(found[0])) == _form(base):
            return Found(found[0])
        what = "case" if stated.lower() == own.lower() else "format"
        return Found(found[0], f"name in another {what}: {name}, {found[0]}")

    def _named(self, stem: str) -> list[str]:
        """The photographs of a name without folder and extension; else those in another case."""
        alike = self._by_stem.get(_key(stem))
        return [path for path in alike if _form(_stem(path)) == _form(stem)] or alike

    def read(self, path: str) -> bytes:
        """The bytes of a photograph.

        Raises:
          ValueError: it is missing, not a plain file, too large, cannot be read, or a symbolic link
            leads out of the folder.
          Unreadable: the disk or the connection failed, which says nothing of the photograph.
        """
        full_path = os.path.join(self.path, path)
        try:
            with files.readable(full_path):
                return self._bytes_of(full_path)
        except FileNotFoundError as error:
            raise ValueError(MISSING) from error
        except Unreadable:
            raise
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from error

    def _bytes_of(self, path: str) -> bytes:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            path = os.path.realpath(path)
            status = os.stat(path)
        if not self._contains(os.path.dirname(path)):
            raise ValueError("leaves --image_dir: through a symbolic link")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ValueError("not a file")
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"file too large: {status.st_size} bytes")
        with open(path, "rb") as file:
            return file.read()

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in a folder of this one, sorted; raises OSError."""
        folders, names = [], []
        place = os.path.join(self.path, folder)
        with files.readable(place), os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    names.append(entry.name)
        return sorted(folders), sorted(names)

    def is_file(self, path: str) -> bool:
        """Whether there is such a file; raises Unreadable where nobody can tell."""
        return files.is_file(os.path.join(self.path, path))

    def photographs(self, within: str = "") -> Iterator[str]:
        """Yields each file in a folder of this one that may be a photograph, in order."""
        top = os.path.join(self.path, within)
        for path in walk(top, _may_be_photograph):
            yield posixpath.join(within, path)

    def version(self, path: str) -> tuple[int, int] | None:
        """Size and time of the last change of a photograph, in ns; None where there is none."""
        status = files.status(os.path.join(self.path, path))
        return (status.st_size, status.st_mtime_ns) if status else None

    def _contains(self, folder: str) -> bool:
        """Tells whether a folder lies in this one when all symbolic links are followed."""
        if folder not in self._known_folders:
            real_path = os.path.realpath(folder)
            within = os.path.commonpath((self._real_path, real_path)) == self._real_path
            self._known_folders[folder] = within
        return self._known_folders[folder]

    def _meanings(self, name: str, near: str, outside: bool) -> Iterator[str]:
        """The paths in this folder that a name may stand for, the likeliest first."""
        if near:
            yield posixpath.join(near, name)
        yield name
        if not outside:
            return
        # It may have been written from the folder above, or from the working folder.
        for start in (os.path.dirname(os.path.abspath(self.path)), "."):
            path = os.path.relpath(os.path.join(start, name), self.path)
            if not path.startswith(".."):
                yield path.replace(os.sep, "/")

    @functools.cached_property
    def _has_folders(self) -> bool:
        return not all(map(is_clutter, self.entries("")[0]))

    @functools.cached_property
    def _by_stem(self) -> DiskTable:
        """All photographs by their name without folder and extension."""
        found = DiskTable()
        for path in self.photographs():
            found.add(_key(_stem(path)), path)
        return found


def _may_be_photograph(suffix: str) -> bool:
    return suffix not in _OTHER_SUFFIXES


def is_photograph(name: str) -> bool:
    """Whether a file may be a photograph, by its name."""
    return not is_clutter(name) and _may_be_photograph(posixpath.splitext(name)[1].lower())


def walk(top: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yields the path in a folder of each file with a wanted suffix, with `/`, in order.

    Folders that are symbolic links are not entered; they are yielded, to be refused by name.

    Raises:
      OSError: a folder cannot be listed.
    """
    for folder, folders, names in os.walk(top, onerror=_raise):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        within = os.path.relpath(folder, top).replace(os.sep, "/")
        for name in sorted(names + links):
            if not is_clutter(name) and wanted(posixpath.splitext(name)[1].lower()):
                yield posixpath.normpath(posixpath.join(within, name))


def _raise(error: OSError) -> None:
    with files.readable(error.filename):
        raise error


def is_clutter(name: str) -> bool:
    """Tells names that desktops and archivers leave behind, and hidden ones."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")


def _stem(path: str) -> str:
    """The name without folder and extension."""
    return posixpath.splitext(posixpath.basename(path))[0]


def _key(stem: str) -> bytes:
    return _form(stem).casefold().encode(errors="surrogateescape")


def _form(name: str) -> str:
    """A name with its accents in the one form that names are compared in."""
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    """A name with `/` and no detours."""
    if "\0" in name:
        raise ValueError("leaves --image_dir: its name holds a null character")
    # Tables made on Windows; a backslash in a POSIX file name is rarer than such tables.
    return posixpath.normpath(name.strip().replace("\\", "/"))


def _nearest(paths: list[str], near: str) -> list[str]:
    """The paths that share the longest beginning with a folder, such as that of a split."""
    while near:
        if within := [path for path in paths if path.startswith(f"{near}/")]:
            return within
        near = posixpath.dirname(near)
    return paths


def _is_foreign(name: str) -> bool:
    """Whether a plain relative name leads out of the folder, by `..`, a drive or an address."""
    return name.split("/")[0] == ".." or bool(re.match(r"[A-Za-z]:/|[a-z]\w+:/", name))
