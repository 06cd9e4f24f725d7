"""Autoregressive flows from zuko: affine (MAF) and with rational-quadratic splines (NSF)."""

from __future__ import annotations

__all__ = ["AutoregressiveFlow"]

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.initialise import seeded
from featood.nets.mlp import ACTIVATIONS


class AutoregressiveFlow(nn.Module):
    """A density whose transformations change each feature depending on the previous ones, in a random order.

    Parameters
    ----------
    size, layers : int
        Number of features and transformations.
    hidden : sequence of int
        Widths of the hidden layers of the network of each transformation.
    activation : str
        Activation of these networks.
    bins : int
        Number of bins of the splines on [-5, 5]; 0 for affine transformations.
    generator : torch.Generator, optional
        Generator of the initial weights and the orders.

    References
    ----------
    Papamakarios et al., Masked Autoregressive Flow for Density Estimation, NeurIPS 2017;
    Durkan et al., Neural Spline Flows, NeurIPS 2019.
    """

    def __init__(
        self,
        size: int,
        layers: int,
        hidden: Sequence[int],
        activation: str = "relu",
        bins: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        from zuko.flows import MAF, NSF

        super().__init__()
        self.size = size
        shape: dict[str, Any] = {
            "transforms": layers,
            "hidden_features": hidden,
            "activation": ACTIVATIONS[activation],
            "randperm": True,
        }
        with seeded(generator):
            self.flow = NSF(size, bins=bins, **shape) if bins else MAF(size, **shape)

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows to the base, with log-determinants ``[B]``."""
        latents, log_det = self.flow().transform.call_and_ladj(rows)
        return latents, log_det

    def log_density(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Log-densities ``[B]`` of rows ``[B, D]``, in nats."""
        return self.flow().log_prob(rows)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} {self.size}"]:
        """Draw rows ``[count, D]``, one feature after the other."""
        base = torch.randn(count, self.size, generator=generator, device=generator.device)
        return self.flow().transform.inv(base.to(next(self.parameters())))
