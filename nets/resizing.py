"""A net on images of another size, with the same weights."""

from collections.abc import Callable

import keras

from foundation.errors import InputError
from nets.shapes import shapes_only


def at_size(model: keras.Model, build: Callable[..., keras.Model], image_size: int) -> keras.Model:
    """The net for images of `image_size` pixels; it shares all layers that have weights.

    Args:
      model: the net as it is.
      build: takes image_size=… and options of the net, and builds the net anew.
      image_size: side in pixels.

    Returns:
      A net without auxiliary head where the head's weights depend on the size of the image.

    Raises:
      InputError: the images are too small, or other weights depend on their size.
    """
    shapes = _shapes(model)

    def fitting(**options) -> keras.Model | None:
        with shapes_only():  # its own weights are never used
            other = build(image_size=image_size, **options)
        fits = all(shapes.get(name) == shape for name, shape in _shapes(other).items())
        return other if fits else None

    other = fitting()
    if other is None and "aux_logits" in model.output:
        other = fitting(create_aux_logits=False)
    if other is None:
        raise InputError(
            f"{model.name} has weights for images of {model.input.shape[1]} pixels only: it can't "
            f"learn from {image_size} pixels meanwhile.",
            remedy="Leave --progressive_resizing out, or take a net that ends in global pooling.",
        )
    own = {layer.name: layer for layer in model.layers if layer.weights}
    return keras.models.clone_model(
        other,
        clone_function=lambda layer: (
            own.get(layer.name) or type(layer).from_config(layer.get_config())
        ),
    )


def _shapes(model: keras.Model) -> dict[str, list[tuple[int, ...]]]:
    """By layer, the shapes of its weights; layers without any are left out."""
    return {
        layer.name: [tuple(weight.shape) for weight in layer.weights]
        for layer in model.layers
        if layer.weights
    }
