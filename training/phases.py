"""What changes at a known step of a run: the size of the images, and which scopes are trained."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Phase:
    """From step `start` on: images of `image_size` pixels; `scopes` trained (none: all)."""

    start: int
    image_size: int
    scopes: tuple[str, ...]


def plan(
    image_size: int,
    scopes: tuple[str, ...],
    resizing: Sequence[tuple[int, int]] = (),
    unfreezing: Sequence[tuple[int, str]] = (),
) -> list[Phase]:
    """The phases of a run in order, the first from step 0.

    Args:
      image_size: in pixels, where `resizing` says nothing.
      scopes: trained from the start; empty for all.
      resizing: (image size, step from which it is taken).
      unfreezing: (step, scope that is trained from then on).

    Raises:
      ValueError: the plan begins late, ends with another size, or thaws where nothing is frozen.
    """
    if resizing:
        text = ",".join(f"{size}:{step}" for size, step in resizing)
        if resizing[0][1] != 0:
            raise ValueError(
                f"--progressive_resizing={text}: the first size must begin at step 0, such as "
                f"{resizing[0][0]}:0."
            )
        if sorted({step for _, step in resizing}) != [step for _, step in resizing]:
            raise ValueError(f"--progressive_resizing={text}: the steps must rise.")
        if resizing[-1][0] != image_size:
            raise ValueError(
                f"--progressive_resizing={text} ends with images of {resizing[-1][0]} pixels, but "
                f"the net is evaluated on {image_size}: end with that, or start a run with "
                f"--train_image_size={resizing[-1][0]}."
            )
    if unfreezing and not scopes:
        raise ValueError(
            "--unfreeze: everything is trained already. Name what is trained from the start by "
            "--trainable_scopes."
        )
    starts = {0, *(step for _, step in resizing), *(step for step, _ in unfreezing)}
    return [
        Phase(
            start,
            next((size for size, step in reversed(resizing) if step <= start), image_size),
            (*scopes, *(scope for step, scope in unfreezing if step <= start)),
        )
        for start in sorted(starts)
    ]


def at(phases: Sequence[Phase], step: int) -> int:
    """Index of the phase that makes the step after `step`."""
    return max(i for i, phase in enumerate(phases) if phase.start <= step)
