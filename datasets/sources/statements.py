"""What a source says of photographs, gathered by photograph: one behaviour for all sources."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from datasets import splits
from datasets.disk_table import DiskTable
from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from datasets.sources import objects
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject

# Boxes of two annotators that overlap so much, as intersection over union, are of one object.
_SAME_OBJECT = 0.5
# The kind of finding for photographs that nothing in the source names.
UNNAMED = "no annotation"


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """What one annotation file, or one row of a table, says of a photograph.

    Attributes:
      path: the photograph, by its path in the image folder.
      objects: the objects in it, at least one.
      split: "train", "validation" or "test"; "" where it says none.
      size: (width, height) that the boxes refer to, or None.
      origin: the annotation file; "" for the rows of one table.
    """

    path: str
    objects: tuple[LabeledObject, ...]
    split: str = ""
    size: tuple[int, int] | None = None
    origin: str = ""

    def __reduce__(self):
        """Pickles in a fraction of the time that a dataclass takes by itself."""
        objects = tuple((thing.label, thing.box) for thing in self.objects)
        return _statement, (self.path, objects, self.split, self.size, self.origin)

    def by(self) -> str:
        return f" ({self.origin})" if self.origin else ""


def _statement(path, things, *rest) -> Statement:
    return Statement(path, tuple(LabeledObject(*thing) for thing in things), *rest)


@dataclasses.dataclass(frozen=True)
class Rest:
    """The photographs that no statement names.

    Attributes:
      images: the folder of all photographs.
      others: what to make of each of them.
    """

    images: ImageFolder
    others: Callable[[str], Statement | Finding]


def gather(
    items: Iterable[Statement | Finding], rule: str, rest: Rest | None = None
) -> Iterator[LabeledImage | Finding]:
    """Turns statements into examples, the photographs in the order in which they first appear.

    All objects of a photograph are brought together, whatever files or rows name them. The first
    split named holds for all of them; where none is named at all, and the photographs lie in
    folders of several splits, these are taken. What contradicts it, another label of the same
    object, or files that have no label in common, is a finding.

    Args:
      items: statements in any order; findings are handed through.
      rule: see `objects.examples`.
      rest: what to do with photographs that no statement names, where any does; None: nothing.
    """
    table, named, folders = DiskTable(), set(), set()
    for item in items:
        if isinstance(item, Finding):
            yield item
            continue
        table.add(_key(item.path), item)
        named.add(item.split)
        folders.add(splits.of_folders(item.path))
    by_folder = named == {""} and len(folders - {""}) > 1
    for path in rest.images.photographs() if rest and len(table) else ():
        if _key(path) in table:
            continue
        if isinstance(item := rest.others(path), Finding):
            yield item
        else:
            table.add(_key(path), item)
    for statements in table.by_group():
        split = splits.of_folders(statements[0].path) if by_folder else ""
        yield from _merged(statements, rule, split)


def _key(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def _merged(
    statements: Sequence[Statement], rule: str, split: str
) -> Iterator[LabeledImage | Finding]:
    """One photograph's examples and findings; `split` is for where no statement names one."""
    first = statements[0]
    split_by = next((one for one in statements if one.split), first)
    size = next((one.size for one in statements if one.size), None)
    known: list[tuple[LabeledObject, Statement]] = []
    by_box = collections.defaultdict(list)
    # Within one file only equal boxes are of one object: thousands need not be compared.
    is_one_file = len({one.origin for one in statements}) == 1
    remarks: list[str | tuple] = []  # a tuple: two objects that are one, with what states them
    for statement in statements:
        if statement.split not in ("", split_by.split):
            clash = f"{split_by.split}{split_by.by()} and {statement.split}{statement.by()}"
            remarks.append(f"two splits: {clash}; {split_by.split} is taken")
        for thing in _scaled(statement, size):
            others = by_box[thing.box] if is_one_file else known
            same = [other for other in others if _are_one(*other, thing, statement)]
            if any(other.label == thing.label for other, _ in same):
                continue
            if same:
                remarks.append((*same[0], thing, statement))
            known.append((thing, statement))
            by_box[thing.box].append(known[-1])
    if all(isinstance(remark, str) for remark in remarks):
        remarks += filter(None, [_disagreeing(statements)])
    things = [thing for thing, _ in known]
    for remark in remarks:
        if isinstance(remark, str):
            yield Finding(first.path, remark)
        else:
            problem = _two_labels(*remark, _taken(known, rule))
            yield Finding(first.path, f"{problem} by --multiple_objects={rule}", Effect.CORRECTED)
    yield from objects.examples(first.path, things, rule, split_by.split or split, size)


def _two_labels(
    one: LabeledObject, by: Statement, other: LabeledObject, other_by: Statement, taken: str
) -> str:
    return f"two labels: {one.label}{by.by()} and {other.label}{other_by.by()}; {taken}"


def _taken(known: Sequence[tuple[LabeledObject, Statement]], rule: str) -> str:
    """Which label the example of a photograph with several objects has, and who states it."""
    if rule in ("each", "skip"):
        return "each is taken" if rule == "each" else "the photograph is left out"
    best = objects.best([thing for thing, _ in known], rule)
    by = next(statement.by() for thing, statement in known if thing is best)
    return f"{best.label}{by} is taken"


def _disagreeing(statements: Sequence[Statement]) -> tuple | None:
    """The first object of the first file and of one that has no label in common with it."""
    first = statements[0]
    labels = {thing.label for thing in first.objects}
    for other in statements[1:]:
        if other.origin != first.origin and labels.isdisjoint(t.label for t in other.objects):
            return first.objects[0], first, other.objects[0], other
    return None


def _scaled(statement: Statement, size: tuple[int, int] | None) -> Sequence[LabeledObject]:
    """The objects with boxes in pixels of `size`, where the statement refers to another."""
    if statement.size in (None, size):
        return statement.objects
    x, y = size[0] / statement.size[0], size[1] / statement.size[1]
    return [
        dataclasses.replace(thing, box=thing.box.scaled(y, x))
        if thing.box and not thing.box.is_fraction
        else thing
        for thing in statement.objects
    ]


def _are_one(
    known: LabeledObject, by: Statement, thing: LabeledObject, statement: Statement
) -> bool:
    """Whether two statements mean one object; within one file only equal boxes do."""
    if known.box == thing.box:
        return True
    if by.origin == statement.origin:
        return False
    if known.box is None or thing.box is None:
        # A label of the whole photograph names the object of that label.
        return known.label == thing.label or len(by.objects) == len(statement.objects) == 1
    return _overlap(known.box, thing.box) >= _SAME_OBJECT


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    height = min(one.ymax, other.ymax) - max(one.ymin, other.ymin)
    width = min(one.xmax, other.xmax) - max(one.xmin, other.xmin)
    common = max(height, 0.0) * max(width, 0.0)
    return common / (one.area + other.area - common)
