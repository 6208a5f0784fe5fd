"""The class names of ImageNet's challenge (ILSVRC 2012), in the order of published checkpoints."""

import importlib.resources
from collections.abc import Sequence

from foundation import labels

BACKGROUND = "background"
_NUM_CLASSES = 1000


def names(num_outputs: int) -> Sequence[str] | None:
    """English names of 1,000 outputs, or of 1,001 whose first is the background; else None.

    The outputs are in the order of the WordNet numbers of the classes, n01440764 (tench) first, as
    TF-Slim's and Keras' checkpoints have them. The words are those of the list of labels that
    Gradio brings along (Apache 2.0).
    """
    if num_outputs not in (_NUM_CLASSES, _NUM_CLASSES + 1):
        return None
    file = importlib.resources.files("nets") / "imagenet_labels.txt"
    known = labels.parse(file.read_bytes(), "imagenet_labels.txt")
    return known if num_outputs == _NUM_CLASSES else (BACKGROUND, *known)
