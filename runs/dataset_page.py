"""dataset.html: what a conversion made and found, on one page that needs no other file."""

import collections
import datetime
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from PIL import Image, ImageDraw

from datasets import splits
from datasets.conversion.destination import DUPLICATES, NEAR_DUPLICATES, PAGE, REJECTED, Destination
from datasets.conversion.image_bytes import Changes, Photograph
from datasets.conversion.survey import SHARES, SIDES, Example, Survey
from datasets.conversion.tally import WHOLE, Conversion
from datasets.findings import Effect
from datasets.sources.image_folder import ImageFolder
from evaluation.report import templates
from evaluation.report.words import Words
from foundation import files
from foundation.labels import printable

# How many pairs of each sort, and findings, are on the page.
_PAIRS, _FINDINGS = 40, 1000
_SIDE = 160  # of the small pictures, in pixels
_EFFECTS = {
    Effect.REFUSED: "refused",
    Effect.LEFT_OUT: "left out, as an option asks",
    Effect.CORRECTED: "used, corrected",
}


def write(made: Conversion, survey: Survey, folder: ImageFolder, destination: Destination) -> str:
    """Writes the page next to the dataset, and returns its path.

    Args:
      made: what came of the conversion.
      survey: of the same photographs.
      folder: where the photographs are.
      destination: of the dataset.

    Raises:
      OSError: it can't be written.
    """
    words = Words("en")
    near = made.near_duplicates
    page = (
        templates.environment()
        .get_template("dataset.html")
        .render(
            words=words,
            title=f"Dataset {destination.name}",
            sentences=list(_sentences(made, words)),
            date=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
            **_classes(made),
            **_photographs(made, survey),
            **_ranges(made, survey),
            duplicates=[
                _pair(folder, pair.problem, (pair.same_as, ""), (pair.file, ""))
                for pair in _worst_first(made.duplicates)[:_PAIRS]
            ],
            num_duplicates=len(made.duplicates),
            duplicates_file=destination.side(DUPLICATES),
            near=None
            if near is None
            else [_near_pair(folder, pair) for pair in itertools.islice(near, _PAIRS)],
            num_near=len(near or ()),
            near_file=destination.side(NEAR_DUPLICATES),
            **_findings(made),
            findings_file=destination.side(REJECTED),
        )
    )
    path = destination.side_path(PAGE)
    with files.whole(path) as file:
        file.write(page)
    return path


def _sentences(made: Conversion, words: Words) -> Iterator[str]:
    yield f"{words.count(made.num_examples)} examples of {words.count(len(made.classes))} classes"
    effects = collections.Counter(finding.effect for finding in made.findings)
    parts = [
        (effects[Effect.REFUSED], "refused", "refused"),
        (effects[Effect.LEFT_OUT], "left out", "left out"),
        (effects[Effect.CORRECTED], "corrected", "corrected"),
        (len(made.duplicates), "exact duplicate", "exact duplicates"),
        (len(made.near_duplicates or ()), "pair of near duplicates", "pairs of near duplicates"),
    ]
    told = [f"{words.count(n)} {one if n == 1 else many}" for n, one, many in parts if n]
    if told:
        yield ", ".join(told)
    if clashes := sum(bool(pair.problem) for pair in made.duplicates):
        yield f"Duplicates in two splits or classes: {words.count(clashes)}"


def _classes(made: Conversion) -> dict[str, object]:
    names = sorted(made.counts, key=(*splits.SPLITS, WHOLE).index)
    columns = [[made.counts[name].get(label, 0) for label in made.classes] for name in names]
    if len(columns) > 1:
        names, columns = (
            [*names, "all"],
            [*columns, [sum(row) for row in zip(*columns, strict=True)]],
        )
    largest = [max([*column, 1]) for column in columns]
    rows = [
        (printable(label), [(column[i], _share(column[i], most)) for column, most in pairs])
        for i, label in enumerate(made.classes)
        for pairs in [list(zip(columns, largest, strict=True))]
    ]
    return {"splits": names, "classes": rows}


def _photographs(made: Conversion, survey: Survey) -> dict[str, object]:
    examples = [
        (printable(label), [_drawn(one) for one in survey.examples[label]])
        for label in made.classes
        if label in survey.examples
    ]
    return {"examples": examples, "left_out": len(examples) < len(made.classes)}


def _ranges(made: Conversion, survey: Survey) -> dict[str, object]:
    sides = [f"{low} to {high - 1}" for low, high in itertools.pairwise((1, *SIDES))]
    shares = [f"{low:.0%} to {high:.0%}" for low, high in itertools.pairwise((0, *SHARES, 1))]
    years = {year or "not known": count for year, count in sorted(survey.years.items())}
    return {
        "sides": _bars(dict(_named(survey.sides, [*sides, f"{SIDES[-1]} or more"]))),
        "shapes": _bars(dict(survey.shapes.most_common())),
        "formats": _bars(dict(collections.Counter(survey.formats).most_common())),
        "years": _bars(years),
        "boxes": _bars({str(number): count for number, count in sorted(survey.boxes.items())}),
        "shares": _bars(dict(_named(survey.shares, shares))),
    }


def _named(counts: Mapping[int, int], names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yields ranges by name, from the first to the last in which there is something."""
    for number in range(min(counts, default=0), max(counts, default=-1) + 1):
        yield names[number], counts.get(number, 0)


def _bars(counts: Mapping[str, int]) -> list[tuple[str, str, float]]:
    most = max([*counts.values(), 1])
    return [(name, Words("en").count(n), _share(n, most)) for name, n in counts.items()]


def _share(count: int, most: int) -> float:
    return round(count / most, 4)


def _worst_first(duplicates: Iterable) -> list:
    """Those that contradict each other first."""
    return sorted(duplicates, key=lambda pair: not pair.problem)


def _near_pair(folder: ImageFolder, pair) -> dict[str, object]:
    one, other = (
        (image.path, f"{image.label}, {split}")
        for image, split in zip((pair.first, pair.second), pair.splits, strict=True)
    )
    problems = []
    if pair.first.label != pair.second.label:
        problems.append(f"labels {pair.first.label} and {pair.second.label}")
    if pair.splits[0] != pair.splits[1]:
        problems.append(f"splits {pair.splits[0]} and {pair.splits[1]}")
    return _pair(folder, "; ".join(problems), one, other)


def _pair(folder: ImageFolder, problem: str, *pictures: tuple[str, str]) -> dict[str, object]:
    """Two photographs, each as a path and what is said of it, and what is wrong with them."""
    return {
        "problem": printable(problem),
        "pictures": [
            {"path": printable(path), "about": printable(about), "image": _small(folder, path)}
            for path, about in pictures
        ],
    }


def _small(folder: ImageFolder, path: str) -> str:
    """A photograph's small copy, as an address; "" for one that can't be read any more."""
    try:
        found = Photograph(folder.read(path)).encode(Changes(max_side=_SIDE))
    except ValueError:
        return ""
    return templates.data_url(f"image/{found.format}", found.data)


def _drawn(example: Example) -> dict[str, str]:
    """A small copy of a stored picture with its boxes."""
    picture = Image.open(io.BytesIO(example.encoded)).convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for box in example.boxes:
        corners = box.xmin * width, box.ymin * height, box.xmax * width - 1, box.ymax * height - 1
        for colour, distance in (("white", 0), ("#d9622b", 1), ("#d9622b", 2)):
            left, top, right, bottom = corners
            inner = left + distance, top + distance, right - distance, bottom - distance
            if inner[0] < inner[2] and inner[1] < inner[3]:
                draw.rectangle(inner, outline=colour)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    url = templates.data_url("image/jpeg", file.getvalue())
    return {"path": printable(example.path), "image": url}


def _findings(made: Conversion) -> dict[str, object]:
    kinds = collections.Counter(printable(finding.kind) for finding in made.findings)
    return {
        "kinds": _bars(dict(kinds.most_common())),
        "num_findings": len(made.findings),
        "findings": [
            (printable(one.file), printable(one.reason), _EFFECTS[one.effect])
            for one in itertools.islice(made.findings, _FINDINGS)
        ],
    }
