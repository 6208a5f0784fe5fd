"""A net in segments, each of which the backward pass computes anew in place of keeping it.

Training keeps what every layer gave until the gradients have come back to it. Here only what
crosses from one segment to the next is kept, after Chen et al., "Training Deep Nets with Sublinear
Memory Cost" (https://arxiv.org/abs/1604.06174), for the time of one more forward pass.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from nets import layers


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a net: the tensors that it takes of those before, and those that it gives."""

    model: keras.Model
    takes: tuple[int, ...]
    gives: tuple[int, ...]


class Recomputed:
    """A net that is called as its model is, with the same results and gradients.

    Attributes:
      model: the net.
    """

    def __init__(self, model: keras.Model):
        """Cuts the net where little crosses; its layers are shared."""
        self.model = model
        self._segments = cut(model)

    def __call__(self, images, training: bool = False) -> dict[str, tf.Tensor]:
        """Outputs by name; the gradients' pass must be traced in the contexts of this one."""
        known = dict(zip(map(id, self.model.inputs), tf.nest.flatten(images), strict=True))
        for segment in self._segments:
            inputs = [known[number] for number in segment.takes]
            run = _recomputed if segment is not self._segments[-1] else _kept_whole
            results = run(segment.model, training)(*inputs)
            known.update(zip(segment.gives, results, strict=True))
        return {name: known[id(tensor)] for name, tensor in self.model.output.items()}


def _kept_whole(model: keras.Model, training: bool):
    """The last segment as a function: its gradients are taken at once."""
    return lambda *inputs: _outputs(model, inputs, training)


def _outputs(model: keras.Model, inputs, training: bool) -> tuple[tf.Tensor, ...]:
    # Keras gives a single output without its list.
    return tuple(tf.nest.flatten(model(list(inputs), training=training)))


def _recomputed(model: keras.Model, training: bool):
    """The segment as a function; called for the second time it leaves moving statistics alone."""
    is_first = True

    def run(*inputs):
        nonlocal is_first
        with layers.moving(is_first):
            is_first = False
            return _outputs(model, inputs, training)

    return tf.recompute_grad(run)


def cut(model: keras.Model) -> list[Segment]:
    """A net in segments, cut so that what is kept and the largest segment together are least."""
    by_depth = sorted(model._nodes_by_depth, reverse=True)
    nodes = [n for depth in by_depth for n in model._nodes_by_depth[depth] if n.input_tensors]
    images = {id(tensor) for tensor in model.inputs}
    outputs = {id(tensor): tensor for tensor in model.output.values()}
    born = {id(tensor): place for place, node in enumerate(nodes) for tensor in node.outputs}
    used = dict.fromkeys(born, -1)
    for place, node in enumerate(nodes):
        used |= {id(tensor): place for tensor in node.input_tensors}
    tensors = {id(tensor): tensor for node in nodes for tensor in node.outputs}
    sizes = [sum(map(_size, node.outputs)) for node in nodes]
    # By place: what is known behind its node and wanted later.
    crossing = [0] * len(nodes)
    for number, place in born.items():
        for between in range(place, used[number]):
            crossing[between] += _size(tensors[number])
    cuts = min(
        (_cuts(sizes, crossing, share) for share in range(1, len(nodes))),
        key=lambda cuts: _kept(sizes, crossing, cuts),
    )
    found = []
    for first, behind in itertools.pairwise([0, *cuts, len(nodes)]):
        taken = {id(t): t for node in nodes[first:behind] for t in node.input_tensors}
        takes = [n for n in taken if n in images or born[n] < first]
        gives = [
            number
            for number, place in born.items()
            if first <= place < behind and (used[number] >= behind or number in outputs)
        ]
        part = keras.Model([taken[n] for n in takes], [tensors[n] for n in gives])
        found.append(Segment(part, tuple(takes), tuple(gives)))
    return found


def _cuts(sizes: Sequence[int], crossing: Sequence[int], count: int) -> list[int]:
    """Places to cut before, about `count` segments of alike size, each where least crosses."""
    share, cuts, total, since = sum(sizes) / count, [], 0, []
    for place, size in enumerate(sizes[:-1]):
        total += size
        since.append(place)
        if total >= share:
            best = min(since[len(since) // 2 :], key=lambda p: (crossing[p], -p))
            cuts.append(best + 1)
            since = since[since.index(best) + 1 :]
            total = sum(sizes[p] for p in since)
    return cuts


def _kept(sizes: Sequence[int], crossing: Sequence[int], cuts: Sequence[int]) -> int:
    """Numbers that are in memory at the most: what is kept, and the segment computed anew."""
    segments = itertools.pairwise([0, *cuts, len(sizes)])
    return sum(crossing[cut - 1] for cut in cuts) + max(sum(sizes[a:b]) for a, b in segments)


def _size(tensor: keras.KerasTensor) -> int:
    """Numbers of an image, or one where the size is not known."""
    return math.prod(size or 1 for size in tensor.shape)
