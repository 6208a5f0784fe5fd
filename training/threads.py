"""How many threads share one operation: one, where a net is so small that sharing costs more.

TensorFlow reads the setting when it first computes, so this module must not import it.
"""

import os

from foundation import machine
from nets import names

_SETTING = "TF_NUM_INTRAOP_THREADS"

# Multiply-adds of a batch's forward pass up to which one thread was measured to be as fast or
# faster, and processors up to which nothing speaks against it: benchmarks/RESULTS.md.
_SMALL_STEP = 300e6
_FEW_PROCESSORS = 4


def suit(model_name: str, image_size: int | None, batch_size: int | str) -> bool:
    """Has each operation run in one thread where that trains a net faster.

    Operations that wait for nothing still run side by side. A value that the environment has
    stays.

    Args:
      model_name: of the table; another name changes nothing.
      image_size: side in pixels; None: the net's own.
      batch_size: images a step; one that is still to be found ("auto") changes nothing.

    Returns:
      Whether operations run in one thread each by this call.
    """
    if model_name not in names.known() or not isinstance(batch_size, int):
        return False
    scale = (image_size or names.image_size(model_name)) / names.image_size(model_name)
    step = names.multiply_adds(model_name) * scale**2 * batch_size
    few = machine.num_processors() <= _FEW_PROCESSORS
    if step > _SMALL_STEP or not few or _SETTING in os.environ:
        return False
    os.environ[_SETTING] = "1"
    return True
