"""How long a training takes on this machine's processors, estimated before a net is built.

A net's multiply-adds, the share of them that its kind of layers reaches, and how fast this machine
multiplies matrices at the moment give images a second; measured: benchmarks/RESULTS.md.
"""

import dataclasses
import functools
import math
import os

from foundation import machine
from nets import names

# How fast a net computes forwards in float32, by numpy's matrix product: nets of depthwise and of
# many small convolutions move more numbers than they multiply.
_SHARE = 1.0
_SHARES = {
    "mobilenet_v1": 0.3,
    "mobilenet": 0.2,
    "keras_mobilenet": 0.2,
    "nasnet": 0.2,
    "pnasnet": 0.2,
    "keras_nasnet": 0.2,
    "efficientnet": 0.2,
    "xception": 0.4,
    "convnext": 0.4,
    "densenet": 0.4,
    "small_cnn": 0.6,
    "inception_v1": 0.6,
    "inception_v2": 0.6,
}
_BFLOAT16 = 2.5  # times as fast, where the processor multiplies it
_TRAINING = 4.0  # passes forwards that a step takes as long as, where all layers are trained
_HEAD = 1.2  # the same where the head alone is trained
_CACHED_PER_SECOND = 3_000.0  # cached features that a second trains the head on
_DECODED_PER_SECOND = 300.0  # photographs that a processor decodes and augments
_START_SECS = 20.0  # imports, the net, the first step


@dataclasses.dataclass(frozen=True)
class Work:
    """What a training computes.

    Attributes:
      num_examples: of an epoch.
      epochs: None where the run has no length.
      frozen: whether the head alone is trained.
      draws: variants of each image whose features are cached; 0: none are.
    """

    num_examples: int
    epochs: float | None
    frozen: bool = False
    draws: int = 0

    def first_epoch(self, per_second: float) -> float:
        """Seconds until every image was seen once, with a step's images a second."""
        return self._seconds(per_second, 1.0)

    def total(self, per_second: float) -> float:
        """Seconds of the whole run; infinity where it has no length."""
        return math.inf if self.epochs is None else self._seconds(per_second, self.epochs)

    def step(self, forward: float) -> float:
        """Images a second of training, or of filling the cache, from those of a pass forwards."""
        if self.draws:
            return forward
        return forward / (_HEAD if self.frozen else _TRAINING)

    def _seconds(self, per_second: float, epochs: float) -> float:
        seen = self.draws or epochs
        slowest = max(1 / per_second, 1 / (_DECODED_PER_SECOND * machine.num_processors()))
        cached = epochs * self.num_examples / _CACHED_PER_SECOND if self.draws else 0.0
        return _START_SECS + seen * self.num_examples * slowest + cached


def forward_per_second(name: str, image_size: int | None = None) -> float:
    """Images a second that the processors send through a net, estimated.

    Args:
      name: of a net.
      image_size: side in pixels; None: the net's own.
    """
    adds = names.multiply_adds(name)
    if image_size:
        adds *= (image_size / names.image_size(name)) ** 2
    share = next((v for start, v in _SHARES.items() if name.startswith(start)), _SHARE)
    faster = _BFLOAT16 if machine.multiplies_bfloat16() else 1.0
    return share * faster * _matrix_speed() / (2 * adds)


def has_gpu() -> bool:
    """Whether there is a GPU of NVIDIA's, of which the processors' speed says nothing."""
    return os.path.exists("/dev/nvidiactl")


def duration(seconds: float) -> str:
    """Such as "about 12 minutes", for people."""
    if seconds < 60:
        return "less than a minute"
    for unit, length, most in (("minute", 60, 90), ("hour", 3600, 48), ("day", 86_400, math.inf)):
        count = round(seconds / length)
        if count <= most:
            return f"about {count} {unit}{'s' if count > 1 else ''}"
    raise AssertionError("the last unit has no end")


@functools.cache
def _matrix_speed() -> float:
    return machine.matrix_speed()
