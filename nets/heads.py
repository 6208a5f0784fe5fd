"""A classifier of the user's own on the pooled features of any net.

`--head=dense:512,dropout:0.5` makes the scopes `InceptionV3/Head/dense_1` and, for the classes,
`InceptionV3/Head/logits`; `Head/…` where a net has no root scope.
"""

import collections
import dataclasses

import keras

from foundation.errors import UsageError
from nets import blocks, maps, slim_names
from nets.blocks import Blocks

# As a scope on the command line: those of `scopes`.
WORD = "head"
_EXAMPLE = "such as dense:512,dropout:0.5"


@dataclasses.dataclass(frozen=True)
class Dense:
    """A dense layer with ReLU."""

    units: int


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Drops this fraction in training, 0 to below 1."""

    rate: float


def parse(text: str) -> tuple[Dense | Dropout, ...]:
    """'dense:512,dropout:0.5' → (Dense(512), Dropout(0.5)).

    Raises:
      UsageError: there is nothing in it, or a part is neither `dense:UNITS` nor `dropout:RATE`.
    """
    return tuple(_parse_layer(part.strip(), text) for part in text.split(","))


def root(scope: str) -> str:
    """The scope of a head in a net with this root scope."""
    return f"{scope}/Head" if scope else "Head"


def scopes(model: keras.Model, scope: str) -> tuple[str, ...]:
    """The scopes of a net's classifiers, which are new where the classes are.

    Args:
      model: as `nets_factory.build` returns it.
      scope: the net's root scope, "" for none.

    Returns:
      Such as ("InceptionV3/Logits", "InceptionV3/AuxLogits"); that of `attach` where the net has
      a head of its own.
    """
    found = []
    for output in model.output.values():
        # Layers come in the order of computation: the last with weights makes the logits.
        last = [layer for layer in keras.Model(model.input, output).layers if layer.weights][-1]
        name = slim_names.slim_name(last.weights[0])
        own = name.startswith(f"{root(scope)}/")
        found.append(root(scope) if own else "/".join(name.split("/")[:-1][:2]))
    return tuple(found)


def with_word(wanted: tuple[str, ...], model: keras.Model, scope: str) -> tuple[str, ...]:
    """The wanted scopes, with those of `scopes` in place of WORD."""
    if WORD not in wanted:
        return wanted
    named = (scopes(model, scope) if one == WORD else (one,) for one in wanted)
    return tuple(one for part in named for one in part)


def attach(
    model: keras.Model, head: str, num_classes: int, scope: str, dtype: str = "float32"
) -> keras.Model:
    """The net with `head` and new logits in place of its own classifier.

    The features are what the last pool before the classifier leaves, averaged over what is left of
    height and width: [N, C]. So VGG loses fc6 to fc8. Auxiliary logits stay as they are. End points
    behind the features are left out; "Logits" and "Predictions" are those of the head.

    Args:
      model: as `nets_factory.build` returns it.
      head: as `parse` reads it.
      scope: the net's root scope, "" for none.
      dtype: what is computed in, as in `nets_factory.build`.

    Raises:
      UsageError: see `parse`.
    """
    parsed = parse(head)
    top = root(scope)
    block = Blocks(blocks.glorot_uniform, dtype=dtype)
    x = maps.features(model)
    if len(x.shape) == 4:
        x = block.global_pool(x, f"{top}/pool", keep_dims=False)
    count = collections.Counter()
    for layer in parsed:
        count[type(layer)] += 1
        if isinstance(layer, Dense):
            x = block.fully_connected(x, layer.units, f"{top}/dense_{count[Dense]}")
        else:
            x = block.dropout(x, 1 - layer.rate, f"{top}/dropout_{count[Dropout]}")
    logits = block.for_logits().fully_connected(x, num_classes, f"{top}/logits")
    new = blocks.model(model.name, model.input, {}, **{**model.output, "logits": logits})
    kept = {id(tensor) for operation in new.operations for tensor in _outputs(operation)}
    end_points = {name: x for name, x in model.end_points.items() if id(x) in kept}
    end_points |= {"Logits": logits, "Predictions": block.softmax(logits, f"{top}/predictions")}
    return blocks.model(model.name, model.input, end_points, **{**model.output, "logits": logits})


def _parse_layer(part: str, text: str) -> Dense | Dropout:
    kind, _, value = part.partition(":")
    try:
        if kind == "dense" and int(value) > 0:
            return Dense(int(value))
        if kind == "dropout" and 0 <= float(value) < 1:
            return Dropout(float(value))
    except ValueError:
        pass
    raise UsageError(
        f"{part!r} is neither dense:UNITS (1 or more) nor dropout:RATE (a fraction from 0 to below "
        f"1), {_EXAMPLE}.",
        option="head",
        value=text,
    )


def _outputs(operation) -> list:
    return keras.tree.flatten(operation.output)
