"""Files in folders of this machine and in buckets (gs://, s3://, …), without TensorFlow.

A bucket is reached through fsspec, which has a package for each kind: gcsfs, s3fs, adlfs, … What
is said of a path here holds for the URL of a bucket too.
"""

import contextlib
import datetime
import os
import re
import shutil
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from foundation.errors import InputError, missing_extra

_THREADS = 32  # that wait for the answers of a bucket
# Whoever stands in between may change what is read. A reference leads wherever its file says.
_UNPROTECTED = {"http", "ftp", "webhdfs", "reference"}
_NOT_THERE = (404, 410)  # of HTTP's answers


def is_url(path: str) -> bool:
    return "://" in path


def join(folder: str, *names: str) -> str:
    """The path of a file in a folder."""
    if is_url(folder):
        return "/".join((folder.rstrip("/"), *names))
    return os.path.join(folder, *names)


def check(path: str, option: str) -> None:
    """Raises InputError where a path is the URL of what may not or can't be reached."""
    if is_url(path) and _UNPROTECTED & _kinds(path):
        raise InputError(
            "nothing protects what comes from there.",
            option=option,
            value=path,
            remedy="Use https:// or a bucket.",
        )
    if is_url(path):
        try:
            _bucket(path)
        except (ImportError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{error}.", option=option, value=path) from error


def open_file(path: str) -> BinaryIO:
    """A file to be read; raises FileNotFoundError and other kinds of OSError.

    Raises:
      InputError: the server of an https:// leads elsewhere.
    """
    if not is_url(path):
        return open(path, "rb")
    bucket, place = _bucket(path)
    try:
        return bucket.open(place, "rb")
    except FileNotFoundError as error:  # over HTTPS whatever goes wrong
        cause = error.__cause__
        if isinstance(cause, InputError | OSError):
            raise cause from None
        if getattr(cause, "status", _NOT_THERE[0]) not in _NOT_THERE:
            raise OSError(str(cause)) from error
        raise


@contextlib.contextmanager
def whole(path: str) -> Iterator[BinaryIO]:
    """Opens a file that is there when the block ends without an error, and not before.

    Several processes may write one at the same time; the last one's stays. Folders are made.
    """
    bucket, place = _bucket(path) if is_url(path) else (None, path)
    if bucket:
        file = bucket.open(place, "wb", autocommit=False)
        try:
            with file:
                yield file
        except BaseException:
            with contextlib.suppress(Exception):
                file.discard()
            raise
        file.commit()
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise


def check_folder(url: str, option: str) -> None:
    """Raises InputError where there is no such folder in a bucket, or nobody answers there."""
    bucket, place = _bucket(url)
    try:
        if bucket.exists(place):
            return
    except InputError as error:
        raise InputError(error.problem, option=option, value=url) from None
    problem = "there is no such folder."
    try:
        bucket.info(place)  # says why, which `exists` does not
    except OSError as error:
        if error.__cause__ and not hasattr(error.__cause__, "status"):  # that of an answer
            problem = f"it can't be reached: {error.__cause__}."
    raise InputError(problem, option=option, value=url)


def names(folder: str) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder."""
    if not is_url(folder):
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    bucket, place = _bucket(folder)
    try:
        found = bucket.ls(place, detail=False, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted({path.rstrip("/").rsplit("/", 1)[-1] for path in found})


def entries(folder: str) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """What is in a folder of a bucket; raises FileNotFoundError.

    Returns:
      The names of its folders, sorted; bytes and time of change in ns of its files by name, 0 where
      they are not told, as over HTTPS.
    """
    bucket, place = _bucket(folder)
    folders, files, is_web = [], {}, "https" in _kinds(folder)
    for entry in bucket.ls(place, detail=True):
        name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        name = _unescaped(name) if is_web else name
        if entry["type"] == "directory":
            folders.append(name)
        elif entry["name"].rstrip("/") != place.rstrip("/"):  # a folder's own mark
            changed = entry.get("mtime") or entry.get("LastModified") or entry.get("created") or 0
            changed = changed.timestamp() if isinstance(changed, datetime.datetime) else changed
            seconds = float(changed) if isinstance(changed, int | float) else 0.0
            files[name] = int(entry["size"] or 0), int(seconds * 1e9)
    return sorted(folders), files


def size(path: str) -> int | None:
    """Bytes of a file; None where there is none."""
    if not is_url(path):
        return os.path.getsize(path) if os.path.isfile(path) else None
    bucket, place = _bucket(path)
    try:
        return bucket.size(place) if bucket.isfile(place) else None
    except FileNotFoundError:
        return None


def remove(paths: Iterable[str]) -> None:
    """Removes files, of which some may be gone already."""

    def one(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if is_url(path):
                bucket, place = _bucket(path)
                bucket.rm_file(place)
            else:
                os.remove(path)

    _each(one, paths)


def remove_folder(folder: str) -> None:
    """Removes a folder and what is in it, as far as that can be done."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    bucket, place = _bucket(folder)
    with contextlib.suppress(OSError):
        bucket.rm(place, recursive=True)


def move(pairs: Iterable[tuple[str, str]]) -> None:
    """Moves files, each from one path to another, which may be there: from this machine or not."""

    def one(pair: tuple[str, str]) -> None:
        source, target = pair
        if not is_url(target):
            os.replace(source, target)
            return
        bucket, place = _bucket(target)
        if is_url(source):
            bucket.mv(_bucket(source)[1], place)
        else:
            bucket.put_file(source, place)

    _each(one, pairs)


def _each(act, items: Iterable) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(act, items):
            pass


def _bucket(url: str):
    """fsspec's file system of a URL, and the path there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise missing_extra("beam", f"fsspec, which reaches {url},") from error
    options = {}
    if url.startswith("file:"):  # buckets have no folders to be made before a file in them
        options["auto_mkdir"] = True
    if "https" in _kinds(url):
        options["https"] = {"client_kwargs": {"middlewares": (_stay_with_https,)}}
    return url_to_fs(url, **options)


def _kinds(url: str) -> set[str]:
    """What a URL says of how it is reached; several where one lies in another (simplecache::…)."""
    return set(re.findall(r"\w+(?=::|://)", url.lower()))


def _unescaped(name: str) -> str:
    """A name of a web page, which says a%20b for "a b"; not where a URL would take it otherwise."""
    plain = urllib.parse.unquote(name)
    # What is not UTF-8 has a sign in its place, the last of these.
    otherwise = plain in (".", "..") or set(plain) & set("%#?/\N{REPLACEMENT CHARACTER}")
    return name if otherwise else plain


async def _stay_with_https(request, handler):
    """aiohttp asks this before each request, those after a redirection too."""
    if request.url.scheme != "https":
        raise InputError(f"a server leads out of HTTPS, to {request.url}.")
    return await handler(request)
