"""Learning-rate schedules: the factor on the rate as a pure function of the step, so there is nothing to resume."""

from __future__ import annotations

__all__ = ["Schedule", "constant", "cosine", "multi_step", "warm_up"]

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]
"""From the step, counted from 0, to a factor on each learning rate."""


def constant(step: int) -> float:
    """Keep the rate."""
    return 1.0


def multi_step(milestones: Sequence[int], factor: float = 0.1) -> Schedule:
    """Multiply the rate by `factor` from each milestone on."""
    return lambda step: factor ** sum(step >= milestone for milestone in milestones)


def cosine(steps: int, floor: float = 0.0) -> Schedule:
    """Fall along half a cosine from 1 to `floor` in `steps` steps, and stay there."""
    return lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def warm_up(steps: int, then: Schedule = constant) -> Schedule:
    """Rise linearly over the first `steps` steps to the schedule `then`, which counts from the same start."""
    return lambda step: min((step + 1) / max(steps, 1), 1.0) * then(step)
