"""A trial of a search: a training in a process of its own, watched while it runs."""

import contextlib
import csv
import functools
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from foundation import machine

LOG = "log.txt"
SCRIPT = pathlib.Path(__file__).parent.parent / "train_image_classifier.py"
_HISTORY, _ACCURACY = "history.csv", "eval_accuracy"
_SECONDS_TO_END = 20  # for the checkpoint that a training saves when it is asked to stop


class TrialProcess:
    """Begins a training and tells how it goes; a context manager that leaves no process behind.

    Attributes:
      folder: its train_dir; LOG in it has what the training printed.
    """

    def __init__(self, folder: str, flags: Sequence[str]):
        self.folder = folder
        self._command = [sys.executable, str(SCRIPT), f"--train_dir={folder}", *flags]

    def __enter__(self) -> "TrialProcess":
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, LOG), "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # So that a search which is killed leaves no training behind.
                preexec_fn=functools.partial(machine.end_with_parent, os.getpid()),
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float) -> int | None:
        """The exit code of a training that ends within so many seconds, else None."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def accuracies(self) -> list[float]:
        """What the evaluations inside the training found so far, in their order."""
        try:
            path = os.path.join(self.folder, _HISTORY)
            with open(path, newline="", encoding="utf-8") as file:
                return [float(row[_ACCURACY]) for row in csv.DictReader(file) if row[_ACCURACY]]
        except (FileNotFoundError, KeyError):
            return []

    def last_words(self) -> str:
        """The last line of its log: what was wrong, where it failed."""
        with open(os.path.join(self.folder, LOG), encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        said = [line for line in lines if not line.startswith("Try: python ")]
        return said[-1] if said else "it said nothing"
