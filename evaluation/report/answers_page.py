"""The data of the page of classified pictures; answers.html in this folder is its template."""

import dataclasses
from collections.abc import Mapping, Sequence

from evaluation.report import page
from evaluation.report.words import Words
from foundation.labels import printable

_MOST_CLASSES = 3  # that are written under a picture


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture on the page.

    Attributes:
      filename: its name.
      classes: its likeliest (label, probability), likeliest first.
      unsure: whether it is marked so.
      thumbnail: a JPEG.
      heat: a JPEG of which places led to the likeliest class; None where that was not asked for.
    """

    filename: str
    classes: Sequence[tuple[str, float]]
    unsure: bool
    thumbnail: bytes
    heat: bytes | None = None


def html(
    shown: Sequence[Shown],
    problems: Mapping[str, str],
    unsure_below: float | None,
    language: str,
) -> str:
    """One page that needs no other file: a gallery for each class, the surest pictures first.

    Args:
      shown: the pictures.
      problems: file → why it could not be classified.
      unsure_below: probability under which pictures are marked; None: none are.
      language: of `evaluation.options.LANGUAGES`.
    """
    words = Words(language)
    by_label: dict[str, list[Shown]] = {}
    for one in sorted(shown, key=lambda one: -one.classes[0][1]):
        by_label.setdefault(one.classes[0][0], []).append(one)
    sections = [
        {
            "label": label,
            "count": words.count(len(pictures)),
            "pictures": [_picture(one, words) for one in pictures],
        }
        for label, pictures in sorted(by_label.items(), key=lambda item: item[0].casefold())
    ]
    num_unsure = sum(one.unsure for one in shown)
    return (
        page.environment()
        .get_template("answers.html")
        .render(
            words=words,
            title=words("Classified pictures"),
            sentences=_sentences(len(shown), num_unsure, unsure_below, len(problems), words),
            num_unsure=num_unsure,
            sections=sections,
            problems=[(printable(name), reason) for name, reason in problems.items()],
        )
    )


def _sentences(
    count: int, num_unsure: int, unsure_below: float | None, num_problems: int, words: Words
) -> list[str]:
    found = [words("{count} pictures", count=words.count(count))]
    if unsure_below is not None:
        found.append(
            words(
                "{count} unsure: their likeliest class has less than {share}",
                count=words.count(num_unsure),
                share=words.share(unsure_below, 0),
            )
        )
    if num_problems:
        found.append(words("{count} could not be classified", count=words.count(num_problems)))
    return found


def _picture(one: Shown, words: Words) -> dict[str, object]:
    return {
        "filename": printable(one.filename),
        "image": page.data_url("image/jpeg", one.thumbnail),
        "heat": one.heat and page.data_url("image/jpeg", one.heat),
        "unsure": one.unsure,
        "classes": [
            (label, round(probability, 4), words.share(probability))
            for label, probability in one.classes[:_MOST_CLASSES]
        ],
    }
