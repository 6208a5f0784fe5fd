"""The files of an evaluation, which take their places together, whenever a process is killed.

They are written in a hidden folder in their place. Once all are whole, one rename of that folder
says so; then former ones are removed, and these are moved, metrics.json last. What lies there is
of one evaluation at any moment. Where a kill left a part of it, the next evaluation or reader puts
the rest there.
"""

import contextlib
import glob
import os
from collections.abc import Iterator

from foundation import files
from foundation.errors import InputError

METRICS = "metrics.json"
# All of them; each evaluation has each.
FILES = (
    METRICS,
    "per_class.csv",
    "predictions.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "reliability.png",
    "report.html",
)
_WRITING, _WHOLE = ".evaluation.writing", ".evaluation.whole"


@contextlib.contextmanager
def publishing(eval_dir: str) -> Iterator[str]:
    """Yields a folder to write all FILES to; they take their places when the block ends.

    After an error, those of the former evaluation stay. A second evaluation waits for the first.

    Raises:
      OSError: a file could not be written.
    """
    writing = os.path.join(eval_dir, _WRITING)
    with files.locked(eval_dir, wait=True):
        _complete(eval_dir)
        _remove_partial(eval_dir)
        with files.own_folder(writing):
            yield writing
            files.say_whole(writing, os.path.join(eval_dir, _WHOLE))
        _complete(eval_dir)


@contextlib.contextmanager
def settled(folder: str) -> Iterator[None]:
    """Has the files that lie in a folder be all of one evaluation, while the block runs.

    Raises:
      InputError: what a killed evaluation left can't be put in place.
    """
    if not os.path.isdir(folder):
        yield
        return
    with files.locked(folder, wait=True):
        try:
            _complete(folder)
        except OSError as error:
            raise InputError(
                f"{folder}: an evaluation was ended while it put its files there, and they can't "
                f"be moved ({error.strerror}).",
                remedy="Evaluate again with eval_image_classifier.py.",
            ) from error
        yield


def _complete(folder: str) -> None:
    """Moves files that are whole to their places; a second call does what is left of a first."""
    whole = os.path.join(folder, _WHOLE)
    if os.path.isdir(whole):
        # Names that are gone from there were moved already.
        for name in filter(os.listdir(whole).__contains__, FILES):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))
        files.move_all(whole, folder, last=METRICS)


def _remove_partial(folder: str) -> None:
    """Removes what killed evaluations of earlier versions left."""
    for name in FILES:
        for path in glob.glob(os.path.join(glob.escape(folder), f"{name}.*.tmp")):
            os.remove(path)
