"""Lists of what there is: all nets, and the scopes of one."""

import math
from collections.abc import Callable

import keras

from nets import costs, nets_factory, pretrained, slim_names
from runs.options import TrainOptions

_HEADING = ("name", "image", "parameters", "multiply-adds", "preprocessing", "root scope")
_HEADING += ("outputs", "pretrained")


def list_models(say: Callable[[str], None] = print) -> None:
    """A line a net."""
    lines = [_HEADING]
    for net in nets_factory.NETS.values():
        cost, source = costs.known()[net.name], pretrained.source(net.name)
        lines.append(
            (
                net.name,
                str(net.image_size),
                f"{cost.parameters / 1e6:.2f} M",
                f"{cost.multiply_adds / 1e6:.0f} M",
                net.preprocessing,
                net.scope or "-",
                str(net.checkpoint_outputs) if source else "-",
                source or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if 0 < i < 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        say("  ".join(cells).rstrip())
    say(
        "image: side in pixels. outputs: of an ImageNet checkpoint; with 1001, 0 is the background "
        "(--labels_offset). pretrained: where --checkpoint_path=pretrained takes weights from."
    )


def list_scopes(options: TrainOptions, say: Callable[[str], None] = print) -> None:
    """The upper scopes of the net that the options choose, each with its variables counted."""
    net = nets_factory.get(options.net.model_name)

    def shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
        with keras.StatelessScope(initialize_variables=False):  # values would take their time
            model = nets_factory.build(
                net.name,
                num_classes,
                options.training.batch.train_image_size,
                1 if options.recipe.use_grayscale else None,
                **options.net.net_options,
            )
        return {name: tuple(v.shape) for name, v in slim_names.variables(model).items()}

    found, other = shapes(net.checkpoint_outputs), shapes(net.checkpoint_outputs + 1)
    for scope in slim_names.scopes(found):
        if scope.count("/") < 3 and not scope.endswith("/BatchNorm"):
            inside = [shape for name, shape in found.items() if name.startswith(f"{scope}/")]
            count = sum(map(math.prod, inside))
            say(f"{scope}  {len(inside)} variables, {count / 1e6:.2f} M parameters")
    if options.net.head:
        return say("The head is the run's own: a checkpoint is restored without it.")
    sized = [name for name, shape in found.items() if shape != other[name]]
    heads = dict.fromkeys("/".join(name.split("/")[:-1][:2]) for name in sized)
    say(f"For other classes than the checkpoint's: --checkpoint_exclude_scopes={','.join(heads)}")
