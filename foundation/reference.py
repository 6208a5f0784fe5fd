"""Options described for people: --help, and the README's table."""

import textwrap
from collections.abc import Sequence
from typing import Any

from foundation import options
from foundation.options import Option, Options

_WIDTH = 100


def help_text(about: str, jobs: Sequence[Options]) -> str:
    """What a script does, and its flags under the headings of their groups."""
    lines = [about]
    for group in (group for job in jobs for group in options.all_groups(job)):
        if found := options.listed_with_defaults(group):
            lines += ["", options.heading(type(group))]
            lines += [line for one in found for line in _help_lines(one)]
    return "\n".join(lines)


def _help_lines(one: Option) -> list[str]:
    choices = f"<{'|'.join(one.choices)}>: " if one.choices else ""
    named = f" Also --{', --'.join(one.aliases)}." if one.aliases else ""
    default = f" (default: {text(one.default)})" if one.default not in (None, (), "") else ""
    return textwrap.wrap(
        f"{one.flag}: {choices}{one.help}{named}{default}",
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_on_hyphens=False,
    )


def text(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, tuple | list):
        return ",".join(
            ":".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value
        )
    return str(value)


def table(scripts: dict[str, type[Options]]) -> str:
    """A Markdown table: a row for each group of each script, with the names of its flags."""
    rows = ["| script | group | flags |", "|---|---|---|"]
    for script, job in scripts.items():
        name, inherited = f"`{script}`", set()
        for other, base in scripts.items():
            if base is not job and issubclass(job, base):
                rows.append(f"| {name} | | all of `{other}` |")
                name, inherited = "", {type(group) for group in options.all_groups(base())}
        for group in options.all_groups(job()):
            if type(group) not in inherited and (found := options.listed(type(group))):
                named = " ".join(f"`--{one.name}`" for one in found)
                rows.append(f"| {name} | {options.heading(type(group))} | {named} |")
                name = ""
    return "\n".join(rows)
