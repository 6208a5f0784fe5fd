"""Pictures that are almost the same, by a perceptual hash, across splits or labels."""

import collections
import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import io
import multiprocessing
import os
from collections.abc import Iterable, Sequence

import numpy as np

from datasets import splits
from datasets.conversion.image_bytes import FORMATS
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder

# Of 64 bits, how many may differ: so many bands less one find all pairs (see `pairs`).
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


def require():
    """The module imagehash; raises ImportError with what to do."""
    try:
        import imagehash
    except ImportError as error:
        raise ImportError(
            '--near_duplicates needs ImageHash: pip install -c constraints.txt ".[duplicates]".'
        ) from error
    return imagehash


def find(
    photographs: Sequence[LabeledImage],
    folder: ImageFolder,
    choice: splits.Choice,
    num_workers: int,
) -> list[Pair]:
    """Pairs of almost equal pictures that lie in different splits or bear different labels.

    Args:
      photographs: of the source.
      folder: where they are.
      choice: which split each goes to.
      num_workers: processes that look at them.

    Returns:
      Pairs, sorted by path: all, but of many alike pictures only as many as name each once. Of two
      splits the one for evaluation keeps its picture, since its numbers would change otherwise; of
      two labels neither is known to be right.

    Raises:
      ImportError: ImageHash is not installed.
    """
    require()
    labels = collections.defaultdict(set)  # a photograph may be several examples
    for image in photographs:
        labels[image.path].add(image.label)
    unique = sorted({image.path: image for image in photographs}.values(), key=lambda i: i.path)
    seen = _hashes([image.path for image in unique], folder.path, num_workers)
    known = [(image, *found) for image, found in zip(unique, seen, strict=True) if found]
    if not known:
        return []
    where = [choice.of(image.split, digest) for image, _, digest in known]
    # Of alike pictures in one place the first meets those elsewhere: of thousands of each, all
    # pairs would be millions.
    alike = {}
    for i, (image, value, _) in enumerate(known):
        alike.setdefault((value, where[i], frozenset(labels[image.path])), []).append(i)
    places = {}
    kinds = [places.setdefault(key[1:], len(places)) for key in alike]
    groups = list(alike.values())
    hashes = np.array([value for value, *_ in alike], np.uint64)
    meetings = [
        (i, j, distance)
        for one, other, distance in pairs(hashes, kinds=np.array(kinds))
        for i, j in sorted(
            {(groups[one][0], j) for j in groups[other]}
            | {(i, groups[other][0]) for i in groups[one]}
        )
    ]
    found = []
    for i, j, distance in meetings:
        first, second = known[min(i, j)][0], known[max(i, j)][0]
        i, j = min(i, j), max(i, j)
        same = labels[first.path] & labels[second.path]
        if same and where[i] == where[j]:
            continue
        kept = ""
        if same:
            order = (splits.TEST, splits.VALIDATION, splits.TRAIN)
            kept = min((where[i], first.path), (where[j], second.path), key=_by(order))[1]
        found.append(Pair(first, second, (where[i], where[j]), distance, kept))
    return sorted(found, key=lambda pair: (pair.first.path, pair.second.path))


def _by(order: Sequence[str]):
    return lambda placed: (order.index(placed[0]), placed[1])


def dropped(found: Iterable[Pair]) -> set[str]:
    """The paths that go so that no pair is left."""
    gone = set()
    for pair in found:
        gone |= {pair.first.path, pair.second.path} - {pair.kept}
    return gone


def write(path: str, found: Iterable[Pair]) -> None:
    """Lists the pairs in a CSV; raises OSError."""
    with open(f"{path}.tmp", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
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
    os.replace(f"{path}.tmp", path)


def pairs(
    hashes: np.ndarray, distance: int = DISTANCE, kinds: np.ndarray | None = None
) -> list[tuple[int, int, int]]:
    """All pairs of 64-bit hashes that differ in at most `distance` bits, at most 3.

    Of four bands of 16 bits, such a pair shares one at least: so only hashes with a band in common
    are compared (Norouzi, Punjani and Fleet, "Fast search in Hamming space", 2012).

    Args:
      hashes: uint64 [N].
      kinds: int [N]; two of one kind are no pair. None: all are of different ones.

    Returns:
      (i, j, number of different bits) with i < j, sorted.
    """
    found: dict[tuple[int, int], int] = {}
    for band in range(_BANDS):
        keys = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=-1.0))
        for group in np.split(order, starts[1:]):
            for start in range(0, len(group) - 1):
                rest = group[start + 1 :]
                bits = np.bitwise_count(hashes[rest] ^ hashes[group[start]])
                near = bits <= distance
                if kinds is not None:
                    near &= kinds[rest] != kinds[group[start]]
                for other in np.flatnonzero(near):
                    i, j = sorted((int(group[start]), int(rest[other])))
                    found[i, j] = int(bits[other])
    return [(i, j, bits) for (i, j), bits in sorted(found.items())]


def _hashes(
    paths: Sequence[str], folder: str, num_workers: int
) -> Iterable[tuple[int, bytes] | None]:
    look = functools.partial(_look, ImageFolder(folder))
    if num_workers < 2 or len(paths) < _WORTH_A_PROCESS:
        return list(map(look, paths))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, context) as pool:
        return list(pool.map(look, paths, chunksize=32))


def _look(folder: ImageFolder, path: str) -> tuple[int, bytes] | None:
    """Perceptual hash and SHA-256 of a picture; None for what the conversion will reject."""
    from PIL import Image, ImageOps

    try:
        data = folder.read(path)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.draft("L", (64, 64))  # all that the hash looks at
        value = int(str(require().phash(ImageOps.exif_transpose(image))), 16)
    except ImportError:
        raise
    except Exception:  # a stranger's bytes make the parsers raise anything
        return None
    return value, hashlib.sha256(data).digest()
