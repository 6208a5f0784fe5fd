"""Which net a run trains, and what it takes from --checkpoint_path."""

import dataclasses
from collections.abc import Callable, Mapping

import keras

from foundation.errors import InputError
from nets import checkpoints, heads, nets_factory, pretrained
from training.options import TrainingOptions


@dataclasses.dataclass(frozen=True)
class NetConfig:
    """Which net a run trains: a row of `nets_factory`, and what differs from that row.

    `image_size` is the side in pixels; `net_options` are those of the net's builder.
    """

    model_name: str
    num_classes: int
    image_size: int
    channels: int = 3
    net_options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def options_in_training(self) -> dict[str, object]:
        """Options of the net's builder, in training."""
        # NASNet and PNASNet have their auxiliary head in training only: run.json leaves it out.
        known = nets_factory.get(self.model_name).options
        head = {"create_aux_logits": True} if "create_aux_logits" in known else {}
        return head | dict(self.net_options)

    def build(self, image_size: int | None = None, **options: object) -> keras.Model:
        """The net as it is trained; raises InputError for a name or options that there are not."""
        size = image_size or self.image_size
        return nets_factory.build(self.model_name, self.num_classes, size, self.channels, **options)


def take(
    model: keras.Model,
    options: TrainingOptions,
    net: NetConfig,
    say: Callable[[str], None] = print,
) -> None:
    """Restores --checkpoint_path into the net and says what it took.

    Raises:
      InputError: it does not fit; nothing was changed.
    """
    report = checkpoints.restore(
        model,
        *_source(model, options, net, say),
        ignore_missing=options.restoring.ignore_missing_vars,
    )
    say(str(report))


def dry_run(options: TrainingOptions, net: NetConfig, say: Callable[[str], None] = print) -> None:
    """Says what a new run would take from --checkpoint_path, and reads it; changes nothing.

    Raises:
      InputError: it does not fit or can't be read; the message has the remedy.
    """
    model = net.build(**net.options_in_training)
    source, exclude = _source(model, options, net, say)
    report = checkpoints.plan(model, source, exclude)
    problem = report.problem(options.restoring.ignore_missing_vars)
    if not problem:
        checkpoints.weights(source, report)
    say(str(report))
    if problem:
        raise InputError(problem)


def _source(
    model: keras.Model, options: TrainingOptions, net: NetConfig, say: Callable[[str], None]
):
    """The open --checkpoint_path, and the scopes that are not taken from it."""
    source = pretrained.read(
        net.model_name,
        options.restoring.checkpoint_path,
        net.num_classes,
        options.download.cache_dir,
        say,
    )
    root = nets_factory.get(net.model_name).scope
    exclude = heads.with_word(options.restoring.checkpoint_exclude_scopes, model, root)
    if net.net_options.get("head"):
        exclude = tuple(dict.fromkeys((*exclude, heads.root(root))))
    return source, exclude
