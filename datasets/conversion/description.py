"""The files of a dataset besides its shards: dataset.json, labels.txt, and lists of findings."""

import collections
import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from datasets.conversion.destination import (
    DATASET_JSON,
    DUPLICATES,
    REJECTED,
    WHITENING,
    Destination,
)
from datasets.conversion.records import Whitening
from datasets.conversion.shards import Shard
from datasets.conversion.tally import Tally
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder
from foundation import labels

_FINDINGS_COLUMNS = ("file", "reason")
_DUPLICATE_COLUMNS = ("file", "same_as", "problem")


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a dataset was made of and how: two of equal identity are equal to the byte.

    Attributes:
      flags: the options that shape it.
      classes: class names in the order of their numbers.
      source: changes when a photograph, or what the source says of it, does.
    """

    flags: Mapping[str, object]
    classes: tuple[str, ...]
    source: str


def fingerprint(photographs: Iterable[LabeledImage], folder: ImageFolder) -> str:
    """What `Identity.source` is: from size and time of each photograph, of which none is read."""
    digest = hashlib.sha256()
    names = [field.name for field in dataclasses.fields(LabeledImage)]
    for image in photographs:
        version = folder.version(image.path)
        content = tuple(getattr(image, name) for name in names)
        digest.update(repr((content, version)).encode(errors="surrogateescape"))
    return digest.hexdigest()


def difference(earlier: Mapping[str, object], identity: Identity, destination: Destination) -> str:
    """How a finished dataset differs from the one to make; "" when it doesn't.

    Args:
      earlier: the dataset.json of the finished one.
      identity: that of the one to make.
      destination: the place of both.
    """
    flags = json.loads(json.dumps(identity.flags))  # tuples are lists in what was read
    earlier_flags = earlier.get("flags", {})
    for name in sorted({*flags, *earlier_flags}):
        # More was verified than is asked for now; early versions did not write it down.
        if name == "verify" and earlier_flags.get(name, "full") == "full":
            continue
        if flags.get(name) != earlier_flags.get(name):
            value = earlier_flags.get(name)
            return f"made without --{name}" if value is None else f"made with --{name}={value}"
    if list(identity.classes) != earlier.get("classes"):
        return "of other classes"
    if identity.source != earlier.get("source"):
        return "of other photographs or labels"
    for part in earlier["splits"].values():
        for shard in part["shards"]:
            if destination.size(shard["file"]) != shard["bytes"]:
                return f"whose {shard['file']} is missing or cut off"
    return ""


def write(
    destination: Destination,
    tally: Tally,
    identity: Identity,
    shards: Mapping[str, list[Shard]],
    whitening: Whitening | None,
) -> list[str]:
    """Writes all files besides the shards, to be published; returns the names of all files."""
    conversion = tally.conversion([])
    names = [shard.file for part in shards.values() for shard in part]
    tables = [(REJECTED, _FINDINGS_COLUMNS, conversion.findings)]
    if conversion.duplicates:
        tables.append((DUPLICATES, _DUPLICATE_COLUMNS, conversion.duplicates))
    for name, columns, rows in tables:
        names.append(destination.side(name))
        _write_table(destination.path(names[-1]), columns, rows)
    if whitening:
        names.append(destination.side(WHITENING))
        whitening.save(destination.path(names[-1]))
    names.append(destination.side(labels.FILE_NAME))
    with open(destination.path(names[-1]), "w", encoding="utf-8") as file:
        file.write(labels.text(tally.classes))
    names.append(destination.side(DATASET_JSON))
    kinds = collections.Counter(item.kind for item in conversion.findings)
    content = {
        "name": destination.name,
        "num_examples": tally.num_examples,
        **dataclasses.asdict(identity),
        "splits": {
            split: {
                "num_examples": tally.counts[split].total(),
                "classes": {name: tally.counts[split][name] for name in tally.classes},
                "shards": [shard._asdict() for shard in part],
            }
            for split, part in shards.items()
        },
        "widths": tally.widths,
        "heights": tally.heights,
        "source_formats": dict(sorted(tally.source_formats.items())),
        "stored_formats": dict(sorted(tally.stored_formats.items())),
        "encoded_anew": dict(sorted(tally.changes.items())),
        "rejected": dict(sorted(kinds.items())),
        "duplicates": len(conversion.duplicates),
        "files": names,
    }
    with open(destination.path(names[-1]), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    return names


def write_findings(path: str, tally: Tally) -> None:
    """Writes the list of findings alone, for a conversion that fails."""
    _write_table(path, _FINDINGS_COLUMNS, tally.conversion([]).findings)


def _write_table(path: str, columns: Sequence[str], rows: Iterable[object]) -> None:
    """Writes the attributes of rows as CSV."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([getattr(row, column) for column in columns] for row in rows)
