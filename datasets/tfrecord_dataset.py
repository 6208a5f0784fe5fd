"""Finds the TFRecord files of a split, its class names and its counts: ours and TF-Slim's own.

No manifest is needed. What dataset.json does not say is read from the files once, and kept in a
small file beside them where that can be written.
"""

import contextlib
import dataclasses
import glob
import gzip
import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from datasets import csv_table, schema

_SYNONYMS = (("train", "training"), ("validation", "valid", "val"), ("test", "testing"))
# flowers_train_00000-of-00005.tfrecord, cifar10_train.tfrecord, train-00000-of-01024,
# animals_train-00000-of-00004.tfrecord, stanford_dogs-train.tfrecord-00000-of-00004
_FILE_NAME = re.compile(
    r"(?P<stem>.+?)(?P<kind>\.tfrecords?)?(?:[-_](?P<shard>\d+)-of-(?P<shards>\d+))?"
    r"(?P<kind_last>\.tfrecords?)?(?:\.gz)?"
)
_STEM = re.compile(r"(?:(?P<name>.+)[-_])?(?P<split>[^-_]+)")
_SCAN_FILE = ".record_counts.json"
_LABELS_FILE = ".record_labels.json"
_READ_BUFFER_BYTES = 2**20
_HEADER_BYTES = 12  # length of the record, checksum of the length
_FOOTER_BYTES = 4  # checksum of the record
_GZIP_MAGIC = b"\x1f\x8b\x08"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a dataset.

    Attributes:
      name: what the names of its files begin with; "" where they begin with the split.
      split: as the files call it.
      files: the TFRecord files, in the order of their numbers.
      file_counts: the number of examples in each file.
      num_bytes: of all files together.
      labels: class names in the order of their numbers, after `labels_offset`.
      labels_offset: what is subtracted from every record's label.
      compression: "" or "GZIP".
      fingerprint: changes when a record does.
      damage: one line for each file whose records cannot all be told apart: it is cut off, or a
        length in it is wrong.
    """

    name: str
    split: str
    files: tuple[str, ...]
    file_counts: tuple[int, ...]
    num_bytes: int
    labels: tuple[str, ...]
    labels_offset: int
    compression: str
    fingerprint: str
    damage: tuple[str, ...] = ()

    @property
    def num_examples(self) -> int:
        return sum(self.file_counts)

    @property
    def num_classes(self) -> int:
        return len(self.labels)


def find(
    dataset_dir: str | None = None,
    dataset_name: str | None = None,
    split: str = "train",
    tfrecord_file: str | None = None,
    path_to_csv: str | None = None,
    labels_offset: int = 0,
) -> Dataset:
    """Finds a split in a folder, or takes the files that are named.

    Args:
      dataset_dir: folder with the files, and labels.txt and dataset.json where there are such.
      dataset_name: needed only where the folder holds several datasets.
      split: train, validation (also valid, val), test, or any other that files are named by.
      tfrecord_file: a file, a comma-separated list of files, or a glob, in place of a folder.
      path_to_csv: a table whose label column gives the class names, sorted, where labels.txt,
        dataset.json and the records themselves say none; else it is only checked against them.
      labels_offset: subtracted from every label; as many names are dropped from the front.

    Raises:
      ValueError: no or several datasets, no such split, shards missing, no records, no classes
        left, class names that contradict each other; one line with what there is instead.
    """
    if tfrecord_file:
        if dataset_dir:
            raise ValueError("Give --dataset_dir or --tfrecord_file, not both.")
        found = _Found.from_list(tfrecord_file, dataset_name or "", split)
    elif dataset_dir:
        found = _Found.in_folder(dataset_dir, dataset_name, split)
    else:
        raise ValueError("Give --dataset_dir with the folder of a dataset, or --tfrecord_file.")
    compression = "GZIP" if _is_gzip(found.files[0]) else ""
    contents = _contents(found.files, compression)
    damage = tuple(file.damage for file in contents if file.damage)
    if not any(file.count for file in contents):
        if damage:
            raise ValueError(f"{damage[0]}.")
        raise ValueError(f"{found.files[0]}: the {found.split} split holds no records.")
    labels = _labels(found, compression, path_to_csv)
    if labels_offset >= len(labels):
        raise ValueError(
            f"--labels_offset={labels_offset} leaves none of the {len(labels)} classes."
        )
    digest = hashlib.sha256("".join(file.fingerprint for file in contents).encode())
    return Dataset(
        name=found.name,
        split=found.split,
        files=found.files,
        file_counts=tuple(file.count for file in contents),
        num_bytes=sum(file.size for file in contents),
        labels=labels[labels_offset:],
        labels_offset=labels_offset,
        compression=compression,
        fingerprint=digest.hexdigest(),
        damage=damage,
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """The files of a split; `relatives` are those of the other splits too."""

    name: str
    split: str
    files: tuple[str, ...]
    relatives: tuple[str, ...]

    @classmethod
    def in_folder(cls, folder: str, name: str | None, split: str) -> "_Found":
        parsed = [_parse(folder, base) for base in sorted(_list(folder))]
        parsed = [file for file in parsed if file]
        if not parsed:
            raise ValueError(
                f"--dataset_dir={folder} has no TFRecord files "
                "(such as NAME_train-00000-of-00004.tfrecord); convert_data.py writes them."
            )
        names = sorted({file.name for file in parsed})
        if name is None:
            if len(names) > 1:
                raise ValueError(
                    f"--dataset_dir={folder} holds several datasets; choose one with "
                    f"--dataset_name: {', '.join(names)}."
                )
            name = names[0]
        elif name not in names:
            # ImageNet's files as TF-Slim writes them carry no name.
            if names != [""]:
                raise ValueError(
                    f"--dataset_name={name}: {folder} has no such dataset, but "
                    f"{', '.join(filter(None, names)) or 'files without a name'}."
                )
            name = ""
        relatives = [file for file in parsed if file.name == name]
        files = [file for file in relatives if file.split in _synonyms(split)]
        if not files:
            splits = sorted({file.split for file in relatives})
            raise ValueError(
                f"--dataset_split_name={split}: {folder} has no such split, but "
                f"{', '.join(splits)}."
            )
        _check_shards(files, split)
        files.sort(key=lambda file: file.shard or 0)
        return cls(
            name,
            files[0].split,
            tuple(file.path for file in files),
            tuple(file.path for file in relatives),
        )

    @classmethod
    def from_list(cls, patterns: str, name: str, split: str) -> "_Found":
        files = []
        for pattern in filter(None, (part.strip() for part in patterns.split(","))):
            matches = sorted(_glob(pattern))
            if not matches:
                raise ValueError(f"--tfrecord_file={pattern}: there is no such file.")
            files += [path for path in matches if path not in files]
        if not files:
            raise ValueError("--tfrecord_file is empty.")
        return cls(name, split, tuple(files), tuple(files))


@dataclasses.dataclass(frozen=True)
class _File:
    path: str
    name: str
    split: str
    shard: int | None
    shards: int | None


def _parse(folder: str, base: str) -> _File | None:
    """What a file's name says; None for one that does not look like a TFRecord file."""
    match = _FILE_NAME.fullmatch(base)
    if not match or not (match["kind"] or match["kind_last"] or match["shard"]):
        return None
    stem = _STEM.fullmatch(match["stem"])
    if not stem:
        return None
    shard, shards = (None if match[key] is None else int(match[key]) for key in ("shard", "shards"))
    return _File(os.path.join(folder, base), stem["name"] or "", stem["split"], shard, shards)


def _synonyms(split: str) -> tuple[str, ...]:
    return next((group for group in _SYNONYMS if split in group), (split,))


def _check_shards(files: Sequence[_File], split: str) -> None:
    """Refuses a split of which shards are missing, or that is there twice."""
    if len({(file.split, file.shards) for file in files}) > 1:
        names = ", ".join(sorted(os.path.basename(file.path) for file in files)[:4])
        raise ValueError(
            f"The {split} split is there more than once ({names}, …). Remove the files that are "
            "out of date, or name the right ones with --tfrecord_file."
        )
    if shards := files[0].shards:
        if missing := sorted(set(range(shards)) - {file.shard for file in files}):
            raise ValueError(
                f"{files[0].path}: {len(missing)} of its {shards} shards are missing, number "
                f"{missing[0]} for one. Name those to use with --tfrecord_file."
            )


# Counts


@dataclasses.dataclass(frozen=True)
class _Contents:
    """What a file holds, as one walk through its record headers tells, or dataset.json."""

    size: int
    mtime: float
    count: int
    fingerprint: str
    damage: str = ""


def _contents(files: Sequence[str], compression: str) -> list[_Contents]:
    """Looks into dataset.json, then for an earlier scan of the same bytes, then into the files."""
    found, folders = [], {}
    for path in files:
        folder, base = os.path.split(path)
        if folder not in folders:
            stated = _stated(os.path.join(folder, "dataset.json"))
            folders[folder] = stated, _read_json(os.path.join(folder, _SCAN_FILE)), set()
        stated, scanned, news = folders[folder]
        stated = _stated(f"{path}.dataset.json") or stated
        size, mtime = _size_and_mtime(path)
        shard = stated.get(base, {})
        if shard.get("bytes") == size and {"num_examples", "fingerprint"} <= shard.keys():
            found.append(_Contents(size, mtime, shard["num_examples"], shard["fingerprint"]))
        elif known := _remembered(scanned.get(base), size, mtime):
            found.append(known)
        else:
            found.append(_Contents(size, mtime, *_scan(path, compression)))
            scanned[base] = dataclasses.asdict(found[-1])
            news.add(base)
    for folder, (_, scanned, news) in folders.items():
        if news:
            _write_json(os.path.join(folder, _SCAN_FILE), scanned)
    return found


def _remembered(scan: object, size: int, mtime: float) -> _Contents | None:
    """What an earlier scan found, if it was of the same bytes and can be understood."""
    try:
        known = _Contents(**scan)
    except TypeError:
        return None
    return known if (known.size, known.mtime) == (size, mtime) else None


def _stated(path: str) -> dict[str, dict]:
    """The shards that a dataset.json of ours describes, by their names; {} without one."""
    try:
        parts = _read_json(path)["splits"].values()
        shards = {shard["file"]: shard for part in parts for shard in part["shards"]}
    except (KeyError, TypeError, AttributeError):
        return {}
    needed = {"num_examples", "bytes", "fingerprint"}
    return {name: shard for name, shard in shards.items() if needed <= shard.keys()}


def _scan(path: str, compression: str) -> tuple[int, str, str]:
    """Counts the records of a file without reading what is in them."""
    digest, count = hashlib.sha256(), 0
    try:
        for header, _, footer in frames(path, compression, contents=False):
            digest.update(header + footer)
            count += 1
    except BrokenFrame as error:
        return count, digest.hexdigest(), f"{path}: record {count}: {error}"
    return count, digest.hexdigest(), ""


class BrokenFrame(Exception):
    """The record at hand has no end, so those after it cannot be found."""


def frames(path: str, compression: str, contents: bool = True) -> Iterator[tuple[bytes, ...]]:
    """Walks through the records of a TFRecord file.

    Yields:
      Header (length and its checksum), record and footer (its checksum) as they stand in the file;
      the record is empty without `contents`. Its checksum is not compared.

    Raises:
      BrokenFrame: the file ends within a record, or a length is wrong.
    """
    size, _ = _size_and_mtime(path)
    with _open(path) as raw:
        file = gzip.open(raw) if compression else raw
        end = 0
        try:
            while header := file.read(_HEADER_BYTES):
                if len(header) < _HEADER_BYTES:
                    raise BrokenFrame("the file is cut off")
                if schema.masked_crc(header[:8]) != header[8:]:
                    raise BrokenFrame(
                        "its length is corrupt" if end else "this is not a TFRecord file"
                    )
                length = struct.unpack("<Q", header[:8])[0]
                end += _HEADER_BYTES + length + _FOOTER_BYTES
                if not compression and end > size:
                    raise BrokenFrame("the file is cut off")
                record = file.read(length) if contents else b""
                if not contents:
                    file.seek(end - _FOOTER_BYTES)
                footer = file.read(_FOOTER_BYTES)
                if len(footer) < _FOOTER_BYTES:
                    raise BrokenFrame("the file is cut off")
                yield header, record, footer
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BrokenFrame(f"the compressed file is cut off or corrupt ({error})") from error


def _is_gzip(path: str) -> bool:
    with _open(path) as file:
        header = file.read(_HEADER_BYTES)
    # A record of a certain length begins with the same bytes; only its checksum tells.
    plain = len(header) == _HEADER_BYTES and schema.masked_crc(header[:8]) == header[8:]
    return header.startswith(_GZIP_MAGIC) and not plain


# Class names


def _labels(found: _Found, compression: str, path_to_csv: str | None) -> tuple[str, ...]:
    """Class names by the files beside the records, else by the records, else by the table."""
    if path_to_csv and not os.path.exists(path_to_csv):
        raise ValueError(f"--path_to_csv={path_to_csv}: there is no such file.")
    table = csv_table.labels(path_to_csv) if path_to_csv else ()
    labels = _labels_beside(found.files)
    given = set(labels)
    if not labels:
        names = _names_of_records(found.relatives, compression)
        given = set(names.values()) - {""}
        if table and not given:
            return table
        labels = _in_order(names)
    # Each may lack classes of which the other has examples; but then the rest must agree.
    if (unknown := sorted(set(table) - given)) and (missing := sorted(given - set(table))):
        raise ValueError(
            f"--path_to_csv={path_to_csv} has the class {unknown[0]!r} and not {missing[0]!r}, "
            f"{found.files[0]} the other way round. Leave the flag out, or give the right table."
        )
    return labels


def _labels_beside(files: Sequence[str]) -> tuple[str, ...]:
    """Class names as labels.txt or dataset.json say; () where no file has any beside it.

    Raises:
      ValueError: the names of two files differ, or only one of them has any.
    """
    first, cache = files[0], {}
    labels = _labels_of_file(first, cache)
    for path in files[1:]:
        if _labels_of_file(path, cache) != labels:
            raise ValueError(
                f"{first} and {path} have different class names or orders of them, by their "
                "labels.txt or dataset.json. Convert them with the same --classes."
            )
    return labels


def _labels_of_file(path: str, cache: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names for one file; `cache` holds those for all files of a folder."""
    folder = os.path.dirname(path)
    if folder not in cache:
        cache[folder] = _stated_labels(os.path.join(folder, ""))
    return _stated_labels(f"{path}.") or cache[folder]


def _stated_labels(start: str) -> tuple[str, ...]:
    """What the labels.txt, else the dataset.json whose paths begin so say; () without them."""
    if _exists(f"{start}labels.txt"):
        return read_labels(f"{start}labels.txt")
    return tuple(_read_json(f"{start}dataset.json").get("classes", ()))


def read_labels(path: str) -> tuple[str, ...]:
    """Reads class names, one a line, as `name` or as TF-Slim's `0:name`.

    Raises:
      ValueError: the numbers are not 0, 1, 2, …, each once.
    """
    with _open(path) as file:
        lines = file.read().decode("utf-8-sig").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    numbered = [re.fullmatch(r"(\d+):(.*)", line) for line in lines]
    if not all(numbered):
        return tuple(lines)
    names = {int(match[1]): match[2].strip() for match in numbered}
    if sorted(names) != list(range(len(lines))):
        raise ValueError(f"{path}: the numbers before the names must be 0 to {len(lines) - 1}.")
    return tuple(names[i] for i in range(len(lines)))


def _in_order(names: dict[int, str]) -> tuple[str, ...]:
    """Names by number as a list; the number where there is none; without a 0, the background."""
    labels = [names.get(i) or str(i) for i in range(max(names) + 1)]
    if 0 not in names:
        labels[0] = "background"
    return tuple(labels)


def _names_of_records(files: Sequence[str], compression: str) -> dict[int, str]:
    """Class names by number as the records give them, "" where they give none.

    All records are read for it once; the names are kept beside the files.
    """
    states = [(os.path.basename(path), *_size_and_mtime(path)) for path in files]
    state = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    memory = os.path.join(os.path.dirname(files[0]), _LABELS_FILE)
    known = _read_json(memory)
    if known.get("files") == state:
        with contextlib.suppress(KeyError, ValueError, AttributeError):  # else it is not ours
            return {int(number): name for number, name in known["names"].items()}
    names = _names_in(files, compression)
    if not names or min(names) < 0:
        raise ValueError(f"{files[0]}: no class numbers from 0 can be read from its records.")
    _write_json(memory, {"files": state, "names": names})
    return names


def _names_in(files: Sequence[str], compression: str) -> dict[int, str]:
    """Class names by number, empty where no record gives one.

    Raises:
      ValueError: records give a number two names.
    """
    import tensorflow as tf

    def label_and_text(record):
        example = schema.parse_example(record)
        return example["label"], example["text"]

    ds = tf.data.TFRecordDataset(list(files), compression, buffer_size=_READ_BUFFER_BYTES)
    ds = ds.map(label_and_text, num_parallel_calls=4)
    # A record that cannot be read is reported where it matters, in training or evaluation.
    ds = ds.ignore_errors().batch(256)
    names = {}
    for labels, texts in ds.as_numpy_iterator():
        for number, text in zip(labels.tolist(), texts.tolist(), strict=True):
            name = text.decode(errors="replace")
            known = names.setdefault(number, name) or name
            if name and name != known:
                raise ValueError(
                    f"{', '.join(files[:2])}{', …' if len(files) > 2 else ''}: class {number} is "
                    f"{known!r} in some records and {name!r} in others. If they belong together, "
                    "write the names into labels.txt."
                )
            names[number] = known
    return names


# Files, here or anywhere TensorFlow can open them


def _is_remote(path: str) -> bool:
    return "://" in path


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


def _list(folder: str) -> list[str]:
    if _is_remote(folder):
        return [name.rstrip("/") for name in _gfile().listdir(folder)]
    if not os.path.isdir(folder):
        raise ValueError(f"--dataset_dir={folder}: there is no such folder.")
    return os.listdir(folder)


def _glob(pattern: str) -> list[str]:
    if _is_remote(pattern):
        return _gfile().glob(pattern)
    return [pattern] if os.path.exists(pattern) else glob.glob(pattern)


def _exists(path: str) -> bool:
    return _gfile().exists(path) if _is_remote(path) else os.path.exists(path)


def _open(path: str) -> BinaryIO:
    return _gfile().GFile(path, "rb") if _is_remote(path) else open(path, "rb")


def _size_and_mtime(path: str) -> tuple[int, float]:
    if _is_remote(path):
        stat = _gfile().stat(path)
        return stat.length, stat.mtime_nsec / 1e9
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime


def _read_json(path: str) -> dict:
    try:
        with _open(path) as file:
            content = json.loads(file.read())
    except Exception:  # absent, not ours to read, or damaged: then the files are scanned
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: str, content: dict) -> None:
    """Writes a file that is a convenience only: where it cannot be written, it is not."""
    if _is_remote(path):
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(temporary)
