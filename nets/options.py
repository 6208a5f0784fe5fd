"""Options of the nets: which one, with which head, and from which checkpoint."""

from foundation.errors import UsageError
from foundation.options import Options, option, options

PRETRAINED = "pretrained"  # the value of --checkpoint_path that stands for published weights
# The longest side of a net's images: of a larger one a single image takes a gibibyte.
MOST_PIXELS = 4096
_SMALL_CNN = "small_cnn"


@options
class NetOptions(Options):
    """Net."""

    model_name: str = option("inception_v3", "Net, by its slim name, such as inception_v3.")


@options
class TrainedNetOptions(NetOptions):
    """Net."""

    model_name: str = option(
        "inception_v3",
        "Net, by its slim name, such as inception_v3; auto measures which is the best that "
        "--max_minutes are enough for.",
    )
    head: str | None = option(
        None,
        "A classifier of dense ReLU layers and dropout in place of the net's own, such as "
        "dense:512,dropout:0.5.",
    )
    small_cnn_filters: tuple[int, ...] | None = option(
        None, "Widths of small_cnn's stages; unset: 32,64,128.", bounds=(1, None)
    )
    small_cnn_dense_units: int | None = option(
        None, "Width of small_cnn's dense layer; unset: 128.", bounds=(1, None)
    )
    small_cnn_dropout: float | None = option(
        None, "Fraction that small_cnn's dropout drops; unset: 0.5.", bounds=(0, 1)
    )

    def check(self) -> None:
        own = sorted(name for name in self.given if name.startswith(_SMALL_CNN))
        if own and self.model_name != _SMALL_CNN:
            raise UsageError(f"--{own[0]} needs --model_name={_SMALL_CNN}.")

    @property
    def net_options(self) -> dict[str, object]:
        """What differs from the net's own row; run.json keeps it and evaluation rebuilds by it."""
        own = {
            "filters": self.small_cnn_filters and list(self.small_cnn_filters),
            "dense_units": self.small_cnn_dense_units,
            "dropout": self.small_cnn_dropout,
            "head": self.head and ",".join(part.strip() for part in self.head.split(",") if part),
        }
        return {name: value for name, value in own.items() if value is not None}


@options
class DownloadOptions(Options):
    """Pretrained weights."""

    cache_dir: str | None = option(
        None,
        "Folder for the downloads of --checkpoint_path=pretrained; unset: "
        "~/.cache/slim_image_classifiers.",
        path=True,
    )


@options
class AveragesOptions(Options):
    """Moving averages."""

    moving_average_decay: float | None = option(
        None, "Take the moving averages of the variables; unset: if the run kept them; 0: never."
    )


@options
class CheckpointOptions(AveragesOptions):
    """Checkpoint."""

    checkpoint_path: str = option(
        "/tmp/tfmodel/",
        "Training folder (its last checkpoint is taken), checkpoint, .keras or .h5 file, or the "
        "word pretrained.",
        aliases=("input_checkpoint",),
        path=True,
    )
