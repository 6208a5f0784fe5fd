"""What each net costs: parameters and multiply-adds, kept in costs.json: building takes long.

python -m nets.costs    # rewrites costs.json; needed after a row was added or changed
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping

import keras

from foundation import files
from nets import names, nets_factory
from nets.shapes import shapes_only


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a net; of those in costs.json at its own size and with its checkpoint's outputs.

    `parameters` counts all weights, auxiliary heads and moving statistics included;
    `multiply_adds` those of convolutions and dense layers that lead to an image's logits.
    """

    parameters: int
    multiply_adds: int


@functools.cache
def known() -> Mapping[str, Cost]:
    """The costs in costs.json by model name."""
    with open(names.COSTS_FILE, encoding="utf-8") as file:
        return {name: Cost(*numbers[:2]) for name, numbers in json.load(file).items()}


def compute(name: str) -> Cost:
    """Builds a net, without values for its weights, and counts."""
    net = nets_factory.get(name)
    with shapes_only():
        return of(net.build(net.checkpoint_outputs))


def of(model: keras.Model) -> Cost:
    """Counts in a net as it is built: at its image size, with its classes."""
    main = keras.Model(model.input, model.output["logits"])
    parameters = sum(math.prod(variable.shape) for variable in model.weights)
    return Cost(parameters, sum(_multiply_adds(layer) for layer in main.layers))


def _multiply_adds(layer: keras.Layer) -> int:
    """Each element of a kernel acts once at each place of the output."""
    kernels = [math.prod(v.shape) for v in layer.weights if v.path.endswith("weights")]
    return sum(kernels) * math.prod(layer.output.shape[1:-1]) if kernels else 0


def main() -> None:
    costs = {}
    for name in nets_factory.NETS:
        costs[name] = compute(name)
        keras.backend.clear_session()
        print(name, *dataclasses.astuple(costs[name]), flush=True)
    rows = (
        f'  "{name}": {[*dataclasses.astuple(cost), nets_factory.NETS[name].image_size]}'
        for name, cost in costs.items()
    )
    with files.whole(names.COSTS_FILE) as file:
        file.write("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
