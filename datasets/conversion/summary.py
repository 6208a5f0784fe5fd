"""What a conversion says at its end, as lines for the screen."""

import collections
import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from datasets import splits
from datasets.conversion.destination import NEAR_DUPLICATES, REJECTED, Destination
from datasets.conversion.tally import WHOLE, Conversion
from datasets.sources.statements import UNNAMED
from foundation.labels import printable, shortened

_LISTED = 20  # files that the summary names of each sort


def lines(
    conversion: Conversion, destination: Destination, dry_run: bool, following: Iterable[str] = ()
) -> Iterator[str]:
    """What was made, what was wrong, and what to type next: the lines `following`."""
    yield f"\n{destination.name}: {conversion.num_examples} examples of " + (
        f"{len(conversion.classes)} classes"
    )
    yield from _counts(conversion)
    if conversion.already_done:
        yield f"\nAlready converted, nothing to do: {destination.folder} holds this dataset."
    else:
        yield from _findings(conversion, "" if dry_run else f", in {destination.side(REJECTED)}")
    if dry_run:
        yield "\nNothing was written (--dry_run)."
    else:
        yield f"\nFiles in {destination.folder}:"
        yield from _some(conversion.files, len(conversion.files))
        yield "\nNext:"
        yield from following
    if conversion.near_duplicates is not None:
        count = len(conversion.near_duplicates)
        pairs = "1 pair" if count == 1 else f"{count} pairs"
        yield f"\nNear duplicates across splits or labels: {pairs}"
        yield from _some(map(str, conversion.near_duplicates), count)
        if dropped := conversion.num_dropped:
            left_out = "1 photograph was" if dropped == 1 else f"{dropped} photographs were"
            yield f"  {left_out} left out."
        if conversion.near_duplicates and not dry_run:
            yield f"  All of them are in {destination.side_path(NEAR_DUPLICATES)}."


def _counts(conversion: Conversion) -> Iterator[str]:
    names = sorted(conversion.counts, key=(*splits.SPLITS, WHOLE).index)
    columns = [conversion.counts[name] for name in names]
    rows = [(name, *(column.get(name, 0) for column in columns)) for name in conversion.classes]
    more = len(rows) - _LISTED
    if more > 1:
        rows = [*rows[:_LISTED], (f"… {more} more", *[""] * len(columns))]
    rows.append(("all", *(sum(column.values()) for column in columns)))
    width = max(len(str(row[0])) for row in [("class",), *rows])
    for name, *counts in [("class", *names), *rows]:
        yield f"  {printable(name):{width}}  " + "  ".join(f"{count:>10}" for count in counts)


def _findings(conversion: Conversion, place: str) -> Iterator[str]:
    present = set().union(*(count.keys() for count in conversion.counts.values()))
    if absent := [name for name in conversion.classes if name not in present]:
        yield f"\nWarning: no example of the classes {printable(shortened(absent))}."
    for alike in _alike(conversion.classes):
        yield "\nWarning: classes that differ only in case, blanks or accents: " + (
            printable(", ".join(alike))
        )
    if other := _numbers_elsewhere(conversion.classes):
        yield f"\nWarning: class names are numbers, and not those of the labels: {other}."
    if unseen := _without_validation(conversion):
        yield f"\nWarning: no validation photograph of the classes {printable(shortened(unseen))}."
    if set(conversion.counts) == {splits.TRAIN}:
        yield "\nNo photograph is held back for an evaluation; --validation_fraction says how many."
    if len(conversion.classes) == 1:
        yield f"\nWarning: there is one class only, {printable(conversion.classes[0])}: " + (
            "whatever a net says of it is right."
        )
    left_out = sum(item.kind == UNNAMED for item in conversion.findings)
    if 2 * left_out > conversion.num_examples + left_out:
        yield f"\nWarning: {left_out} photographs have no annotation and are left out; with " + (
            "--unannotated=folder the names of their folders are their labels."
        )
    if conversion.mixed_splits:
        mixed = ", ".join(split or "none" for split in conversion.mixed_splits)
        yield f"\nWarning: the source's splits ({mixed}) are mixed in the one file; " + (
            "--output_dir keeps them apart."
        )
    if conversion.changes:
        yield f"\nEncoded anew: {_counted(conversion.changes)}"
    if conversion.findings:
        kinds = collections.Counter(item.kind for item in conversion.findings)
        yield f"\nRejected or corrected{place}: {_counted(kinds)}"
        yield from _some(map(str, conversion.findings), len(conversion.findings))
    if conversion.duplicates:
        yield f"\nExact duplicates of other photographs: {len(conversion.duplicates)}"
        yield from _some(map(str, conversion.duplicates), len(conversion.duplicates))
        problems = (f"{item}: {item.problem}" for item in conversion.duplicates if item.problem)
        if number := sum(bool(item.problem) for item in conversion.duplicates):
            yield f"\nWarning: {number} of the duplicates contradict each other:"
            yield from _some(problems, number)


def _alike(names: Sequence[str]) -> Iterator[list[str]]:
    """Yields class names that are the same but for case, blanks, accents, `_` and `-`, no sign."""
    groups = collections.defaultdict(list)
    for name in names:
        letters = unicodedata.normalize("NFKD", name.casefold())
        kept = "".join(c for c in letters if c not in " -_" and not unicodedata.combining(c))
        is_negative = name.startswith("-") and kept[:1].isdecimal()
        groups[is_negative, kept].append(name)
    yield from (alike for alike in groups.values() if len(alike) > 1)


def _numbers_elsewhere(names: Sequence[str]) -> str:
    """The first class that is called by another number than its label's; "" where none is."""
    if not all(name.isdecimal() for name in names):
        return ""
    wrong = (f"label {i} is class {name}" for i, name in enumerate(names) if int(name) != i)
    return next(wrong, "")


def _without_validation(conversion: Conversion) -> list[str]:
    """The classes of the training photographs that a validation split lacks."""
    training, validation = (
        conversion.counts.get(split, {}) for split in (splits.TRAIN, splits.VALIDATION)
    )
    if not validation:
        return []
    return [name for name in conversion.classes if training.get(name) and not validation.get(name)]


def _some(entries: Iterable[str], number: int) -> Iterator[str]:
    """The first few of so many entries."""
    for entry in itertools.islice(entries, _LISTED):
        yield f"  {printable(entry)}"
    if number > _LISTED:
        yield f"  … and {number - _LISTED} more"


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
