"""Weights to start from: `--checkpoint_path=pretrained`, a checkpoint, or a file of Keras.

`pretrained` is the archive of TF-Slim's model zoo, by the address that TF-Slim's README gives, or
the ImageNet weights of keras.applications. Downloads stay in a cache folder.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from tqdm import tqdm

from foundation import files, lines
from foundation.errors import AgainError, InputError
from nets import (
    checkpoints,
    https,
    keras_applications,
    keras_to_slim,
    nets_factory,
    slim_names,
)
from nets.options import PRETRAINED
from nets.shapes import shapes_only

DEFAULT_CACHE_DIR = os.path.join("~", ".cache", "slim_image_classifiers")
_ATTEMPTS = 5  # in a row that bring nothing new
_SECONDS = 30  # without a byte
_CHUNK = 1 << 18
_FLAG = f"--checkpoint_path={PRETRAINED}"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file of the zoo; its SHA-256 is checked where one is known (TF-Slim published none)."""

    url: str
    sha256: str | None = None


def _storage(name: str) -> Archive:
    return Archive(f"https://storage.googleapis.com/{name}")


def _tensorflow(name: str) -> Archive:
    # TF-Slim's own addresses, http://download.tensorflow.org/…, are the same files without TLS.
    return _storage(f"download.tensorflow.org/models/{name}")


# As listed in TF-Slim's README, its mobilenet_v1.md and nets/mobilenet/README.md.
ARCHIVES: Mapping[str, Archive] = {
    "inception_v1": _tensorflow("inception_v1_2016_08_28.tar.gz"),
    "inception_v2": _tensorflow("inception_v2_2016_08_28.tar.gz"),
    "inception_v3": _tensorflow("inception_v3_2016_08_28.tar.gz"),
    "inception_v4": _tensorflow("inception_v4_2016_09_09.tar.gz"),
    "inception_resnet_v2": _tensorflow("inception_resnet_v2_2016_08_30.tar.gz"),
    "resnet_v1_50": _tensorflow("resnet_v1_50_2016_08_28.tar.gz"),
    "resnet_v1_101": _tensorflow("resnet_v1_101_2016_08_28.tar.gz"),
    "resnet_v1_152": _tensorflow("resnet_v1_152_2016_08_28.tar.gz"),
    "resnet_v2_50": _tensorflow("resnet_v2_50_2017_04_14.tar.gz"),
    "resnet_v2_101": _tensorflow("resnet_v2_101_2017_04_14.tar.gz"),
    "resnet_v2_152": _tensorflow("resnet_v2_152_2017_04_14.tar.gz"),
    "vgg_16": _tensorflow("vgg_16_2016_08_28.tar.gz"),
    "vgg_19": _tensorflow("vgg_19_2016_08_28.tar.gz"),
    "mobilenet_v1": _tensorflow("mobilenet_v1_2018_02_22/mobilenet_v1_1.0_224.tgz"),
    "mobilenet_v1_075": _tensorflow("mobilenet_v1_2018_02_22/mobilenet_v1_0.75_224.tgz"),
    "mobilenet_v1_050": _tensorflow("mobilenet_v1_2018_02_22/mobilenet_v1_0.5_224.tgz"),
    "mobilenet_v1_025": _tensorflow("mobilenet_v1_2018_02_22/mobilenet_v1_0.25_224.tgz"),
    "mobilenet_v2": _storage("mobilenet_v2/checkpoints/mobilenet_v2_1.0_224.tgz"),
    "mobilenet_v2_140": _storage("mobilenet_v2/checkpoints/mobilenet_v2_1.4_224.tgz"),
    "mobilenet_v2_035": _storage("mobilenet_v2/checkpoints/mobilenet_v2_0.35_224.tgz"),
    "mobilenet_v3_large": _storage("mobilenet_v3/checkpoints/v3-large_224_1.0_float.tgz"),
    "mobilenet_v3_small": _storage("mobilenet_v3/checkpoints/v3-small_224_1.0_float.tgz"),
    "mobilenet_v3_large_minimalistic": _storage(
        "mobilenet_v3/checkpoints/v3-large-minimalistic_224_1.0_float.tgz"
    ),
    "mobilenet_v3_small_minimalistic": _storage(
        "mobilenet_v3/checkpoints/v3-small-minimalistic_224_1.0_float.tgz"
    ),
    "nasnet_mobile": _tensorflow("nasnet-a_mobile_04_10_2017.tar.gz"),
    "nasnet_large": _tensorflow("nasnet-a_large_04_10_2017.tar.gz"),
    "pnasnet_mobile": _tensorflow("pnasnet-5_mobile_2017_12_13.tar.gz"),
    "pnasnet_large": _tensorflow("pnasnet-5_large_2017_12_13.tar.gz"),
}


# TF-Slim's README says that these were not trained with the net's default preprocessing.
_REMARKS = {
    name: "The zoo trained it with other pixels than the net's default: add "
    "--preprocessing_name=inception and images of 299 pixels."
    for name in ("resnet_v2_50", "resnet_v2_101", "resnet_v2_152")
}


def source(model_name: str) -> str | None:
    """Where a net's `pretrained` comes from, "zoo" or "keras"; None where it has none."""
    if model_name in ARCHIVES:
        return "zoo"
    return "keras" if _keras_row(model_name) else None


def read(
    model_name: str,
    path: str,
    num_classes: int,
    cache_dir: str | None = None,
    say: Callable[[str], None] = print,
) -> checkpoints.Reader | checkpoints.Values:
    """Opens weights for a net.

    Args:
      model_name: a row of `nets_factory`.
      path: `pretrained`; whatever `checkpoints.read` opens; or, for nets of keras.applications and
        TF-Slim's of the same architecture, a `.keras` or `.h5` file of Keras.
      num_classes: of the net, by which a file of Keras is recognised.
      cache_dir: where downloads stay; None means `DEFAULT_CACHE_DIR`.
      say: gets lines for the screen.

    Raises:
      InputError: nothing is published for the net, or the weights cannot be read.
      AgainError: a download failed by the network's or the server's fault.
      OSError: a download failed otherwise.
    """
    if path == PRETRAINED:
        return _pretrained(model_name, os.path.expanduser(cache_dir or DEFAULT_CACHE_DIR), say)
    if path.endswith((".keras", ".h5")):
        if not (row := _keras_row(model_name)):
            raise InputError(
                f"{path}: {model_name} is no net of keras.applications.",
                remedy="Give it a checkpoint of TF-Slim.",
            )
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such file.")
        values = keras_applications.stored_weights(row, path, num_classes)
        return checkpoints.Values(path, _as_slim_has_them(model_name, values))
    return checkpoints.read(path)


def net_options(
    model_name: str, reader: checkpoints.Reader | checkpoints.Values
) -> dict[str, bool]:
    """Options of a net that fits these weights: Keras's come without an auxiliary head."""
    known = "create_aux_logits" in nets_factory.get(model_name).options
    there = any("/AuxLogits/" in name for name in reader.names)
    return {"create_aux_logits": False} if known and not there else {}


# Not by pooch: its downloaders start from the first byte whenever a connection breaks off.
def fetch(archive: Archive, cache_dir: str, say: Callable[[str], None] = print) -> str:
    """Downloads a file into the cache, unless it is there; returns its path.

    A download that breaks off continues where it stopped, in this call or a later one. Where
    another process downloads it, this one waits and takes that.

    Raises:
      AgainError: the server cannot be reached, or is out of order.
      OSError: the server refuses; the file can't be written.
      InputError: the file is not the one with this SHA-256, or the server leads out of HTTPS.
    """
    target = os.path.join(cache_dir, archive.url.rpartition("/")[2])
    if os.path.isfile(target):
        return target
    with _alone(target, say):
        if not os.path.isfile(target):
            _download(archive, target)
    return target


@contextlib.contextmanager
def _alone(target: str, say: Callable[[str], None]) -> Iterator[None]:
    """Keeps other processes from downloading the same while the block runs; waits for them."""
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    lock = os.path.join(folder, f".{name}.lock")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.locked(lock))
        except BlockingIOError:
            say(f"{files.holder(lock)} downloads {name} into {folder}; waiting for it …")
            held.enter_context(files.locked(lock, wait=True))
        yield


def _download(archive: Archive, target: str) -> None:
    partial = target + ".part"
    failures = 0
    while True:
        before = _size(partial)
        try:
            if _continue(archive.url, partial):
                break
            cause = ConnectionError("the connection broke off")
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
                problem = f"{archive.url}: {error.code} {error.reason}."
                raise _failed(problem, error) from error
            os.remove(partial)  # of another file than the server has now
            continue
        except (OSError, http.client.HTTPException) as error:
            cause = error
        failures = 0 if _size(partial) > before else failures + 1
        if failures == _ATTEMPTS or not _size(partial):
            raise _failed(
                f"could not fetch {archive.url} ({getattr(cause, 'reason', cause)}). The same "
                "command carries on where it stopped; without a network, give a downloaded file in "
                "place of the word.",
                cause,
            )
    if archive.sha256 and (found := _sha256(partial)) != archive.sha256:
        os.remove(partial)
        raise InputError(
            f"{archive.url}: its SHA-256 is {found}, not {archive.sha256}: the file was damaged "
            "on its way, or replaced. The download is deleted.",
            remedy="Try again.",
        )
    os.replace(partial, target)


def _failed(problem: str, cause: Exception) -> Exception:
    """The error of a download: AgainError where it may succeed later, else OSError."""
    if https.is_passing(cause):
        return AgainError(problem, option="checkpoint_path", value=PRETRAINED)
    return OSError(f"{_FLAG}: {problem}")


def _continue(url: str, partial: str) -> bool:
    """Appends what is missing of a download; whether it is whole then."""
    done = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with https.kept(), urllib.request.urlopen(request, timeout=_SECONDS) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server gives whole files only
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        bar = tqdm(
            total=total,
            initial=done,
            unit="B",
            unit_scale=True,
            desc=url.rpartition("/")[2],
            disable=lines.bars_hidden(),
        )
        with bar, open(partial, "ab" if done else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or _size(partial) == total


def _pretrained(model_name: str, cache_dir: str, say: Callable[[str], None]):
    archive, row = ARCHIVES.get(model_name), _keras_row(model_name)
    if archive:
        try:
            reader = _read_archive(fetch(archive, cache_dir, say))
            if model_name in _REMARKS:
                say(f"{model_name}: {_REMARKS[model_name]}")
            return reader
        except (OSError, AgainError) as error:
            if not row:
                raise
            say(f"{error} Taking the ImageNet weights of keras.applications.")
    if not row:
        raise InputError(
            f"no weights are published for {model_name};",
            option="checkpoint_path",
            value=PRETRAINED,
            remedy="--list_models shows the nets that have some.",
        )
    scope = keras_applications.APPLICATIONS[row].scope
    with _alone(os.path.join(cache_dir, scope), say):
        values = keras_applications.pretrained_weights(row, cache_dir)
    return checkpoints.Values(
        f"keras.applications.{scope}, ImageNet", _as_slim_has_them(model_name, values)
    )


def _read_archive(path: str) -> checkpoints.Reader:
    try:
        return checkpoints.read(path)
    except InputError:
        os.remove(path)  # so that the advice to download it again helps
        raise


def _keras_row(model_name: str) -> str | None:
    """The row of keras.applications whose weights fit a net."""
    if model_name in keras_applications.APPLICATIONS:
        return model_name
    return keras_to_slim.COUNTERPARTS.get(model_name)


def _as_slim_has_them(model_name: str, values: Mapping[str, np.ndarray]):
    if model_name not in keras_to_slim.COUNTERPARTS:
        return values
    with shapes_only():
        model = nets_factory.build(model_name, 1000)
    shapes = {name: tuple(v.shape) for name, v in slim_names.variables(model).items()}
    return keras_to_slim.translate(values, shapes)


def _size(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.path.getsize(path)
    return 0


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
