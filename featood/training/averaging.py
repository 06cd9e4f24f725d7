"""Moving average of the parameters, which fluctuates less than the parameters themselves."""

from __future__ import annotations

__all__ = ["MovingAverage"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREFIX = "average."


class MovingAverage:
    """Exponential moving average of the parameters of a model.

    Parameters
    ----------
    model : Module
        The model; its buffers are not averaged.
    decay : float
        Weight of the previous average at each step, in [0, 1); smaller in the first steps, to forget initial values.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.count = 0
        self.values = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current parameters."""
        self.count += 1
        decay = min(self.decay, self.count / (self.count + 9))
        torch._foreach_lerp_(list(self.values.values()), list(self.model.parameters()), 1 - decay)

    @torch.no_grad()
    def write(self) -> None:
        """Replace the parameters by the average."""
        for name, value in self.model.named_parameters():
            value.copy_(self.values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the parameters by the average within a context."""
        current = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self.model.named_parameters():
                    value.copy_(current[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, for a checkpoint."""
        values = {f"{PREFIX}value.{name}": value.clone() for name, value in self.values.items()}
        return {**values, PREFIX + "count": torch.tensor(self.count)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state returned by :meth:`tensors`; other tensors are ignored."""
        self.count = int(tensors[PREFIX + "count"])
        for name, value in self.values.items():
            value.copy_(tensors[f"{PREFIX}value.{name}"])
