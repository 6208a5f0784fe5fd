"""PNASNet-5 (https://arxiv.org/abs/1712.00559), as in TF-Slim's nets/nasnet/pnasnet.py.

Another cell in NASNet's stack. There is no reduction cell: it strides itself where a stage begins.
"""

from nets.nasnet import Architecture, Cell

_CELL = Cell(
    pairs=(
        ((1, "sep 5x5"), (1, "max 3x3")),
        ((0, "sep 7x7"), (0, "max 3x3")),
        ((0, "sep 5x5"), (0, "sep 3x3")),
        ((4, "sep 3x3"), (0, "max 3x3")),
        ((1, "sep 3x3"), (0, "identity")),
    ),
    outputs=(2, 3, 4, 5, 6),
)
ARCHITECTURES = {
    "pnasnet_mobile": Architecture(_CELL, None, num_cells=9, filters=54, stem_filters=32),
    "pnasnet_large": Architecture(_CELL, None, num_cells=12, filters=216, stem_filters=96),
}
