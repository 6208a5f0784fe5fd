"""What is known of a dataset while its records come in, and whether it makes sense."""

import collections
import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from datasets import splits
from datasets.conversion.near_duplicates import Pair
from datasets.conversion.records import Record
from datasets.disk_table import DiskTable, SortedOnDisk
from datasets.findings import Effect, Finding, stopped_by
from datasets.options import ConversionOptions, DestinationOptions
from datasets.schema import LabeledImage
from foundation.errors import InputError

# The one split of a dataset that is a single file.
WHOLE = "all"


@dataclasses.dataclass(frozen=True, slots=True)
class Duplicate:
    """A photograph whose bytes are those of an earlier one."""

    file: str
    same_as: str
    problem: str  # such as "labels cat and dog"; "" when nothing is wrong with it

    def __str__(self) -> str:
        return f"{self.file} is {self.same_as}"


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """An example, as far as duplicates are compared."""

    path: str
    label: str
    split: str


def duplicate(one: Example, first: Example) -> Duplicate | None:
    """What to report of an example whose photograph has the bytes of an earlier one's.

    None where both are of the same photograph.
    """
    if one.path == first.path:
        return None
    problems = []
    if one.label != first.label:
        problems.append(f"labels {first.label} and {one.label}")
    if one.split != first.split:
        problems.append(f"splits {first.split} and {one.split}")
    return Duplicate(one.path, first.path, "; ".join(problems))


def findings(image: LabeledImage, result: Record | str) -> list[Finding]:
    """What there is to report of a photograph's record, or of why it has none."""
    if isinstance(result, str):
        return [Finding(image.path, result)]
    return [Finding(image.path, remark, Effect.CORRECTED) for remark in result.remarks]


def split_of(choice: splits.Choice | None, given: str, digest: bytes) -> str:
    """The split of a photograph with this SHA-256 for which the source says `given`."""
    return choice.of(given, digest) if choice else WHOLE


@dataclasses.dataclass
class Conversion:
    """What came of a conversion.

    Attributes:
      classes: in the order of their numbers.
      counts: examples of each split, by class.
      files: names of the files in the destination's folder.
      findings: sorted by file.
      duplicates: sorted by file.
      changes: how many examples were encoded anew, by reason.
      mixed_splits: splits of the source that one file mixes; "" for photographs without one.
      already_done: the same dataset was there and nothing was done; then only the first three and
        the near duplicates are known.
      near_duplicates: see `near_duplicates.find`; None where they were not looked for.
      num_dropped: photographs that were left out as near duplicates.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    files: list[str]
    findings: Collection[Finding] = ()
    duplicates: Collection[Duplicate] = ()
    changes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mixed_splits: tuple[str, ...] = ()
    already_done: bool = False
    near_duplicates: Collection[Pair] | None = None
    num_dropped: int = 0

    @property
    def num_examples(self) -> int:
        return sum(sum(count.values()) for count in self.counts.values())


class Counts:
    """Numbers of what comes in; those of the parts of a conversion add up to those of the whole.

    Attributes:
      counts: examples of each split, by class.
      changes, source_formats, stored_formats: number of examples by reason, and by format.
      widths, heights: smallest and greatest, in pixels; empty before the first example.
      errors: number of photographs and annotations that can't be used, by kind.
      first_errors: of each kind the one whose file's name sorts first.
    """

    def __init__(self):
        self.counts = collections.defaultdict(collections.Counter)
        self.changes = collections.Counter()
        self.source_formats = collections.Counter()
        self.stored_formats = collections.Counter()
        self.widths: list[int] = []
        self.heights: list[int] = []
        self.errors = collections.Counter()
        self.first_errors: dict[str, Finding] = {}

    @property
    def num_examples(self) -> int:
        return sum(count.total() for count in self.counts.values())

    def count(self, split: str, label: str, record: Record) -> None:
        """Counts an example."""
        self.counts[split][label] += 1
        self.source_formats[record.source_format] += 1
        self.stored_formats[record.stored_format] += 1
        self.widths = _range(*self.widths, record.width)
        self.heights = _range(*self.heights, record.height)
        if record.change:
            self.changes[record.change] += 1

    def count_error(self, finding: Finding, number: int = 1) -> None:
        """Counts a finding if it is an error."""
        if finding.is_error:
            self.errors[finding.kind] += number
            first = self.first_errors.get(finding.kind, finding)
            self.first_errors[finding.kind] = min(first, finding, key=lambda item: item.file)

    def merge(self, other: "Counts") -> None:
        """Adds what another part counted."""
        for split, counts in other.counts.items():
            self.counts[split].update(counts)
        for name in ("changes", "source_formats", "stored_formats"):
            getattr(self, name).update(getattr(other, name))
        for name in ("widths", "heights"):
            if values := getattr(self, name) + getattr(other, name):
                setattr(self, name, _range(*values))
        for kind, number in other.errors.items():
            self.count_error(other.first_errors[kind], number)

    def content(self) -> dict[str, object]:
        """All of it, for JSON."""
        first = {kind: [item.file, item.reason] for kind, item in self.first_errors.items()}
        return {**vars(self), "first_errors": first}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Counts":
        """What gave this `content`."""
        made = Counts()
        for name in ("changes", "source_formats", "stored_formats", "errors"):
            getattr(made, name).update(content[name])
        for split, counts in content["counts"].items():
            made.counts[split].update(counts)
        made.widths, made.heights = content["widths"], content["heights"]
        made.first_errors = {kind: Finding(*it) for kind, it in content["first_errors"].items()}
        return made


class Tally(Counts):
    """What is known of a dataset while it is made.

    Attributes:
      classes: class names in the order of their numbers.
      choice: which split each photograph goes to; None: all go into one file.
      findings: what there is to report. A photograph with several examples is reported once.
      duplicates: photographs whose bytes are those of an earlier one.
    """

    def __init__(
        self,
        photographs: Iterable[LabeledImage],
        findings: Iterable[Finding],
        classes: tuple[str, ...],
        destination: DestinationOptions,
        options: ConversionOptions,
    ):
        """Starts with what the source says.

        Args:
          photographs: all of them.
          findings: those of the source.
          classes: class names in the order of their numbers; empty: the sorted names of the labels.
          destination, options: those of the conversion.

        Raises:
          InputError: see `splits.Choice`.
        """
        super().__init__()
        labels, given = set(), set()
        for image in photographs:
            labels.add(image.label)
            given.add(image.split)
        self.classes = classes or tuple(sorted(labels))
        self._labels = labels
        self.findings = SortedOnDisk(lambda item: (item.file, item.reason), distinct=True)
        for finding in findings:
            self.count_error(finding)
            self.findings.add(finding)
        self.duplicates = SortedOnDisk(lambda item: (item.file,))
        self._classes_are_given = bool(classes)
        self._stops_on_error = options.on_error == "fail"
        self.choice = None
        self._mixed_splits = ()
        if destination.output_file:
            self._mixed_splits = tuple(sorted(given)) if len(given) > 1 else ()
        else:
            self.choice = splits.Choice(
                given, destination.validation_fraction, destination.test_fraction
            )
        self._first_of = DiskTable()  # by the digest of the bytes

    @property
    def training_split(self) -> str:
        return splits.TRAIN if self.choice else WHOLE

    def add(self, image: LabeledImage, result: Record | str) -> str:
        """Counts a photograph's record, or why it has none; returns its split or "".

        Raises:
          InputError: it has none, with --on_error=fail.
        """
        for finding in findings(image, result):
            self.count_error(finding)
            self.findings.add(finding)
            if finding.is_error and self._stops_on_error:
                raise stopped_by(finding)
        if isinstance(result, str):
            return ""
        split = split_of(self.choice, image.split, result.digest)
        self.count(split, image.label, result)
        example = Example(image.path, image.label, split)
        if earlier := self._first_of.get(result.digest):
            if found := duplicate(example, earlier[0]):
                self.duplicates.add(found)
        else:
            self._first_of.add(result.digest, example)
        return split

    def check(self) -> None:
        """Raises InputError for a dataset that must be a mistake."""
        self._check_share()
        self._check_classes()

    def conversion(self, files: list[str]) -> Conversion:
        """All that came in, as the result of a conversion that wrote these files."""
        return Conversion(
            self.classes,
            self.counts,
            files,
            self.findings,
            self.duplicates,
            self.changes,
            self._mixed_splits,
        )

    def _check_share(self) -> None:
        errors = self.errors.total()
        total = self.num_examples + errors
        if 2 * errors > total:
            kinds = sorted(self.errors.items(), key=lambda item: (-item[1], item[0]))
            raise InputError(
                f"{errors} of {total} photographs are not usable: "
                f"{', '.join(f'{kind} ({count})' for kind, count in kinds)}; "
                f"such as {self.first_errors[kinds[0][0]]}."
            )

    def _check_classes(self) -> None:
        if self.choice is None and self._classes_are_given:
            return  # it may be a part of a collection, and not for training
        if self.choice is not None and not self.choice.trains:
            return
        training = self.counts[self.training_split]
        if empty := [name for name in self.classes if not training[name]]:
            elsewhere = sum(count[empty[0]] for count in self.counts.values())
            others = f" (and of {len(empty) - 1} other classes)" if len(empty) > 1 else ""
            raise InputError(
                f"No photograph of the class {empty[0]!r}{others} is left for training"
                f"{f'; {elsewhere} are in other splits' if elsewhere else ''}.",
                remedy=self._misspelt(empty)
                or "Add some, take the class out, or set --validation_fraction=0.",
            )

    def _misspelt(self, empty: Sequence[str]) -> str:
        """What to do where a class is empty since --classes spells a label in another way."""
        unknown = sorted(self._labels - set(self.classes))
        for name in empty:
            for label in difflib.get_close_matches(name, unknown, n=1):
                return f"The nearest label that is not in --classes is {label!r}: spell both alike."
        return ""


def _range(*values: int) -> list[int]:
    return [min(values), max(values)]
