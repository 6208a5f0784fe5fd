"""The README's table of flags, made from the options: `python -m runs.flags_table` writes it."""

import pathlib
import re

from foundation import files, reference
from runs.options import JOBS

_README = pathlib.Path(__file__).parent.parent / "README.md"
_TABLE = re.compile(r"(?<=<!-- flags -->\n).*?(?=<!-- end of flags -->)", re.DOTALL)


def updated(text: str) -> str:
    """The README's text with today's table between its two markers."""
    table = reference.table(JOBS)
    return _TABLE.sub(lambda _: f"{table}\n", text)


if __name__ == "__main__":
    new = updated(_README.read_text(encoding="utf-8"))
    with files.whole(_README) as file:
        file.write(new)
