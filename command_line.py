"""How every script starts and fails: flags from options, errors as one line, exit codes.

This is the only module that knows absl's flags. TensorFlow is not imported here, so that `--help`
answers at once; a script calls `load_tensorflow` when it has work to do.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

try:
    from absl import flags
except ModuleNotFoundError as absent:  # in a new terminal, most of all
    sys.exit(
        f"{os.path.basename(sys.argv[0])}: error: {sys.executable} has no package "
        f"{absent.name!r}. Activate the environment of the README (source .venv/bin/activate), or "
        "make it by: make install"
    )

from foundation import former_flags, lines, machine, options, reference
from foundation.errors import InputError, UsageError, one_line
from foundation.options import Option, Options

_Job = TypeVar("_Job", bound=Options)
_INPUT_ERROR, _USAGE_ERROR, _INTERRUPTED = 1, 2, 130


@options.options
class _EveryScript(Options):
    """Every script."""

    help: bool = options.option(False, "Show this and stop.", aliases=("helpfull", "helpshort"))
    debug: bool = options.option(
        False, "Show the full stack trace of an error in place of its one line."
    )
    verbosity: str = options.option(
        "info",
        "Which lines are shown: errors alone, warnings too, or all; debug adds what TensorFlow and "
        "its libraries write.",
        choices=lines.LEVELS,
        parse=lambda word: former_flags.VERBOSITY.get(word, word),
    )
    log_json: bool = options.option(
        False,
        "Print each line as a JSON object, for machines: time, level, event and message; progress "
        "and evaluations with their numbers, and at last an end with the exit code.",
    )


# What scripts say goes through it, by `say` in general.
printer = lines.printer
say = printer.say
# absl.logging has a flag --verbosity too. Where TensorFlow imported it before, it is put back once
# ours is read; where it comes later, it finds the name free.
_of_absl: dict[str, flags.Flag] = {}


def run(main: Callable[[_Job], None], job: type[_Job], words: str | None = None) -> None:
    """Reads the command line into options, calls `main` with them, and ends the process.

    Args:
      main: the script.
      job: the class of its options.
      words: a repeated option that takes the words that belong to no flag, so that
        `--image a.jpg b.jpg` and `--image photos/*.jpg` mean what they say.

    Exit codes: 0 done; 1 bad input (one line on standard error); 2 usage; 75 others were missing,
    so start again; 130 stopped by Ctrl-C.
    """
    sys.stdout, sys.stderr = lines.Outliving(sys.stdout), lines.Outliving(sys.stderr)
    define(job)
    try:
        given = parse(job, sys.argv, words)
        if flags.FLAGS.help:
            about = (sys.modules["__main__"].__doc__ or "").strip()
            return print(reference.help_text(about, [job(), _EveryScript()]))
        given = given.completed()
        options.check(given)
        main(given)
        printer.end(0)
    except flags.UnrecognizedFlagError as error:
        today = former_flags.TODAY.get(error.flagname)
        unknown = f"Unknown command line flag '{error.flagname}'. Today: {today}"
        _fail(unknown if today else str(error), _USAGE_ERROR)
    except flags.Error as error:
        _fail(str(error), _USAGE_ERROR)
    except KeyboardInterrupt:
        _fail("stopped by Ctrl-C", _INTERRUPTED)
    except (InputError, OSError) as error:
        if flags.FLAGS.debug:
            traceback.print_exc()
        _fail(one_line(error), getattr(error, "exit_code", _INPUT_ERROR))
    except Exception as error:
        printer.end(_INPUT_ERROR, f"{type(error).__name__}: {error}")
        raise


def define(job: type[Options]) -> None:
    """Makes a flag of each option of a job."""
    if "verbosity" in flags.FLAGS:
        _of_absl["verbosity"] = flags.FLAGS["verbosity"]
        del flags.FLAGS.verbosity, flags.FLAGS.v
    for one in [*options.all_options(job), *options.listed(_EveryScript)]:
        if one.repeated:
            flags.DEFINE_multi(_Parser(one), _Serializer(), one.name, one.default, one.help)
        elif one.type is bool:
            flags.DEFINE_bool(one.name, one.default, one.help)
        else:
            flags.DEFINE(_Parser(one), one.name, one.default, one.help, serializer=_Serializer())
        for alias in one.aliases:
            flags.DEFINE_alias(alias, one.name)


def parse(job: type[_Job], argv: Sequence[str], words: str | None = None) -> _Job:
    """The options that a command line gives.

    Raises:
      flags.Error, UsageError: a flag that is unknown, a value that it can't have, a stray word.
    """
    argv = _join_spaced_booleans(former_flags.without_logging(argv))
    printer.as_json = lines.are_for_machines(argv)
    stray = flags.FLAGS(argv)[1:]
    if stray and not words and not flags.FLAGS.help:
        raise flags.Error(f"unexpected argument {stray[0]!r}; every value needs its --flag=")
    if stray and words:
        flags.FLAGS[words].value = [*flags.FLAGS[words].value, *stray]
        flags.FLAGS[words].present += 1
    printer.verbosity = _EveryScript(verbosity=flags.FLAGS.verbosity).verbosity
    del flags.FLAGS.verbosity
    for name, flag in _of_absl.items():
        flags.FLAGS[name] = flag
    flag_of = {name: flags.FLAGS[name] for name in options.values(job())}
    return options.changed(job(), {name: f.value for name, f in flag_of.items() if f.present})


class _Parser(flags.ArgumentParser):
    """Has an option read its own text."""

    def __init__(self, one: Option):
        super().__init__()
        self._option = one

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        try:
            value = self._option.read(argument)
            # absl gathers the entries of a repeated flag itself.
            return value[0] if self._option.repeated else value
        except UsageError as error:
            raise ValueError(" ".join(filter(None, (error.problem, error.remedy)))) from error


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value: Any) -> str:
        return reference.text(value)


def load_tensorflow() -> None:
    """Imports TensorFlow; its start-up notices, which hide what a script says, are for debug."""
    machine.keep_freed_memory()
    hidden = "3" if not os.path.exists("/dev/nvidiactl") else "2"
    if printer.shows("debug"):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", hidden)
    with machine.quick_imports(), lines.errors_held_back():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401


def _fail(message: str, code: int) -> None:
    printer.fail(code, message)
    if code == _USAGE_ERROR:
        print(f"Try: python {os.path.basename(sys.argv[0])} --help", file=sys.stderr)
    sys.stdout.flush()
    sys.exit(code)


def _join_spaced_booleans(argv: list[str]) -> list[str]:
    """Understands `--clone_on_cpu True`, which absl would read as a flag and a stray word."""
    joined, words = argv[:1], iter(argv[1:])
    for word in words:
        if word == "--":
            return [*joined, word, *words]
        previous = joined[-1].lstrip("-")
        is_flag = joined[-1].startswith("-") and previous in flags.FLAGS
        if is_flag and flags.FLAGS[previous].boolean and options.is_truth(word):
            joined[-1] = f"--{previous}={word}"
        else:
            joined.append(word)
    return joined
