"""The one kind of error that becomes a line for the user. Any other exception is a bug."""


class InputError(ValueError):
    """Input that can't be used: an option's value, a file, a record.

    Attributes:
      problem: what is wrong, naming file, row or record.
      option: name of the option at fault, without dashes, or None.
      value: what it was set to, as the command line has it, or None.
      remedy: what to do about it.
      exit_code: of a script that it ends.
    """

    exit_code = 1

    def __init__(
        self, problem: str, *, option: str | None = None, value: object = None, remedy: str = ""
    ):
        self.problem, self.option, self.value, self.remedy = problem, option, value, remedy
        start = "" if option is None else f"--{option}: "
        if option is not None and value is not None:
            start = f"--{option}={value}: "
        super().__init__(f"{start}{problem}{' ' if remedy else ''}{remedy}")

    def about(self, option: str | None, remedy: str | None = None) -> "InputError":
        """The same error for another option, with another remedy where one is given."""
        remedy = self.remedy if remedy is None else remedy
        value = self.value if option is not None else None
        return type(self)(self.problem, option=option, value=value, remedy=remedy)


class UsageError(InputError):
    """Options that make no sense, alone or together, whatever lies on the disk."""

    exit_code = 2


class AgainError(InputError):
    """Others were missing, or a network; the same command goes on when they are back."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, for what starts scripts again


class Unreadable(OSError):
    """A file that this machine can't read for now; it says nothing of what is in the file."""

    def __init__(self, problem: str):
        super().__init__(problem)  # alone, so that it can be pickled


def missing_extra(extra: str, needed_by: str, option: str | None = None) -> InputError:
    """What to say where an optional dependency can't be imported."""
    return InputError(
        f"{needed_by} needs the extra {extra}.",
        option=option,
        remedy=f'Install it: pip install -c constraints.txt ".[{extra}]"',
    )


def one_line(error: Exception) -> str:
    """What to say of an error; of the operating system's, its words and its file."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        said = f"{place}{error.strerror}. What was there before is untouched."
    return " ".join(said.split())
