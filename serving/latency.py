"""How large an exported model is, and how long it takes for a batch."""

import os
import time
from collections.abc import Callable, Sequence

import numpy as np

from serving import classifier
from serving.frozen_graph import Net
from serving.options import FILES

_SECONDS = 0.5  # for each batch size
_FEWEST, _MOST = 5, 50  # calls


def size_in_bytes(path: str) -> int:
    """Of the model file or SavedModel folder that `path` means; raises InputError."""
    path = classifier.model_file(path)
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )


def format_of(path: str) -> str:
    """Of the model that `path` means, as `serving.options.FORMATS` call it; raises InputError."""
    model = classifier.model_file(path)
    if os.path.isdir(model):
        return "saved_model"
    ending = os.path.splitext(model)[1]
    return next(name for name, file in FILES.items() if file.endswith(ending))


def milliseconds(path: str, batch_sizes: Sequence[int] = (1, 8)) -> dict[int, float]:
    """The median time of a batch of each size, without reading and decoding pictures.

    A file that takes batches of another size is called several times or gets a padded batch.

    Raises:
      InputError: nothing that can be loaded.
    """
    return of_net(*classifier.load_net(path), batch_sizes)


def of_net(
    net: Net, shape: tuple[int, int, int], batch_sizes: Sequence[int] = (1, 8)
) -> dict[int, float]:
    """The same of a net on images of a shape, (H, W, channels)."""
    random = np.random.default_rng(0)
    found = {}
    for size in batch_sizes:
        images = random.uniform(-1, 1, (size, *shape)).astype(np.float32)
        found[size] = 1000 * _median_seconds(lambda images=images: net(images))
    return found


def _median_seconds(call: Callable[[], object]) -> float:
    call()  # the first compiles
    times: list[float] = []
    while len(times) < _FEWEST or (sum(times) < _SECONDS and len(times) < _MOST):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
