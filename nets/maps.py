"""Feature maps of a net: the last ones before its classifier, and some spread over it."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from foundation.errors import InputError
from nets import layers

_POOLS = (
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling2D,
)


@dataclasses.dataclass(frozen=True)
class Halves:
    """A net cut at its last feature maps: `tail(trunk(images))` is its answer, in inference.

    Attributes:
      name: of the maps, an end point's where they are one; None where the net has no maps, and its
        images stand for them.
      trunk: float32 [N, S, S, channels] → a list of the maps, [N, h, w, C], and of what else goes
        past them to the logits; mostly that is nothing.
      tail: such a list → "logits", [N, num_classes], and "features", as `features` has them.
    """

    name: str | None
    trunk: Callable[[Any], list]
    tail: Callable[[list], dict[str, Any]]


def features(model: keras.Model) -> keras.KerasTensor:
    """What the last pool before the classifier leaves, normalised where the net does so next.

    Args:
      model: as `nets_factory.build` returns it, with a head or without.

    Returns:
      [N, h, w, C], or [N, C] where the net has averaged height and width away.
    """
    ordered = _way_to_logits(model)
    last = _last_pool(ordered)
    if isinstance(ordered[last + 1], keras.layers.LayerNormalization):
        last += 1
    return ordered[last].output


def halves(model: keras.Model) -> Halves:
    """Cuts a net at the last maps that its classifier pools.

    Where images are so small that these have one place only, it is cut at the last ones of several:
    if it can be where nothing goes past them, else at an end point.
    """
    ordered = _way_to_logits(model)
    last = _last_pool(ordered)
    tensors = [operation.output for operation in ordered]
    last_use = {
        id(x): place
        for place, operation in enumerate(ordered)
        for x in keras.tree.flatten(operation.input)
    }

    def past(maps: keras.KerasTensor) -> list[keras.KerasTensor]:
        place = next(i for i, x in enumerate(tensors) if x is maps)
        return [x for x in tensors[:place] if last_use[id(x)] > place]

    before = [ordered[last].input, *reversed(tensors[:last])]
    several = [x for x in before if _is_seen(x) and x is not model.inputs[0]]
    alike = [x for x in several if x.shape[1:3] == several[0].shape[1:3]]
    names = {id(x): name for name, x in getattr(model, "end_points", {}).items()}
    candidates = (
        *(x for x in alike if not past(x)),
        *(x for x in alike if id(x) in names),
        *several,
        model.inputs[0],
    )
    maps = candidates[0]
    between = [maps, *past(maps)]
    outputs = {"logits": model.output["logits"], "features": features(model)}
    first, second = keras.Model(model.inputs[0], between), keras.Model(between, outputs)
    return Halves(
        (names.get(id(maps)) or _made_by(maps).name.replace(".", "/")) if several else None,
        # Of one output Keras makes no list.
        trunk=lambda images: keras.tree.flatten(first(images, training=False)),
        tail=lambda tensors: second(tensors, training=False),
    )


def spread(model: keras.Model, count: int = 5) -> list[str]:
    """Names of at most `count` end points that are feature maps, spread evenly over the net."""
    order = {id(operation): i for i, operation in enumerate(model.operations)}
    found = {
        order[id(_made_by(tensor))]: name
        for name, tensor in model.end_points.items()
        if _is_seen(tensor)
    }
    names = [found[place] for place in sorted(found)]
    places = {round(i * (len(names) - 1) / max(count - 1, 1)) for i in range(count)}
    return [names[place] for place in sorted(places)]


def find(model: keras.Model, names: Sequence[str]) -> dict[str, keras.KerasTensor]:
    """End points that are feature maps, by their names or the ends of these: conv5/conv5_3.

    Raises:
      InputError: there is none of that name, or it is no feature map.
    """
    found = {}
    for name in names:
        ends = [known for known in model.end_points if known == name]
        ends = ends or [known for known in model.end_points if f"/{known}".endswith(f"/{name}")]
        if len(ends) != 1 or not is_map(model.end_points[ends[0]]):
            every = [known for known, tensor in model.end_points.items() if is_map(tensor)]
            close = difflib.get_close_matches(name, every, n=3) or every
            raise InputError(
                f"{name} is not one of the feature maps of {model.name}.",
                option="end_points",
                remedy=f"Choose of {', '.join(close)}.",
            )
        found[ends[0]] = model.end_points[ends[0]]
    return found


def is_map(tensor: keras.KerasTensor) -> bool:
    """Whether a tensor has several places: [N, h, w, C]."""
    return len(tensor.shape) == 4 and tensor.shape[1] * tensor.shape[2] > 1


def _is_seen(tensor: keras.KerasTensor) -> bool:
    """Whether it is a map of more than what a margin of zeros was put around."""
    return is_map(tensor) and not isinstance(_made_by(tensor), keras.layers.ZeroPadding2D)


def _way_to_logits(model: keras.Model) -> list[keras.Operation]:
    """What is computed, in order; what auxiliary logits are computed by would mix with it."""
    return keras.Model(model.input, model.output["logits"]).operations


def _last_pool(ordered: Sequence[keras.Operation]) -> int:
    """The place of the last pool before the classifier; where none is, that of its input."""
    # Wide VGG images are pooled once more, inside the classifier, which has the only dropouts.
    dropouts = [i for i, operation in enumerate(ordered) if _is_dropout(operation)]
    trunk = ordered[: dropouts[0]] if dropouts else ordered
    pools = (i for i, operation in enumerate(trunk) if isinstance(operation, _POOLS))
    return max(pools, default=len(ordered) - 2)


def _is_dropout(operation: keras.Operation) -> bool:
    """Not so the layers that drop whole paths, which are all over a net."""
    return isinstance(operation, layers.Dropout) and operation.noise_shape is None


def _made_by(tensor: keras.KerasTensor) -> keras.Operation:
    return tensor._keras_history.operation
