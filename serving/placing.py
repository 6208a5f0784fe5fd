"""Puts new files in the place of former ones, whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def partial_folder(target: str) -> Iterator[str]:
    """A fresh hidden folder next to `target`, removed when the block ends.

    Its name is fixed, so that the next export clears what a killed one left.
    """
    partial = _hidden(target, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def replace_files(partial: str, files: Mapping[str, str]) -> None:
    """Moves files of the folder `partial` to their places, and removes former ones there.

    Args:
      partial: the folder.
      files: place → name in `partial`. A place whose file `partial` lacks is left empty. The model
        file must come first: it is removed first and written last, so that it never stands with
        another export's labels.

    Raises:
      OSError: a file could not be moved; the former ones are back.
    """
    with contextlib.ExitStack() as undo:
        for place, name in files.items():
            if os.path.isfile(place):
                former = os.path.join(partial, f"former_{name}")
                os.replace(place, former)
                undo.callback(os.replace, former, place)
        for place, name in reversed(files.items()):
            if os.path.exists(os.path.join(partial, name)):
                os.replace(os.path.join(partial, name), place)
        undo.pop_all()


def _hidden(target: str, state: str) -> str:
    """A name next to `target` that users give to no folder of their own."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{state}")
