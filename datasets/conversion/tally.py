"""What is known of a dataset while its records come in, and whether it makes sense."""

import collections
import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence

from datasets import splits
from datasets.conversion.near_duplicates import Pair
from datasets.conversion.records import Record
from datasets.disk_table import DiskTable
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
    findings: list[Finding] = dataclasses.field(default_factory=list)
    duplicates: list[Duplicate] = dataclasses.field(default_factory=list)
    changes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mixed_splits: tuple[str, ...] = ()
    already_done: bool = False
    near_duplicates: list[Pair] | None = None
    num_dropped: int = 0

    @property
    def num_examples(self) -> int:
        return sum(sum(count.values()) for count in self.counts.values())


class Tally:
    """Counts what comes in.

    Attributes:
      classes: class names in the order of their numbers.
      counts: examples of each split, by class.
      findings: what there is to report, in no order.
      changes, source_formats, stored_formats: number of examples by reason, and by format.
      widths, heights: smallest and greatest, in pixels; empty before the first example.
    """

    def __init__(
        self,
        photographs: Iterable[LabeledImage],
        findings: list[Finding],
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
        labels, given = set(), set()
        for image in photographs:
            labels.add(image.label)
            given.add(image.split)
        self.classes = classes or tuple(sorted(labels))
        self._labels = labels
        self.counts = collections.defaultdict(collections.Counter)
        self.findings = findings
        self.duplicates = []
        self.changes = collections.Counter()
        self.source_formats = collections.Counter()
        self.stored_formats = collections.Counter()
        self.widths = []
        self.heights = []
        self._classes_are_given = bool(classes)
        self._stops_on_error = options.on_error == "fail"
        self._choice = None
        self._mixed_splits = ()
        if destination.output_file:
            self._mixed_splits = tuple(sorted(given)) if len(given) > 1 else ()
        else:
            self._choice = splits.Choice(
                given, destination.validation_fraction, destination.test_fraction
            )
        self._first_of = DiskTable()  # by the digest of the bytes

    @property
    def num_examples(self) -> int:
        return sum(count.total() for count in self.counts.values())

    @property
    def training_split(self) -> str:
        return splits.TRAIN if self._choice else WHOLE

    def add(self, image: LabeledImage, result: Record | str) -> str:
        """Counts a photograph's record, or why it has none; returns its split or "".

        Raises:
          InputError: it has none, with --on_error=fail.
        """
        if isinstance(result, str):
            self.findings.append(Finding(image.path, result))
            if self._stops_on_error:
                raise stopped_by(self.findings[-1])
            return ""
        split = self._split(image, result.digest)
        self.counts[split][image.label] += 1
        self.source_formats[result.source_format] += 1
        self.stored_formats[result.stored_format] += 1
        self.widths = _range(*self.widths, result.width)
        self.heights = _range(*self.heights, result.height)
        if result.change:
            self.changes[result.change] += 1
        for remark in result.remarks:
            self.findings.append(Finding(image.path, remark, Effect.CORRECTED))
        if earlier := self._first_of.get(result.digest):
            if earlier[0].path != image.path:
                self.duplicates.append(self._duplicate(image, earlier[0], split, result.digest))
        else:
            self._first_of.add(result.digest, image)
        return split

    def check(self) -> None:
        """Raises InputError for a dataset that must be a mistake."""
        self._check_share()
        self._check_classes()

    def conversion(self, files: list[str]) -> Conversion:
        """All that came in, as the result of a conversion that wrote these files."""
        # A photograph with several examples is reported once.
        findings = sorted(set(self.findings), key=lambda item: (item.file, item.reason))
        self.duplicates.sort(key=lambda item: item.file)
        return Conversion(
            self.classes,
            self.counts,
            files,
            findings,
            self.duplicates,
            self.changes,
            self._mixed_splits,
        )

    def _split(self, image: LabeledImage, digest: bytes) -> str:
        return self._choice.of(image.split, digest) if self._choice else WHOLE

    def _duplicate(self, image: LabeledImage, first: LabeledImage, split: str, digest: bytes):
        problems = []
        if image.label != first.label:
            problems.append(f"labels {first.label} and {image.label}")
        if split != (other := self._split(first, digest)):
            problems.append(f"splits {other} and {split}")
        return Duplicate(image.path, first.path, "; ".join(problems))

    def _check_share(self) -> None:
        errors = [item for item in self.findings if item.is_error]
        total = self.num_examples + len(errors)
        if 2 * len(errors) > total:
            kinds = collections.Counter(item.kind for item in errors).most_common()
            of_most = (item for item in errors if item.kind == kinds[0][0])
            first = min(of_most, key=lambda item: item.file)
            raise InputError(
                f"{len(errors)} of {total} photographs are not usable: "
                f"{', '.join(f'{kind} ({count})' for kind, count in kinds)}; "
                f"such as {first}."
            )

    def _check_classes(self) -> None:
        if self._choice is None and self._classes_are_given:
            return  # it may be a part of a collection, and not for training
        if self._choice is not None and not self._choice.trains:
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
