"""Puts new files in the place of former ones, whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping

from foundation import files
from foundation.errors import InputError


@contextlib.contextmanager
def partial_folder(target: str) -> Iterator[str]:
    """A fresh hidden folder next to `target`, removed when the block ends.

    Its name is fixed, so that the next export clears what a killed one left, and a second one at
    the same time is kept out.

    Raises:
      InputError: another process is writing to `target`.
    """
    partial = _hidden(target, "partial")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.own_folder(partial))
        except BlockingIOError as error:
            raise InputError(
                f"{target}: another export is writing there.",
                remedy="Wait for its end, or name another place.",
            ) from error
        yield partial


def replace_folder(partial: str, folder: str, token: str) -> None:
    """Renames `partial` to `folder`; a former `folder` stays whole if that fails.

    `token`: as of `recover`.
    """
    previous = _hidden(folder, "previous")
    shutil.rmtree(previous, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, previous)
    try:
        os.rename(partial, folder)
    except OSError:
        recover(folder, token)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def recover(folder: str, token: str) -> None:
    """Brings back a former `folder` whose replacement was killed after it was set aside.

    `token`: name of a file that such a folder holds, by which it is recognised.
    """
    previous = _hidden(folder, "previous")
    if os.path.exists(os.path.join(previous, token)) and not os.path.exists(folder):
        os.rename(previous, folder)


def replace_files(partial: str, places: Mapping[str, str]) -> None:
    """Moves files of the folder `partial` to their places, and removes former ones there.

    Args:
      partial: the folder.
      places: place → name in `partial`. A place whose file `partial` lacks is left empty. The model
        file must come first: it is removed first and written last, so that it never stands with
        another export's labels.

    Raises:
      OSError: a file could not be moved; the former ones are back.
    """
    with contextlib.ExitStack() as undo:
        for place, name in places.items():
            if os.path.isfile(place):
                former = os.path.join(partial, f"former_{name}")
                os.replace(place, former)
                undo.callback(os.replace, former, place)
        for place, name in reversed(places.items()):
            if os.path.exists(os.path.join(partial, name)):
                os.replace(os.path.join(partial, name), place)
        undo.pop_all()


def _hidden(target: str, state: str) -> str:
    """A name next to `target` that users give to no folder of their own."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{state}")
