"""Finds the TFRecord files of a split and counts their records: ours and TF-Slim's own.

No manifest is needed. What dataset.json does not say is read from the files once, and kept in a
small file in their folder where that can be written.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Sequence

from datasets import class_names, schema, splits, storage, turned
from datasets.frames import MARKED, BrokenFrame, compression_of, frames, length_of
from foundation.errors import InputError

# flowers_train_00000-of-00005.tfrecord, cifar10_train.tfrecord, train-00000-of-01024,
# animals_train-00000-of-00004.tfrecord, stanford_dogs-train.tfrecord-00000-of-00004,
# pets_train.record, coco_val.record-00000-of-00010
_FILE_NAME = re.compile(
    r"(?P<stem>.+?)(?P<kind>\.(?:tf)?records?)?(?:[-_](?P<shard>\d+)-of-(?P<shards>\d+))?"
    r"(?P<kind_last>\.(?:tf)?records?)?(?:\.gz)?"
)
_STEM = re.compile(r"(?:(?P<name>.+)[-_])?(?P<split>[^-_]+)")
_SCAN_FILE = ".record_counts.json"


@dataclasses.dataclass(frozen=True)
class Seen:
    """A file as it was found: what `storage.identity` and the checksums of its records said."""

    path: str
    identity: tuple[int, int, int] | None
    fingerprint: str


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
      damage: one line for each file whose records cannot all be separated: it is cut off, or a
        length in it is wrong.
      sources: the files as they were found, where `files` are copies without bad records.
      remarks: what is to be said of the dataset, a line each.
      marks: of each file the bytes at which every `frames.MARKED`-th record begins, as far as that
        is known.
      seen: the files as they were found, for `replaced`.
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
    sources: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    marks: tuple[tuple[int, ...], ...] = ()
    seen: tuple[Seen, ...] = ()

    def __post_init__(self):
        if not self.marks:
            object.__setattr__(self, "marks", ((),) * len(self.files))
        if not self.sources:
            object.__setattr__(self, "sources", self.files)

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
      InputError: no or several datasets, no such split, shards missing, no records, no classes
        left, class names that contradict each other; one line with what there is instead.
    """
    found = _located(dataset_dir, dataset_name, split, tfrecord_file)
    compression = compression_of(found.files[0])
    identities = [storage.identity(path) for path in found.files]
    contents, unlike = _contents(found.files, compression)
    damage = tuple(file.damage for file in contents if file.damage)
    if not any(file.count for file in contents):
        empty = f"{found.files[0]}: the {found.split} split holds no records"
        raise InputError(f"{damage[0] if damage else empty}.")
    _check_kind(found.files, compression)
    named = class_names.find(found.files, found.relatives, path_to_csv)
    labels = named.names
    if labels_offset >= len(labels):
        raise InputError(
            f"it leaves none of the {len(labels)} classes.",
            option="labels_offset",
            value=labels_offset,
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
        remarks=tuple(filter(None, (named.remark, turned.remark(found.files), unlike))),
        marks=tuple(_marks(file.marks) for file in contents),
        seen=tuple(
            Seen(path, identity, file.fingerprint)
            for path, identity, file in zip(found.files, identities, contents, strict=True)
        ),
    )


def change(dataset: Dataset) -> str:
    """Names the first file that is gone, or has more or fewer records than it had; "" if none."""
    for path, before in zip(dataset.files, dataset.file_counts, strict=True):
        try:
            now, *_ = _scan(path, dataset.compression)
        except FileNotFoundError:
            return f"{path} is gone"
        if now != before:
            return f"{path} has {now} records, not {before}"
    return ""


def replaced(dataset: Dataset) -> str:
    """Names the first file that is gone, or has other records than when it was found; "" if none.

    It looks at sizes and times, and reads a file only where these differ. Files in buckets are not
    looked at.
    """
    for file in dataset.seen:
        try:
            now = storage.identity(file.path)
            if now != file.identity:
                if _fingerprint(file.path, dataset.compression, now) != file.fingerprint:
                    return f"{file.path} has other records than it had"
        except FileNotFoundError:
            return f"{file.path} is gone"
        except InputError as error:
            return str(error).rstrip(".")
    return ""


@functools.lru_cache(maxsize=2**16)
def _fingerprint(path: str, compression: str, identity: tuple[int, int, int]) -> str:
    """That of the records which a file of that identity holds; it is read once."""
    return _scan(path, compression)[1]


def _check_kind(files: Sequence[str], compression: str) -> None:
    """Raises InputError for records of object detection, by the first one."""
    for path in files:
        with contextlib.suppress(BrokenFrame):
            for _, record, _ in frames(path, compression):
                if schema.is_for_detection(record):
                    raise InputError(
                        f"{path}: its records are for object detection: they label the objects in "
                        "an image (image/object/class/label), and not the image.",
                        remedy="Convert their photographs and annotations: python convert_data.py "
                        "--image_dir=IMAGES --annotations_dir=ANNOTATIONS --output_dir=DATASET.",
                    )
                return


def files_in(folder: str) -> list[str]:
    """The names of the TFRecord files in a folder, by their names and first bytes."""

    def is_one(name: str) -> bool:
        path = os.path.join(folder, name)
        with contextlib.suppress(BrokenFrame, OSError):
            return next(frames(path, compression_of(path), contents=False), None) is not None
        return False

    return [name for name in sorted(os.listdir(folder)) if _parse(folder, name) and is_one(name)]


def check_files(
    dataset_dir: str | None = None,
    dataset_name: str | None = None,
    split: str = "train",
    tfrecord_file: str | None = None,
) -> None:
    """Raises InputError where `find` finds no files; it does not read them and is quick."""
    _located(dataset_dir, dataset_name, split, tfrecord_file)


@dataclasses.dataclass(frozen=True)
class _Found:
    """The files of a split; `relatives` are those of the other splits too."""

    name: str
    split: str
    files: tuple[str, ...]
    relatives: tuple[str, ...]

    @classmethod
    def in_folder(cls, folder: str, name: str | None, split: str) -> "_Found":
        names = sorted(storage.list_folder(folder))
        _check_published(folder, names)
        parsed = [file for file in (_parse(folder, base) for base in names) if file]
        if not parsed:
            raise InputError(
                "it has no TFRecord files (such as NAME_train-00000-of-00004.tfrecord); "
                "convert_data.py writes them.",
                option="dataset_dir",
                value=folder,
            )
        names = sorted({file.name for file in parsed})
        if name is None:
            if len(names) > 1:
                raise InputError(
                    "it holds several datasets; choose one with --dataset_name: "
                    f"{', '.join(names)}.",
                    option="dataset_dir",
                    value=folder,
                )
            name = names[0]
        elif name not in names:
            # ImageNet's files as TF-Slim writes them carry no name.
            if names != [""]:
                raise InputError(
                    f"{folder} has no such dataset, but "
                    f"{', '.join(filter(None, names)) or 'files without a name'}.",
                    option="dataset_name",
                    value=name,
                )
            name = ""
        relatives = [file for file in parsed if file.name == name]
        files = [file for file in relatives if file.split in _synonyms(split)]
        if not files:
            others = sorted({file.split for file in relatives})
            raise InputError(
                f"{folder} has no such split, but {', '.join(others)}.",
                option="dataset_split_name",
                value=split,
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
            matches = sorted(storage.find(pattern))
            if not matches:
                raise InputError("there is no such file.", option="tfrecord_file", value=pattern)
            files += [path for path in matches if path not in files]
        if not files:
            raise InputError("it is empty.", option="tfrecord_file")
        return cls(name, split, tuple(files), tuple(files))


def _located(
    dataset_dir: str | None, dataset_name: str | None, split: str, tfrecord_file: str | None
) -> _Found:
    if tfrecord_file:
        if dataset_dir:
            raise InputError("Give --dataset_dir or --tfrecord_file, not both.")
        return _Found.from_list(tfrecord_file, dataset_name or "", split)
    if dataset_dir:
        return _Found.in_folder(dataset_dir, dataset_name, split)
    raise InputError("Give --dataset_dir with the folder of a dataset, or --tfrecord_file.")


@dataclasses.dataclass(frozen=True)
class _File:
    path: str
    name: str
    split: str
    shard: int | None
    shards: int | None


def _check_published(folder: str, names: Sequence[str]) -> None:
    """Refuses files of two conversions: of the newer one some wait for their place.

    They wait in the folder that `conversion.destination` calls ready.
    """
    for name in names:
        ready = os.path.join(folder, name)
        if re.fullmatch(r"\..+\.ready", name) and os.path.isdir(ready) and os.listdir(ready):
            raise InputError(
                f"a conversion into it was ended while it put its files in place; {name} has the "
                "rest.",
                option="dataset_dir",
                value=folder,
                remedy="Give the same convert_data.py command again, which puts them there.",
            )


def _parse(folder: str, base: str) -> _File | None:
    """What a file's name says; None for one that is not a TFRecord file's."""
    match = _FILE_NAME.fullmatch(base)
    if not match or not (match["kind"] or match["kind_last"] or match["shard"]):
        return None
    stem = _STEM.fullmatch(match["stem"])
    if not stem:
        return None
    shard, shards = (None if match[key] is None else int(match[key]) for key in ("shard", "shards"))
    return _File(os.path.join(folder, base), stem["name"] or "", stem["split"], shard, shards)


def _synonyms(split: str) -> tuple[str, ...]:
    return next((words for words in splits.SYNONYMS.values() if split in words), (split,))


def _check_shards(files: Sequence[_File], split: str) -> None:
    """Refuses a split of which shards are missing, or that is there twice."""
    if len({(file.split, file.shards) for file in files}) > 1:
        names = ", ".join(sorted(os.path.basename(file.path) for file in files)[:4])
        raise InputError(
            f"The {split} split is there more than once ({names}, …).",
            remedy="Remove the files that are out of date, or name the right ones with "
            "--tfrecord_file.",
        )
    if shards := files[0].shards:
        if missing := sorted(set(range(shards)) - {file.shard for file in files}):
            raise InputError(
                f"{files[0].path}: {len(missing)} of its {shards} shards are missing, number "
                f"{missing[0]} for one.",
                remedy="Name those to use with --tfrecord_file.",
            )


# Counts


@dataclasses.dataclass(frozen=True)
class _Contents:
    """What a file holds, by dataset.json or by the headers of its records."""

    size: int
    mtime: float
    count: int
    fingerprint: str
    damage: str = ""
    marks: Sequence[int] = ()


def _contents(files: Sequence[str], compression: str) -> tuple[list[_Contents], str]:
    """Looks into dataset.json, then for an earlier scan of the same bytes, then into the files.

    Returns:
      what is in them, and a remark where dataset.json says that more or fewer records were.
    """
    found, folders, unlike = [], {}, []
    for path in files:
        folder, base = os.path.split(path)
        if folder not in folders:
            stated = _stated(os.path.join(folder, "dataset.json"))
            folders[folder] = stated, storage.read_json(os.path.join(folder, _SCAN_FILE)), set()
        stated, scanned, news = folders[folder]
        size, mtime = storage.size_and_mtime(path)
        shard = stated.get(base, {})
        if shard.get("bytes") != size:  # else a look for each file is spared
            shard = _stated(f"{path}.dataset.json").get(base, {})
        if shard.get("bytes") == size:
            known = shard["num_examples"], shard["fingerprint"], "", shard.get("marks", ())
            found.append(_Contents(size, mtime, *known))
        elif known := _remembered(scanned.get(base), size, mtime):
            found.append(known)
        else:
            found.append(_Contents(size, mtime, *_scan(path, compression)))
            scanned[base] = dataclasses.asdict(found[-1])
            news.add(base)
        count = stated.get(base, {}).get("num_examples", found[-1].count)
        if shard.get("bytes") != size and count != found[-1].count:
            unlike.append(f"{base} has {found[-1].count} records, not {count}")
    for folder, (_, scanned, news) in folders.items():
        if news:
            storage.write_json(os.path.join(folder, _SCAN_FILE), scanned)
    return found, _unlike(unlike)


def _unlike(files: Sequence[str]) -> str:
    if not files:
        return ""
    more = f", and {len(files) - 1} more files are unlike it too" if files[1:] else ""
    return f"Warning: {files[0]} as in dataset.json{more}. Were they copied to their end?"


def _remembered(scan: object, size: int, mtime: float) -> _Contents | None:
    """What an earlier scan found, if it was of the same bytes and can be understood."""
    try:
        known = _Contents(**scan)
    except TypeError:
        return None
    return known if (known.size, known.mtime) == (size, mtime) else None


def _marks(stated: object) -> tuple[int, ...]:
    """Marks as a JSON file has them; () where they can't be understood."""
    is_list = isinstance(stated, list | tuple)
    understood = is_list and all(isinstance(place, int) and place > 0 for place in stated)
    return tuple(stated) if understood else ()


def _stated(path: str) -> dict[str, dict]:
    """The shards that a dataset.json of ours describes, by their names; {} without one."""
    try:
        parts = storage.read_json(path)["splits"].values()
        shards = {shard["file"]: shard for part in parts for shard in part["shards"]}
    except (KeyError, TypeError, AttributeError):
        return {}
    needed = {"num_examples", "bytes", "fingerprint"}
    return {name: shard for name, shard in shards.items() if needed <= shard.keys()}


def _scan(path: str, compression: str) -> tuple[int, str, str, Sequence[int]]:
    """Counts the records of a file without reading what is in them, and marks their places."""
    digest, count, place, marks = hashlib.sha256(), 0, 0, []
    try:
        for header, _, footer in frames(path, compression, contents=False):
            digest.update(header + footer)
            if count and count % MARKED == 0:
                marks.append(place)
            place += length_of(header)
            count += 1
    except BrokenFrame as error:
        if not count and compression_of(path) != compression:
            unlike = "not compressed, unlike" if compression else "compressed by gzip, unlike"
            raise InputError(
                f"{path} is {unlike} the first file of its split.",
                remedy="Compress all of them or none, or name those to use with --tfrecord_file.",
            ) from error
        return count, digest.hexdigest(), f"{path}: record {count}: {error}", ()
    return count, digest.hexdigest(), "", marks
