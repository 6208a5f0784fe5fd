"""The net that people build first: stages of convolution and pool, a dense layer, dropout.

Trained from scratch it is what transfer learning is compared with.
"""

from collections.abc import Sequence

import keras

from foundation.errors import UsageError
from nets import blocks
from nets.blocks import Blocks, Request

_SCOPE = "SmallCnn"


def build(
    request: Request,
    *,
    filters: Sequence[int] = (32, 64, 128),
    dense_units: int = 128,
    dropout: float = 0.5,
) -> keras.Model:
    """Builds the net; see `nets_factory.build`.

    Args:
      filters: the width of each stage's 3 x 3 convolution; each stage halves the image.
      dense_units: the width of the dense layer.
      dropout: the fraction of its outputs that training drops, 0 to below 1.

    Raises:
      InputError: options out of range, or an image too small for that many stages.
    """
    filters = tuple(filters)
    if not filters or min(filters) < 1:
        raise UsageError(
            "give a positive width for each stage, such as 32,64,128.",
            option="small_cnn_filters",
            value=",".join(map(str, filters)),
        )
    if dense_units < 1:
        raise UsageError("at least 1 is needed.", option="small_cnn_dense_units", value=dense_units)
    if not 0 <= dropout < 1:
        raise UsageError(
            "give a fraction from 0 to below 1.", option="small_cnn_dropout", value=dropout
        )
    block = Blocks(blocks.he_normal, dtype=request.dtype)
    x = images = request.images(smallest=2 ** len(filters))
    end_points = {}
    for stage, width in enumerate(filters, start=1):
        x = end_points[f"conv{stage}"] = block.conv(x, width, 3, f"{_SCOPE}/conv{stage}")
        x = end_points[f"pool{stage}"] = block.max_pool(x, 2, f"{_SCOPE}/pool{stage}")
    x = block.flatten(x, f"{_SCOPE}/flatten")
    x = end_points["dense"] = block.fully_connected(x, dense_units, f"{_SCOPE}/dense")
    x = block.dropout(x, 1 - dropout, f"{_SCOPE}/dropout")
    logits = block.for_logits().fully_connected(x, request.num_classes, f"{_SCOPE}/logits")
    return request.model(images, end_points, logits, f"{_SCOPE}/predictions")
