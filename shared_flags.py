"""Flags that two or more scripts define, and how every script starts and fails.

Only the scripts and this module know absl flags; everything below takes plain arguments.
TensorFlow is not imported here, so that `--help` answers at once.
"""

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags

USAGE_ERROR = 2
INPUT_ERROR = 1
_TRUTH_WORDS = {"true", "false", "t", "f", "yes", "no", "y", "n", "1", "0"}

_DATASET_FLAGS = ("dataset_dir", "dataset_name", "tfrecord_file", "path_to_csv")

_DEBUG = flags.DEFINE_bool(
    "debug", False, "Show the full stack trace of an error in place of its one line."
)


class UsageError(Exception):
    """Flags that are well-formed one by one but make no sense together."""


def define_dataset_flags(split: str) -> None:
    """Where the examples come from; `split` is the default of --dataset_split_name."""
    flags.DEFINE_string(
        "dataset_dir", None, "Folder with the shards, labels.txt and dataset.json of a dataset."
    )
    flags.DEFINE_string(
        "dataset_name",
        None,
        "Name the shards begin with (NAME_SPLIT-00000-of-00004.tfrecord). "
        "Not needed when the folder holds one dataset.",
    )
    flags.DEFINE_string("dataset_split_name", split, "Split to read: train, validation, test, …")
    flags.DEFINE_string(
        "tfrecord_file",
        None,
        "One TFRecord file, a comma-separated list or a glob, in place of --dataset_dir.",
    )
    flags.DEFINE_string(
        "path_to_csv",
        None,
        "CSV of image-label pairs that the records were made from; only its class names are read: "
        "for records that carry none, and to check the names that they carry.",
    )
    flags.DEFINE_alias("csv_file", "path_to_csv")
    flags.DEFINE_alias("chemin_csv", "path_to_csv")
    flags.DEFINE_alias("chemin_tfrecords", "tfrecord_file")
    flags.DEFINE_integer(
        "labels_offset",
        0,
        "Subtracted from every label and from the number of classes: 1 when the records number "
        "their classes from 1, with 0 for the background.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "num_preprocessing_threads",
        None,
        "Threads that decode and augment; unset means as many as processors.",
        lower_bound=1,
    )


def define_input_flags() -> None:
    """How the examples are read, where all of them are."""
    flags.DEFINE_integer(
        "max_bad_records",
        0,
        "How many records that can't be read are passed over. Unless it is 0, all images are "
        "decoded once at the start to find them.",
        lower_bound=0,
    )
    flags.DEFINE_enum(
        "cache",
        "none",
        ["none", "memory", "disk"],
        "Copy the TFRecord files into memory or onto the local disk first; for files on a network "
        "or compressed ones.",
    )


def define_model_flags(name_default: str | None) -> None:
    """Which net and which pixels; None as default means: as run.json says."""
    flags.DEFINE_string("model_name", name_default, "Net, by its slim name, such as inception_v3.")
    flags.DEFINE_string(
        "preprocessing_name",
        None,
        "Preprocessing recipe: inception, vgg, cifarnet (for small images), lenet or addons; unset "
        "means the one of the net.",
    )
    flags.DEFINE_bool("use_grayscale", None, "Turn the images to one channel.")


def define_cache_dir_flag() -> None:
    """Where --checkpoint_path=pretrained keeps what it downloads."""
    flags.DEFINE_string(
        "cache_dir",
        None,
        "Folder for the downloads of --checkpoint_path=pretrained; unset: "
        "~/.cache/slim_image_classifiers.",
    )


def define_tracking_flag(what: str) -> None:
    """Whether MLflow gets to know; `what` it gets."""
    flags.DEFINE_enum(
        "tracking", "none", ["none", "mlflow"], f"mlflow: also log {what} to MLflow (extra mlflow)."
    )


def define_legacy_flags() -> None:
    """Flags of TF-Slim whose mechanism is gone; values that mean 'off' are accepted."""
    flags.DEFINE_string("master", "", "Gone with TensorFlow 1; only the empty value is accepted.")
    flags.DEFINE_bool("quantize", False, "Gone with TensorFlow 1; only false is accepted.")


def check_legacy_flags() -> None:
    """Refuses legacy flags that ask for something, and names what to use now."""
    values = flags.FLAGS
    if values.master:
        raise UsageError(
            f"--master={values.master}: TensorFlow sessions are gone. Leave it out; several "
            "machines are started with --worker_hosts=HOST:PORT,HOST:PORT and --task, or TF_CONFIG."
        )
    if values.quantize:
        raise UsageError(
            "--quantize: rewriting the graph for quantized arithmetic is gone. Leave it out and "
            "export with export_model.py --formats=tflite --tflite_quantization=dynamic."
        )


def comma_list(value: str | None) -> tuple[str, ...]:
    """'a, b,' → ('a', 'b'); None and '' → ()."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def explicit(*names: str) -> dict[str, object]:
    """The values of those flags that the command line set by hand."""
    return {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].present}


def printable(text: str) -> str:
    """Text for the screen: bytes of a file name that are no text, and control characters, as �."""
    return "".join(character if character.isprintable() else "�" for character in text)


def recipe(config, find: Callable[[str], str], sizes: Sequence[int] = (), **options):
    """As runs.recipes.recipe_of."""
    from runs import recipes

    return recipes.recipe_of(config, find, sizes, **options)


def dataset_source(config) -> dict[str, object]:
    """Arguments of `tfrecord_dataset.find` but the split: the run's, and over them the flags.

    Args:
      config: the RunConfig, or None. Where the flags name another place than its own, nothing but
        its labels_offset is taken from it.
    """
    given = {name: flags.FLAGS[name].value for name in _DATASET_FLAGS if flags.FLAGS[name].value}
    elsewhere = "dataset_dir" in given or "tfrecord_file" in given
    known = None if elsewhere else config
    of_run = {name: getattr(known, name, None) for name in _DATASET_FLAGS}
    if not os.path.exists(of_run["path_to_csv"] or ""):
        of_run["path_to_csv"] = None  # moved away since the training; run.json has the classes
    offset = config.labels_offset if config else flags.FLAGS.labels_offset
    return of_run | given | {"labels_offset": offset}


_OF_THE_DISK = re.compile("No space left on device|File too large|Disk quota exceeded")
_WRITTEN_TO = ("train_dir", "eval_dir", "output_dir", "output_file")


def say(line: str) -> None:
    """Prints a line at once, also into a file or a pipe."""
    print(line, flush=True)


def shortened(names: Sequence[str]) -> str:
    """The first few names, and how many there are."""
    return f"{', '.join(names[:5])}{' …' if names[5:] else ''} ({len(names)})"


def run(
    main: Callable[[], None], argv: Sequence[str] | None = None, words_flag: str | None = None
) -> None:
    """Parses the command line, runs `main`, and turns errors into one line and an exit code.

    Words that belong to no flag are an error, or go to the multi-string flag `words_flag`, so that
    `--image a.jpg b.jpg` and `--image photos/*.jpg` mean what they say.

    Exit codes: 0 done; 1 bad input (one line on standard error); 2 usage; 130 stopped by Ctrl-C.
    """
    argv = list(sys.argv if argv is None else argv)
    app.define_help_flags()
    # absl's --help shows the flags of the script's own module; these belong to it as well.
    for flag in flags.FLAGS.flags_by_module_dict().get(__name__, ()):
        flags.FLAGS.register_key_flag_for_module(argv[0], flag)
    try:
        words = flags.FLAGS(_join_spaced_booleans(argv))[1:]
        if words and not words_flag:
            raise flags.Error(f"unexpected argument {words[0]!r}; every value needs its --flag=")
        if words:
            flags.FLAGS[words_flag].value = [*flags.FLAGS[words_flag].value, *words]
    except flags.Error as error:
        _fail(str(error), USAGE_ERROR, hint=True)
    except SystemExit:  # absl's help flags end in 1; to ask for help is no failure
        sys.exit(0)
    try:
        main()
    except UsageError as error:
        _fail(str(error), USAGE_ERROR, hint=True)
    except KeyboardInterrupt:
        _fail("stopped by Ctrl-C", 130)
    except BrokenPipeError:
        # Who reads our lines, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if _DEBUG.value:
            traceback.print_exc()
        if not _is_input_error(error):
            raise
        _fail(_one_line(error), INPUT_ERROR)


def load_tensorflow() -> None:
    """Imports TensorFlow without its start-up notices, which hide what a script says.

    Its libraries write them to the file descriptor itself, some before any log level is read.
    """
    tune_allocator()
    without_gpu = "3" if not os.path.exists("/dev/nvidiactl") else "2"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", without_gpu)
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        except BaseException:
            notices.seek(0)
            os.write(original, notices.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


def tune_allocator() -> None:
    """Has the C library keep freed memory, where it is glibc's; call it before threads start.

    A training step frees and takes gigabytes. By default much of that goes back to the system each
    time, which then has to clear it again page by page; and every thread's own arena grows by
    itself. Figures: benchmarks/RESULTS.md. Whoever sets MALLOC_… in the environment knows better.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    # Numbers of mallopt(3): M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX.
    arenas = max(1, (os.cpu_count() or 1) // 8)
    settings = {-1: -1, -2: 64 << 20, -4: 0, -8: arenas}
    with contextlib.suppress(OSError, AttributeError):  # another C library has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in settings.items():
            mallopt(name, value)


def _is_input_error(error: Exception) -> bool:
    """Errors that speak of the user's input or disk; anything else is a bug and keeps its trace."""
    of_tensorflow = type(error).__module__.startswith("tensorflow")
    return isinstance(error, ValueError | OSError | ImportError) or bool(
        of_tensorflow and _OF_THE_DISK.search(str(error))
    )


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    match = _OF_THE_DISK.search(str(error))
    # Our own messages name the file already.
    if match and (not isinstance(error, OSError | ValueError) or getattr(error, "errno", None)):
        given = [name for name in _WRITTEN_TO if name in flags.FLAGS and flags.FLAGS[name].value]
        places = "".join(f"--{name}={flags.FLAGS[name].value}: " for name in given)
        return f"{places}{match[0]}. What was there before is untouched."
    return " ".join(str(error).split()) or type(error).__name__


def _fail(message: str, code: int, hint: bool = False) -> None:
    script = os.path.basename(sys.argv[0])
    print(f"{script}: error: {message}", file=sys.stderr)
    if hint:
        print(f"Try: python {script} --help", file=sys.stderr)
    sys.stdout.flush()
    sys.exit(code)


def _join_spaced_booleans(argv: list[str]) -> list[str]:
    """Understands `--clone_on_cpu True`, which absl would read as a flag and a stray word."""
    joined, i = argv[:1], 1
    while i < len(argv):
        word = argv[i]
        if word == "--":
            return joined + argv[i:]
        name = word.lstrip("-")
        following = argv[i + 1] if i + 1 < len(argv) else ""
        is_flag = word.startswith("-") and name in flags.FLAGS
        if is_flag and flags.FLAGS[name].boolean and following.lower() in _TRUTH_WORDS:
            joined.append(f"--{name}={following}")
            i += 2
        else:
            joined.append(word)
            i += 1
    return joined
