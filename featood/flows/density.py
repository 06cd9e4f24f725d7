"""A density given by invertible maps from rows or images to a standard normal distribution."""

from __future__ import annotations

__all__ = ["Chain", "Flatten", "FlowDensity", "standard_normal"]

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def standard_normal(latent: Float[Tensor, "B *shape"]) -> Float[Tensor, "B"]:
    """Log-densities ``[B]`` of points ``[B, ...]`` under the standard normal distribution, in nats."""
    flat = latent.flatten(1)
    return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))


class Chain(nn.Module):
    """Composition of flows, which is a flow.

    Parameters
    ----------
    flows : iterable of Module
        Flows in the order from rows to the base. Each has ``forward(rows) -> (rows, log_det)``,
        ``inverse(rows) -> rows``, and, if it is initialised from data, ``initialize(rows)``. Rows are vectors
        ``[B, D]`` or maps ``[B, C, H, W]``. A flow whose log-determinants can be estimated has the attribute
        ``estimates``, and takes a generator as second argument.
    """

    estimates = True

    def __init__(self, flows: Iterable[nn.Module]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def forward(
        self, rows: Float[Tensor, "B *shape"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B *latent"], Float[Tensor, "B"]]:
        """Map rows to the base, with log-determinants ``[B]``, which may be estimated if a generator is given."""
        log_det = rows.new_zeros(rows.shape[0])
        for flow in self._flows():
            estimated = generator is not None and getattr(flow, "estimates", False)
            rows, part = flow(rows, generator) if estimated else flow(rows)
            log_det = log_det + part
        return rows, log_det

    def inverse(self, latent: Float[Tensor, "B *latent"]) -> Float[Tensor, "B *shape"]:
        """Map points of the base back to rows."""
        for flow in reversed(self._flows()):
            latent = flow.inverse(latent)
        return latent

    @torch.no_grad()
    def initialize(self, rows: Float[Tensor, "B *shape"]) -> None:
        """Initialise the flows that need data, each with rows mapped by the previous flows."""
        for flow in self._flows():
            if hasattr(flow, "initialize"):
                flow.initialize(rows)
            rows, _ = flow(rows)

    def _flows(self) -> list[Any]:
        return list(self.flows)


class FlowDensity(Chain):
    """Composition of flows over a standard normal distribution.

    Parameters
    ----------
    size : int
        Number of features, or of values of an image.
    flows : iterable of Module
        See :class:`Chain`. If rows are maps, the last flow returns vectors, as :class:`Flatten` does.
    """

    def __init__(self, size: int, flows: Iterable[nn.Module]) -> None:
        super().__init__(flows)
        self.size = size

    def log_density(
        self, rows: Float[Tensor, "B *shape"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B"]:
        """Log-densities ``[B]`` of rows, in nats; see :meth:`Chain.forward`."""
        latent, log_det = self(rows, generator)
        return log_det + standard_normal(latent)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} *shape"]:
        """Draw rows."""
        base = torch.randn(count, self.size, generator=generator, device=generator.device)
        return self.inverse(base.to(next(self.parameters())))


class Flatten(nn.Module):
    """Maps of a shape as vectors.

    Parameters
    ----------
    shape : tuple of int
        ``(C, H, W)``.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, maps: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Return vectors, with log-determinants of zero."""
        return maps.flatten(1), maps.new_zeros(maps.shape[0])

    def inverse(self, latent: Float[Tensor, "B *latent"]) -> Float[Tensor, "B C H W"]:
        """Return maps, of vectors or maps."""
        return latent.reshape(len(latent), *self.shape)
