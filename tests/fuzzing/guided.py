"""Fuzzing that follows which lines an input reaches, by Atheris, for the targets in plain Python.

    python -m tests.fuzzing.guided csv -runs=100000

It needs the extra `fuzz`. Further options are libFuzzer's. It ends at the first input that does
harm, and says which one that is.
"""

import pathlib
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["datasets", "foundation", "runs.category_names"]):
    from tests.fuzzing import data_targets

from foundation.errors import InputError
from tests.fuzzing.guard import Guard


def main() -> None:
    """Fuzzes the target that the command line names."""
    target = data_targets.TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as place:
        folders = [pathlib.Path(place) / name for name in ("inside", "outside", "seeds")]
        for folder in folders:
            folder.mkdir()
        inside, outside, seeds = folders
        sound, read = target.prepare(inside)
        for number, data in enumerate(sound):
            (seeds / str(number)).write_bytes(data)
            read(data)
        guard = Guard([inside], str(outside))

        def one(data: bytes) -> None:
            guard.on = True
            try:
                read(data)
            except InputError:
                pass
            finally:
                guard.on = False
            if found := guard.taken():
                raise AssertionError(found[0])

        atheris.Setup([*sys.argv, "-timeout=1", "-rss_limit_mb=1536", str(seeds)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
