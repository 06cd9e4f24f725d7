"""A density given by invertible maps from rows to a standard normal distribution."""

from __future__ import annotations

__all__ = ["FlowDensity"]

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FlowDensity(nn.Module):
    """Composition of flows over a standard normal distribution.

    Parameters
    ----------
    size : int
        Number of features.
    flows : iterable of Module
        Flows in the order from rows to the base. Each has ``forward(rows) -> (rows, log_det)``,
        ``inverse(rows) -> rows``, and, if it is initialised from data, ``initialize(rows)``.
    """

    def __init__(self, size: int, flows: Iterable[nn.Module]) -> None:
        super().__init__()
        self.size = size
        self.flows = nn.ModuleList(flows)

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` to the base, with log-determinants ``[B]``."""
        log_det = rows.new_zeros(len(rows))
        for flow in self._flows():
            rows, part = flow(rows)
            log_det = log_det + part
        return rows, log_det

    def log_density(self, rows: Float[Tensor, "B D"], **options: Any) -> Float[Tensor, "B"]:
        """Log-densities ``[B]`` of rows ``[B, D]``, in nats; `options` are passed to :meth:`forward`."""
        latent, log_det = self(rows, **options)
        return log_det - 0.5 * (latent.square().sum(1) + self.size * math.log(2 * math.pi))

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points of the base ``[B, D]`` back to rows."""
        for flow in reversed(self._flows()):
            latent = flow.inverse(latent)
        return latent

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} {self.size}"]:
        """Draw rows ``[count, D]``."""
        base = torch.randn(count, self.size, generator=generator, device=generator.device)
        return self.inverse(base.to(next(self.parameters())))

    @torch.no_grad()
    def initialize(self, rows: Float[Tensor, "B D"]) -> None:
        """Initialise the flows that need data, each with rows ``[B, D]`` mapped by the previous flows."""
        for flow in self._flows():
            if hasattr(flow, "initialize"):
                flow.initialize(rows)
            rows, _ = flow(rows)

    def _flows(self) -> list[Any]:
        return list(self.flows)
