"""NASNet-A (https://arxiv.org/abs/1707.07012), as in TF-Slim's nets/nasnet/nasnet.py.

A net is a stack of cells. Each cell sees the outputs of the two before it and is itself a small
graph that was found by search; nets/pnasnet.py has another such graph.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import keras

from nets.blocks import Blocks, Norm, Request

_AUX_WINDOW = 5


@dataclasses.dataclass(frozen=True)
class Cell:
    """The graph of a cell. State 0 is the output of the cell before, 1 that of the one before it.

    Pair i gives state i + 2, the sum of its left and right (state, operation). `outputs` are the
    states that are joined to the output of the cell.
    """

    pairs: tuple[tuple[tuple[int, str], tuple[int, str]], ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A stack of cells in three stages."""

    cell: Cell
    reduction: Cell | None  # stands before stages two and three; None: their first cell strides
    num_cells: int  # of all stages, reductions not counted
    filters: int  # of a cell's operations; twice as many in each further stage
    stem_filters: int
    stem_cells: bool = True  # two strided cells, for large images
    skips_reduction: bool = False  # the cell behind a reduction sees nothing of the one before it
    norm: Norm = Norm(scale=True)


_NORMAL = Cell(
    pairs=(
        ((0, "sep 5x5"), (1, "sep 3x3")),
        ((1, "sep 5x5"), (1, "sep 3x3")),
        ((0, "avg 3x3"), (1, "identity")),
        ((1, "avg 3x3"), (1, "avg 3x3")),
        ((0, "sep 3x3"), (0, "identity")),
    ),
    outputs=(1, 2, 3, 4, 5, 6),
)
_REDUCTION = Cell(
    pairs=(
        ((0, "sep 5x5"), (1, "sep 7x7")),
        ((0, "max 3x3"), (1, "sep 7x7")),
        ((0, "avg 3x3"), (1, "sep 5x5")),
        ((3, "identity"), (2, "avg 3x3")),
        ((2, "sep 3x3"), (0, "max 3x3")),
    ),
    outputs=(3, 4, 5, 6),
)
ARCHITECTURES = {
    "nasnet_cifar": Architecture(
        _NORMAL,
        _REDUCTION,
        num_cells=18,
        filters=32,
        stem_filters=96,
        stem_cells=False,
        norm=Norm(decay=0.9, epsilon=1e-5, scale=True),
    ),
    "nasnet_mobile": Architecture(_NORMAL, _REDUCTION, num_cells=12, filters=44, stem_filters=32),
    "nasnet_large": Architecture(
        _NORMAL, _REDUCTION, num_cells=18, filters=168, stem_filters=96, skips_reduction=True
    ),
}


def build(
    architecture: Architecture,
    request: Request,
    *,
    dropout_keep_prob: float = 0.5,
    drop_path_keep_prob: float = 1.0,
    drop_path_steps: int = 250_000,
    create_aux_logits: bool = False,
) -> keras.Model:
    """Builds a net of cells; see `nets_factory.build`.

    Args:
      drop_path_keep_prob: share of the examples for which the last cell's operations are kept;
        earlier cells keep more, and 1 keeps all.
      drop_path_steps: number of steps of `layers.training_step` over which the share sinks from 1;
        a net called outside of `training_step` uses the final share.
      create_aux_logits: whether to build the auxiliary head; slim does so only to train. Below 67
        pixels (9 for `nasnet_cifar`) the net has none: its map is smaller than the head's pool.

    Raises:
      InputError: too small an image.
      ValueError: a drop path that cannot be.
    """
    if not (0 < drop_path_keep_prob <= 1 and drop_path_steps >= 1):
        raise ValueError(
            f"{request.name}: drop_path_keep_prob={drop_path_keep_prob} must be above 0 and at "
            f"most 1, and drop_path_steps={drop_path_steps} at least 1."
        )
    block = Blocks(
        functools.partial(keras.initializers.VarianceScaling, 2.0, "fan_out", "truncated_normal"),
        norm=architecture.norm,
        biases=False,
        activation="linear",
        regularized=("weights", "depthwise_weights", "pointwise_weights"),
        dtype=request.dtype,
    )
    # Two pixels are left for the last reduction.
    images = request.images(smallest=19 if architecture.stem_cells else 3)
    stem = _imagenet_stem if architecture.stem_cells else _cifar_stem
    outputs = [None, stem(block, images, architecture.stem_filters)]
    end_points = {"Stem": outputs[-1].x}
    aux_logits, aux_cell = None, architecture.num_cells * 2 // 3 - 1  # the last of stage two
    cells = list(_cells(architecture))
    for i, (scope, cell, filters, stride, back) in enumerate(cells, start=1):
        keep_prob = 1 - i / len(cells) * (1 - drop_path_keep_prob)
        drop_path = functools.partial(_drop_path, block, keep_prob, drop_path_steps)
        outputs.append(
            _cell(block, cell, outputs[-1], outputs[-back], filters, stride, scope, drop_path)
        )
        end_points["Stem" if "stem" in scope else scope.title()] = outputs[-1].x
        has_room = outputs[-1].x.shape[1] >= _AUX_WINDOW
        if create_aux_logits and scope == f"cell_{aux_cell}" and has_room:
            x, aux_scope = outputs[-1].activated, f"aux_{aux_cell}/aux_logits"
            aux_logits = _aux_logits(block, x, request.num_classes, aux_scope)
            end_points["AuxLogits"] = aux_logits

    x = block.global_pool(outputs[-1].activated, "final_layer/global_pool", keep_dims=False)
    end_points["global_pool"] = x
    x = block.dropout(x, dropout_keep_prob, "final_layer/dropout")
    logits = block.for_logits().fully_connected(x, request.num_classes, "final_layer/FC")
    return request.model(images, end_points, logits, "final_layer/predictions", aux_logits)


class _State:
    """A tensor, and what a ReLU makes of it for all who want that."""

    def __init__(self, block: Blocks, x, scope: str):
        self.x = x
        self._activate = functools.partial(block.activate, x, "relu", f"{scope}/Relu")

    @functools.cached_property
    def activated(self):
        return self._activate()


def _imagenet_stem(block: Blocks, images, filters: int) -> _State:
    x = _conv(block, images, filters, 3, "conv0", "conv0_bn", stride=2, padding="VALID")
    return _State(block, x, "conv0")


def _cifar_stem(block: Blocks, images, filters: int) -> _State:
    x = _conv(block, images, filters, 3, "l1_stem_3x3", "l1_stem_bn")
    return _State(block, x, "l1_stem")


def _cells(architecture: Architecture) -> Iterator[tuple[str, Cell, int, int, int]]:
    """Each cell's scope, graph, filters and stride; and how far back its second input lies."""
    filters, reduction = architecture.filters, architecture.reduction
    if architecture.stem_cells:
        yield "cell_stem_0", reduction or architecture.cell, filters // 4, 2, 2
        yield "cell_stem_1", reduction or architecture.cell, filters // 2, 2, 2
    for i in range(architecture.num_cells):
        stage = i * 3 // architecture.num_cells
        filters = architecture.filters * 2**stage
        stride, back = 1, 2
        if stage and i % (architecture.num_cells // 3) == 0:
            if reduction:
                yield f"reduction_cell_{stage - 1}", reduction, filters, 2, 2
                back = 3 if architecture.skips_reduction else 2
            else:
                stride = 2
        yield f"cell_{i}", architecture.cell, filters, stride, back


def _cell(
    block: Blocks,
    cell: Cell,
    last: _State,
    last_but_one: _State | None,
    filters: int,
    stride: int,
    scope: str,
    drop_path: Callable,
) -> _State:
    """A cell behind the outputs of two others; without a second one it sees the first twice."""
    x = _conv(block, last.activated, filters, 1, f"{scope}/1x1", f"{scope}/beginning_bn")
    states = [_State(block, x, f"{scope}/beginning")]
    states.append(_fitted(block, last_but_one, last, filters, scope) if last_but_one else last)
    for i, pair in enumerate(cell.pairs):
        sides = []
        for side, (state, operation) in zip(("left", "right"), pair, strict=True):
            here = f"{scope}/comb_iter_{i}/{side}"
            x = _operation(
                block, states[state], operation, filters, stride if state < 2 else 1, here
            )
            sides.append(x if operation == "identity" else drop_path(x, here))
        here = f"{scope}/comb_iter_{i}"
        states.append(_State(block, block.add(sides, here), here))
    joined = []
    for state in cell.outputs:
        x = states[state].x
        if x.shape[-1] != filters:
            here = f"{scope}/cell_output/reduction_{state}"
            x = _conv(block, x, filters, 1, f"{here}/path_conv", f"{here}/path_bn")
        joined.append(x)
    return _State(block, block.concat(joined, f"{scope}/cell_output"), scope)


def _operation(block: Blocks, state: _State, operation: str, filters: int, stride: int, scope: str):
    """One of "sep 5x5", "avg 3x3", "max 3x3" and "identity" (other sizes too) on a state."""
    kind, _, size = operation.partition(" ")
    if kind == "sep":
        return _separable(block, state.activated, filters, size, stride, scope)
    if kind == "identity":
        if stride == 1 and state.x.shape[-1] == filters:
            return state.x
        x = state.activated
        return _conv(block, x, filters, 1, f"{scope}/1x1", f"{scope}/bn_1", stride=stride)
    pool = {"avg": block.avg_pool, "max": block.max_pool}[kind]
    x = pool(state.x, int(size[0]), f"{scope}/{kind}_pool", stride=stride, padding="SAME")
    if x.shape[-1] != filters:
        x = _conv(block, x, filters, 1, f"{scope}/1x1", f"{scope}/bn_1")
    return x


def _separable(block: Blocks, x, filters: int, size: str, stride: int, scope: str):
    """Two separable convolutions; the ReLU before the first is in `x`."""
    conv = dataclasses.replace(block, norm=None).separable_conv
    kernel = int(size[0])
    x = conv(x, filters, kernel, f"{scope}/separable_{size}_1", stride=stride)
    x = block.batch_norm(x, f"{scope}/bn_sep_{size}_1", activation="relu")
    x = conv(x, filters, kernel, f"{scope}/separable_{size}_2")
    return block.batch_norm(x, f"{scope}/bn_sep_{size}_2")


def _fitted(block: Blocks, state: _State, like: _State, filters: int, scope: str) -> _State:
    """Gives a state the size of another one and a number of filters."""
    if state.x.shape[1:3] != like.x.shape[1:3]:
        x = _halved(block, state.activated, filters, scope)
    elif state.x.shape[-1] != filters:
        x = _conv(block, state.activated, filters, 1, f"{scope}/prev_1x1", f"{scope}/prev_bn")
    else:
        return state
    return _State(block, x, f"{scope}/prev")


def _halved(block: Blocks, x, filters: int, scope: str):
    """Half of the filters read every other pixel, half the ones diagonally in between."""
    conv = dataclasses.replace(block, norm=None).conv
    between = block.crop(block.pad(x, 0, 1, f"{scope}/pad"), 1, 0, f"{scope}/crop")
    left = conv(x, filters // 2, 1, f"{scope}/path1_conv", stride=2)
    right = conv(between, filters - filters // 2, 1, f"{scope}/path2_conv", stride=2)
    return block.batch_norm(block.concat([left, right], scope), f"{scope}/final_path_bn")


def _aux_logits(block: Blocks, x, num_classes: int, scope: str):
    x = block.avg_pool(x, _AUX_WINDOW, f"{scope}/AvgPool2D", stride=3)
    x = _conv(block, x, 128, 1, f"{scope}/proj", f"{scope}/aux_bn0", activation="relu")
    x = _conv(
        block,
        x,
        768,
        x.shape[1:3],
        f"{scope}/Conv",
        f"{scope}/aux_bn1",
        padding="VALID",
        activation="relu",
    )
    x = block.squeeze(x, f"{scope}/Flatten")
    return block.for_logits().fully_connected(x, num_classes, f"{scope}/FC")


def _conv(
    block: Blocks,
    x,
    filters: int,
    kernel: int | tuple[int, int],
    scope: str,
    norm_scope: str,
    *,
    activation: str = "linear",
    **options,
):
    """A convolution with a batch norm whose scope is not below its own."""
    x = dataclasses.replace(block, norm=None).conv(x, filters, kernel, scope, **options)
    return block.batch_norm(x, norm_scope, activation=activation)


def _drop_path(block: Blocks, keep_prob: float, steps: int, x, scope: str):
    return x if keep_prob == 1 else block.drop_path(x, keep_prob, steps, f"{scope}/drop_path")
