"""Early stopping: keeps the state with the lowest loss on held-out rows, and stops if the loss no longer falls."""

from __future__ import annotations

__all__ = ["BestState"]

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

PREFIX = "best."


class BestState:
    """The validated state with the lowest loss.

    Parameters
    ----------
    validate : callable
        Returns the loss of the current model; NaN counts as no improvement.
    patience : int
        Number of consecutive validations without a new minimum after which training stops.
    """

    def __init__(self, validate: Callable[[], float], patience: int) -> None:
        self.validate = validate
        self.patience = patience
        self.losses: list[float] = []
        self.steps: list[int] = []
        self.step = 0
        self.state: Mapping[str, Tensor] | None = None

    def check(self, step: int, state: Mapping[str, Tensor]) -> bool:
        """Validate the model, whose snapshot after `step` steps is `state`; return whether to stop training."""
        if step in self.steps:  # validated before the training was interrupted
            return False
        loss = self.validate()
        before = [past for past in self.losses if not math.isnan(past)]
        self.losses.append(loss)
        self.steps.append(step)
        if not math.isnan(loss) and loss < min(before, default=math.inf):
            self.step, self.state = step, state
        return sum(past > self.step for past in self.steps) >= self.patience

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, for a checkpoint."""
        return {
            PREFIX + "losses": torch.tensor(self.losses, dtype=torch.float64),
            PREFIX + "steps": torch.tensor(self.steps),
            PREFIX + "step": torch.tensor(self.step),
            **{f"{PREFIX}state.{name}": value.clone() for name, value in (self.state or {}).items()},
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state returned by :meth:`tensors`; other tensors are ignored."""
        self.losses, self.steps = (tensors[PREFIX + name].tolist() for name in ("losses", "steps"))
        self.step = int(tensors[PREFIX + "step"])
        state = PREFIX + "state."
        found = {name.removeprefix(state): v for name, v in tensors.items() if name.startswith(state)}
        self.state = found or None
