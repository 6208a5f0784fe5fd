"""Names to show in place of a model's classes, from a file such as cat_to_name.json."""

from collections.abc import Sequence

from foundation import documents
from foundation.errors import InputError

_OPTION = "category_names"


def read(path: str) -> dict[str, str]:
    """The file's names by class or by number; a list is by number.

    Raises:
      InputError: there is no such file, or it is no JSON of names.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = documents.parsed(file.read())
    except OSError as error:
        raise InputError(f"{error.strerror}.", option=_OPTION, value=path) from error
    except ValueError as error:
        raise InputError(f"it is no JSON: {error}.", option=_OPTION, value=path) from error
    if isinstance(content, list):
        content = {str(number): name for number, name in enumerate(content)}
    if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
        return content
    raise InputError(
        "it is JSON, but no class or number to name.",
        option=_OPTION,
        value=path,
        remedy='Write {"21": "fire lily", …}.',
    )


def shown(labels: Sequence[str], path: str) -> tuple[tuple[str, ...], str]:
    """What each class is to be called, and a line on classes without a name; "" where all have.

    The file's keys are taken for classes where one of them is one; else for numbers from 0, or from
    1 where the last class would have none and number 0 is free.

    Raises:
      InputError: see `read`; or no key is of this model.
    """
    names = read(path)
    by_label = not names.keys().isdisjoint(labels)
    first = int("0" not in names and str(len(labels)) in names)
    keys = labels if by_label else [str(first + i) for i in range(len(labels))]
    missing = [label for label, key in zip(labels, keys, strict=True) if key not in names]
    if len(missing) == len(labels):
        raise InputError(
            f"it names none of the model's {len(labels)} classes, such as {labels[0]!r}.",
            option=_OPTION,
            value=path,
            remedy="Its keys must be the classes of labels.txt, or their numbers.",
        )
    given = tuple(names.get(key, label) for label, key in zip(labels, keys, strict=True))
    few = f"{', '.join(missing[:3])}{', …' if missing[3:] else ''}"
    line = f"{path} has no name for {len(missing)} of {len(labels)} classes: {few}"
    return given, line if missing else ""
