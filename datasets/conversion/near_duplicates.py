"""Pictures that are almost the same, by a perceptual hash, across splits or labels."""

import collections
import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from datasets import splits
from datasets.conversion import image_bytes
from datasets.schema import LabeledImage
from datasets.sources.bucket_folder import folder_at
from datasets.sources.image_folder import ImageFolder
from foundation import files, machine
from foundation.errors import InputError, missing_extra

# How many of 64 bits may differ; one band more finds all such pairs (see `pairs`).
DISTANCE = 3
_BANDS = DISTANCE + 1
_WORTH_A_PROCESS = 64


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two pictures; `kept` stays where pairs are dropped, "" where neither does."""

    first: LabeledImage
    second: LabeledImage
    splits: tuple[str, str]
    distance: int
    kept: str

    def __str__(self) -> str:
        return (
            f"{self.first.path} ({self.first.label}, {self.splits[0]}) and "
            f"{self.second.path} ({self.second.label}, {self.splits[1]})"
        )


@dataclasses.dataclass(frozen=True)
class Picture:
    """A photograph with its perceptual hash, the split it goes to, and all labels it has."""

    image: LabeledImage
    hash: int
    split: str
    labels: frozenset[str]


def require():
    """The module imagehash; raises InputError with what to do."""
    try:
        import imagehash
    except ImportError as error:
        raise missing_extra("duplicates", "ImageHash", "near_duplicates") from error
    return imagehash


def find(
    photographs: Sequence[LabeledImage],
    folder: ImageFolder,
    choice: splits.Choice | None,
    num_workers: int,
) -> list[Pair]:
    """Pairs of almost equal pictures that lie in different splits or bear different labels.

    Args:
      photographs: the photographs of the source.
      folder: where they are.
      choice: which split each goes to; None where all go into one file.
      num_workers: processes that read and hash them.

    Returns:
      Pairs, sorted by path. Among many pictures that are alike, only so many pairs that each is
      named once. Of two splits the one for evaluation keeps its picture, since its numbers would
      change otherwise; of two labels neither is known to be right.

    Raises:
      InputError: ImageHash is not installed.
    """
    require()
    labels = collections.defaultdict(set)  # a photograph may be several examples
    for image in photographs:
        labels[image.path].add(image.label)
    unique = sorted({image.path: image for image in photographs}.values(), key=lambda i: i.path)
    hashes = _hashes([image.path for image in unique], folder.path, num_workers)
    pictures = [
        Picture(image, found[0], split_of(choice, image, found[1]), frozenset(labels[image.path]))
        for image, found in zip(unique, hashes, strict=True)
        if found
    ]
    found = [pair_of(pictures[i], pictures[j], distance) for i, j, distance in _alike(pictures)]
    return sorted(filter(None, found), key=lambda pair: (pair.first.path, pair.second.path))


def _alike(pictures: Sequence[Picture]) -> Iterator[tuple[int, int, int]]:
    """Yields i < j and the number of different bits of pictures that are almost the same.

    Of equal pictures with one split and one label, the first is paired with those of others: of
    thousands of each, all pairs would be millions.
    """
    groups = {}
    for i, picture in enumerate(pictures):
        groups.setdefault((picture.hash, picture.split, picture.labels), []).append(i)
    numbers = {}
    kinds = [numbers.setdefault(key[1:], len(numbers)) for key in groups]
    members = list(groups.values())
    hashes = np.array([key[0] for key in groups], np.uint64)
    for one, other, distance in pairs(hashes, kinds=np.array(kinds)):
        first, second = members[one], members[other]
        meetings = {(first[0], j) for j in second} | {(i, second[0]) for i in first}
        for i, j in sorted(meetings):
            yield min(i, j), max(i, j), distance


def split_of(choice: splits.Choice | None, image: LabeledImage, digest: bytes) -> str:
    """The split of a photograph with this SHA-256."""
    return choice.of(image.split, digest) if choice else splits.TRAIN


def pair_of(one: Picture, other: Picture, distance: int) -> Pair | None:
    """The pair, unless it does no harm; the path of its first sorts first."""
    first, second = sorted((one, other), key=lambda picture: picture.image.path)
    same_label = first.labels & second.labels
    if same_label and first.split == second.split:
        return None
    kept = ""
    if same_label:
        order = (splits.TEST, splits.VALIDATION, splits.TRAIN)
        kept = min((order.index(one.split), one.image.path) for one in (first, second))[1]
    return Pair(first.image, second.image, (first.split, second.split), distance, kept)


def dropped(found: Iterable[Pair]) -> Iterator[str]:
    """Yields the paths to leave out so that no pair is left; some several times."""
    for pair in found:
        yield from {pair.first.path, pair.second.path} - {pair.kept}


def write(path: str, found: Iterable[Pair]) -> None:
    """Lists the pairs in a CSV; raises OSError."""
    with files.whole(path, newline="", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["file", "label", "split", "other_file", "other_label", "other_split", "distance"]
        )
        for pair in found:
            one, other = pair.first, pair.second
            writer.writerow(
                [one.path, one.label, pair.splits[0], other.path, other.label, pair.splits[1]]
                + [pair.distance]
            )


def pairs(
    hashes: np.ndarray, distance: int = DISTANCE, kinds: np.ndarray | None = None
) -> list[tuple[int, int, int]]:
    """All pairs of 64-bit hashes that differ in at most `distance` bits, at most 3.

    Such a pair shares at least one of four bands of 16 bits: so only hashes with a band in common
    are compared (Norouzi, Punjani and Fleet, "Fast search in Hamming space", 2012).

    Args:
      hashes: uint64 [N].
      kinds: int [N]; two of one kind are no pair. None: all are of different ones.

    Returns:
      (i, j, number of different bits) with i < j, sorted.
    """
    found: dict[tuple[int, int], int] = {}
    kinds = np.arange(len(hashes)) if kinds is None else kinds
    for band in range(_BANDS):
        keys = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=-1.0))
        for group in np.split(order, starts[1:]):
            if len(group) < 2:
                continue
            for one, other, bits in compared(hashes[group], kinds[group], distance):
                i, j = sorted((int(group[one]), int(group[other])))
                found[i, j] = bits
    return [(i, j, bits) for (i, j), bits in sorted(found.items())]


def compared(
    hashes: np.ndarray, kinds: np.ndarray, distance: int = DISTANCE
) -> Iterator[tuple[int, int, int]]:
    """Yields i < j and the number of different bits of near hashes, each compared with each."""
    for i in range(len(hashes) - 1):
        bits = np.bitwise_count(hashes[i + 1 :] ^ hashes[i])
        near = (bits <= distance) & (kinds[i + 1 :] != kinds[i])
        for offset in np.flatnonzero(near):
            yield i, i + 1 + int(offset), int(bits[offset])


def bands(value: int) -> list[int]:
    """The four bands of a hash; two near ones have at least one in common."""
    return [value >> 16 * band & 0xFFFF for band in range(_BANDS)]


def _hashes(
    paths: Sequence[str], folder: str, num_workers: int
) -> Iterable[tuple[int, bytes] | None]:
    hash_one = functools.partial(hashed, folder_at(folder))
    if num_workers < 2 or len(paths) < _WORTH_A_PROCESS:
        return list(map(hash_one, paths))
    context = multiprocessing.get_context("spawn")
    ends = {"initializer": machine.end_with_parent, "initargs": (os.getpid(),)}
    with concurrent.futures.ProcessPoolExecutor(num_workers, context, **ends) as pool:
        return list(pool.map(hash_one, paths, chunksize=32))


def hashed(folder: ImageFolder, path: str) -> tuple[int, bytes] | None:
    """Perceptual hash and SHA-256 of a picture; None for what the conversion will reject."""
    from PIL import ImageOps

    try:
        data = folder.read(path)
    except ValueError:
        return None
    try:
        image = image_bytes.opened(data)
        image.draft("L", (64, 64))  # the hash needs no more
        value = int(str(require().phash(ImageOps.exif_transpose(image))), 16)
    except InputError:
        raise
    except Exception:  # damaged bytes make the parsers raise anything
        return None
    return value, hashlib.sha256(data).digest()
