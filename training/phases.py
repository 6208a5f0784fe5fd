"""What changes at known steps of a run: the size of the images, and the scopes that are trained."""

import dataclasses
from collections.abc import Sequence

from foundation.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Phase:
    """From step `start` on: images of `image_size` pixels, and trained `scopes` (none: all)."""

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
      UsageError: the first size begins late, the steps don't rise, the last size is another one,
        or there is nothing frozen to unfreeze.
    """
    if resizing:
        _check(resizing, image_size)
    if unfreezing and not scopes:
        raise UsageError(
            "--unfreeze: everything is trained already.",
            remedy="Name what is trained from the start by --trainable_scopes.",
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


def _check(resizing: Sequence[tuple[int, int]], image_size: int) -> None:
    problem = None
    first, last, steps = resizing[0], resizing[-1], [step for _, step in resizing]
    if first[1] != 0:
        problem = f"the first size must begin at step 0, such as {first[0]}:0."
    elif sorted(set(steps)) != steps:
        problem = "the steps must rise."
    elif last[0] != image_size:
        problem = (
            f"ends with images of {last[0]} pixels, but the net is evaluated on {image_size}: end "
            f"with that, or start a run with --train_image_size={last[0]}."
        )
    if problem:
        text = ",".join(f"{size}:{step}" for size, step in resizing)
        raise UsageError(problem, option="progressive_resizing", value=text)


def at(phases: Sequence[Phase], step: int) -> int:
    """Index of the phase that the step after `step` belongs to."""
    return max(i for i, phase in enumerate(phases) if phase.start <= step)


def end(phases: Sequence[Phase], index: int, last_step: int | None) -> int | None:
    """The step at which the phase after number `index` begins, where the run gets there."""
    if index + 1 == len(phases):
        return None
    start = phases[index + 1].start
    return start if last_step is None or start < last_step else None
