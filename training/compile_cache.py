"""Where XLA keeps what it compiled for a GPU, so that the next start of the same net need not.

TensorFlow reads these settings from the environment when it is imported, so this module must not
import it.
"""

import hashlib
import importlib.metadata
import os
import pathlib

_MOST_BYTES = 4 * 2**30
_DEFAULT = pathlib.Path("slim_image_classifiers", "xla")
# What the driver tells of the cards: programs of one kind of card do not run on another.
_DRIVER = pathlib.Path("/proc/driver/nvidia")


def default_folder() -> str:
    """The folder below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return str(pathlib.Path(base) / _DEFAULT)


def use(folder: str | None = None, driver: pathlib.Path = _DRIVER) -> str | None:
    """Has TensorFlow keep compiled programs below a folder; call it before TensorFlow's import.

    Args:
      folder: made if need be; None: below the user's cache folder; "" keeps nothing. When it holds
        more than 4 GiB, what was not used for longest goes.
      driver: folder in which the driver of the GPUs describes them.

    Returns:
      The part of the folder for this TensorFlow, driver and kind of card; None where nothing is
      kept: there is no GPU, or the folder can't be written.
    """
    folder = default_folder() if folder is None else folder
    cards = sorted(driver.glob("gpus/*/information"))
    if not folder or not cards:
        return None
    about = [importlib.metadata.version("tensorflow"), _text(driver / "version")]
    about += {_kind(_text(card)) for card in cards}
    key = hashlib.sha256("\n".join(sorted(about)).encode()).hexdigest()[:16]
    own = pathlib.Path(folder).expanduser().absolute() / key
    try:
        (own / "autotuning").mkdir(parents=True, exist_ok=True)
        _make_room(own.parent)
    except OSError:
        return None
    _add("TF_XLA_FLAGS", f"--tf_xla_persistent_cache_directory={own}")
    _add("TF_XLA_FLAGS", "--tf_xla_persistent_cache_device_types=GPU")
    # Which kernel of several is the fastest, measured once.
    _add("XLA_FLAGS", f"--xla_gpu_per_fusion_autotune_cache_dir={own / 'autotuning'}")
    return str(own)


def _kind(information: str) -> str:
    return next((line for line in information.splitlines() if line.startswith("Model")), "")


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _add(name: str, flag: str) -> None:
    """Adds a flag to an environment variable, unless the user set that flag there."""
    present = os.environ.get(name, "")
    if flag.partition("=")[0] not in present:
        os.environ[name] = f"{present} {flag}".strip()


def _make_room(folder: pathlib.Path) -> None:
    """Removes the parts and programs that were used longest ago, down to what is allowed."""
    programs = [(file, file.stat()) for file in folder.glob("*/*.pb")]
    excess = sum(found.st_size for _, found in programs) - _MOST_BYTES
    for file, found in sorted(programs, key=lambda one: max(one[1].st_atime, one[1].st_mtime)):
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= found.st_size
