"""The licences of all pinned packages, from what is installed: `make licences` prints them."""

import importlib.metadata
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from packaging.requirements import Requirement

_PINS = pathlib.Path(__file__).parent.parent / "constraints.txt"
# Longer ones are the licence's text.
_LONGEST_NAME = 80
ABSENT = "not installed here"
# Whose metadata don't say, or that only another system or Python installs; read in their LICENSE
# files or in what the package index says of them.
_READ = {
    "async-timeout": "Apache-2.0",
    "atheris": "Apache-2.0",
    "audioop-lts": "PSF-2.0",
    "colorama": "BSD-3-Clause",
    "coloredlogs": "MIT",
    "exceptiongroup": "MIT",
    "huey": "MIT",
    "humanfriendly": "MIT",
    "mpmath": "BSD-3-Clause",
    "namex": "Apache-2.0",
    "pyreadline3": "BSD-3-Clause",
    "python-dateutil": "Apache-2.0 AND BSD-3-Clause",
    "pywin32": "PSF-2.0",
    "simple-parsing": "MIT",
    "skops": "MIT",
    "sympy": "BSD-3-Clause",
    "tomli": "MIT",
    "tzdata": "Apache-2.0",
    "waitress": "ZPL-2.1",
}
# Of the extra `gpu`: whoever installs it takes CUDA from NVIDIA under NVIDIA's terms.
_OF_NVIDIA = "LicenseRef-NVIDIA-Proprietary"


class Pin(NamedTuple):
    """A pinned package, the condition under which it is taken, and its licence."""

    name: str
    version: str
    condition: str
    licence: str


def pins(path: pathlib.Path = _PINS) -> Iterator[Pin]:
    """Every pin of a constraints file, in its order."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if pin := line.partition("#")[0].strip():
            wanted = Requirement(pin)
            (version,) = wanted.specifier
            yield Pin(wanted.name, version.version, str(wanted.marker or ""), licence(wanted.name))


def licence(name: str) -> str:
    """What a package's metadata say: an SPDX expression (PEP 639), a name, or classifiers."""
    if name in _READ:
        return _READ[name]
    if name.startswith("nvidia-"):
        return _OF_NVIDIA
    try:
        found = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ABSENT
    named = " ".join((found.get("License") or "").split())
    kinds = [
        one.rpartition(" :: ")[2]
        for one in found.get_all("Classifier", [])
        if one.startswith("License ::")
    ]
    short = named if len(named) <= _LONGEST_NAME else ""
    return found.get("License-Expression") or short or ", ".join(kinds) or "not stated"


if __name__ == "__main__":
    for found in pins():
        condition = f"  ({found.condition})" if found.condition else ""
        print(f"{found.name} {found.version}  {found.licence}{condition}")
