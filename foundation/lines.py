"""Lines that a script says: plain for people, or JSON objects for machines."""

import contextlib
import datetime
import errno
import json
import math
import numbers
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

# Each shows what those before it show.
LEVELS = ("error", "warning", "info", "debug")
_WARNING = "Warning: "
_NO = ("false", "False", "f", "0", "no", "n")


class Line(str):
    """A line for people that carries its numbers for machines."""

    event: str
    fields: dict[str, Any]

    def __new__(cls, text: str, event: str, **fields: Any) -> "Line":
        """
        Args:
          text: the line.
          event: what happened, in a word that programs look for, such as "progress".
          fields: its numbers by name, as JSON has them; None and what is not finite become null.
        """
        line = super().__new__(cls, text)
        line.event, line.fields = event, fields
        return line


class Printer:
    """Where a script's lines go.

    As JSON, each line on standard output is an object with "time" (ISO 8601, UTC), "level" (of
    `LEVELS`), "event" and "message": "line" in general, "progress" and "evaluation" with their
    numbers, and at last one "end" with "exit_code".
    """

    def __init__(self, verbosity: str = "info", as_json: bool = False):
        """`verbosity`: of `LEVELS`; lines of the levels after it are left out."""
        self.verbosity, self.as_json = verbosity, as_json

    def shows(self, level: str) -> bool:
        return LEVELS.index(level) <= LEVELS.index(self.verbosity)

    def say(self, line: str) -> None:
        """Prints a line at once, also into a file or a pipe; "Warning: " begins a warning.

        A `Line` of the event "end" is the error with which a script ends without raising it; it
        begins with "Error: ", and its field is the `exit_code`.
        """
        if getattr(line, "event", "") == "end":
            return self.fail(line.fields["exit_code"], line.removeprefix("Error: "))
        text = line.lstrip("\n")  # which sets paragraphs apart for people
        level = "warning" if text.startswith(_WARNING) else "info"
        if not self.shows(level):
            return
        if self.as_json:
            event, fields = getattr(line, "event", "line"), getattr(line, "fields", {})
            self._object(level, event, text.removeprefix(_WARNING), **fields)
        else:
            print(harmless(line), flush=True)

    def note(self, line: str) -> None:
        """A warning beside answers: on standard error, so that a pipe gets the answers alone."""
        if self.as_json:
            self._object("warning", "line", line)
        elif self.shows("warning"):
            print(harmless(line), file=sys.stderr, flush=True)

    @property
    def shows_bars(self) -> bool:
        """Whether bars may be drawn on standard error: for people, where lines are shown."""
        return self.shows("info") and not self.as_json

    def end(self, exit_code: int, message: str = "") -> None:
        """The last object; `message`: of the error."""
        if self.as_json:
            self._object("error" if exit_code else "info", "end", message, exit_code=exit_code)

    def fail(self, exit_code: int, message: str) -> None:
        """Says the error with which a script ends, on standard error."""
        self.end(exit_code, message)
        script = os.path.basename(sys.argv[0])
        print(harmless(f"{script}: error: {message}"), file=sys.stderr, flush=True)

    def _object(self, level: str, event: str, message: str, **fields: Any) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        found = {"time": now, "level": level, "event": event, "message": message}
        found |= {name: _plain(value) for name, value in fields.items()}
        print(json.dumps(found, ensure_ascii=False), flush=True)


# Of this process: a script sets it as its command line says.
printer = Printer()


class Outliving:
    """Standard output or error that goes on when its reader, such as `head` or a terminal, is gone.

    The work that lines tell of is not done for its lines: those that nobody reads are dropped.
    """

    def __init__(self, stream: TextIO | None):
        """`stream`: as `sys` has it, which is None where whoever began the process closed it."""
        self._stream = stream or open(os.devnull, "w")
        self._stream.reconfigure(errors="replace")  # names need not fit the terminal's encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._unread_is_dropped():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unread_is_dropped():
            self._stream.flush()

    @contextlib.contextmanager
    def _unread_is_dropped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # of a pipe, of a terminal
                raise OSError(error.errno, error.strerror, self._stream.name) from error
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


def are_for_machines(argv: Sequence[str]) -> bool:
    """What the last --log_json of a command line says, whatever else is wrong with it."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    flag = re.compile(r"--?(no)?log_json(?:=(\w*))?")
    said = [found for word in words if (found := flag.fullmatch(word))]
    return bool(said) and not said[-1][1] and said[-1][2] not in _NO


def bars_hidden() -> bool | None:
    """For `tqdm(disable=…)`: bars are for a terminal, and only where lines are shown."""
    return None if printer.shows_bars else True


def harmless(line: str) -> str:
    """A line without what turns, moves or clears a terminal, as names in it may."""
    if line.isprintable():
        return line
    kept = ("\n", "\t")
    return "".join(
        one if one.isprintable() or one in kept or one.isspace() and one > "\x9f" else "�"
        for one in line
    )


def _plain(value: Any) -> Any:
    """Numbers of any library as JSON has them, which has no word for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, numbers.Integral):
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return value


@contextlib.contextmanager
def errors_held_back() -> Iterator[None]:
    """Keeps what libraries write to standard error meanwhile, and shows it if there is an error.

    Some write to the file descriptor itself, whatever the log level is. Where TensorFlow's own
    (TF_CPP_MIN_LOG_LEVEL) is 0, which shows all, so are these.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except BaseException:
            notices.seek(0)
            os.write(original, notices.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
