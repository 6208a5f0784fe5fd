"""Findings: what a source or a conversion has to report of a file."""

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import TypeVar

from foundation.errors import InputError

_Item = TypeVar("_Item")


class Effect(enum.Enum):
    """What a finding means for the photograph or the annotation."""

    REFUSED = "it can't be used"
    LEFT_OUT = "it is left out, as an option asks"
    CORRECTED = "it is used, but not as it was found"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing to report.

    Attributes:
      file: photograph or annotation, by its path in the folder it comes from.
      reason: begins with its kind, up to a colon.
      effect: what it means; only REFUSED is an error.
    """

    file: str
    reason: str
    effect: Effect = Effect.REFUSED

    @property
    def kind(self) -> str:
        return self.reason.split(":")[0]

    @property
    def is_error(self) -> bool:
        return self.effect is Effect.REFUSED

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def stopped_by(finding: Finding) -> InputError:
    """The error of --on_error=fail."""
    return InputError(f"{finding}. Stopped by --on_error=fail.")


def until_error(items: Iterable[_Item | Finding]) -> Iterator[_Item | Finding]:
    """Yields what a source does; raises InputError at the first finding that is an error."""
    for item in items:
        if isinstance(item, Finding) and item.is_error:
            raise stopped_by(item)
        yield item
