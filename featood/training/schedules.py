"""Learning-rate schedules: the factor on the rate as a pure function of the step, without state."""

from __future__ import annotations

__all__ = ["Schedule", "constant", "cosine", "multi_step", "warm_up"]

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]
"""Maps the step, counted from 0, to a factor on all learning rates."""


def constant(step: int) -> float:
    """Return 1: a constant rate."""
    return 1.0


def multi_step(milestones: Sequence[int], factor: float = 0.1) -> Schedule:
    """Multiply the rate by `factor` at each milestone."""
    return lambda step: factor ** sum(step >= milestone for milestone in milestones)


def cosine(steps: int, floor: float = 0.0) -> Schedule:
    """Decrease along half a cosine from 1 to `floor` in `steps` steps, then stay constant."""
    return lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def warm_up(steps: int, then: Schedule = constant) -> Schedule:
    """Multiply the schedule `then` by a factor that increases linearly to 1 over the first `steps` steps."""
    return lambda step: min((step + 1) / max(steps, 1), 1.0) * then(step)
