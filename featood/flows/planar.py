"""Planar flows: layers that move points along one direction, depending on their position along another."""

from __future__ import annotations

__all__ = ["PlanarFlow"]

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BISECTIONS = 80


class PlanarFlow(nn.Module):
    """Layers ``z + u tanh(w z + b)``, with u corrected such that ``w u > -1``, so each layer is invertible.

    Parameters
    ----------
    size, layers : int
        Number of features and layers.
    generator : torch.Generator, optional
        Generator of the initial parameters, uniform within ``1 / sqrt(size)`` of zero.

    References
    ----------
    Rezende and Mohamed, Variational Inference with Normalizing Flows, ICML 2015.
    """

    def __init__(self, size: int, layers: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)

        def draw(*shape: int) -> nn.Parameter:
            values = torch.rand(*shape, generator=generator, device=generator.device)
            return nn.Parameter((2 * values - 1).cpu() / math.sqrt(size))

        self.weight, self.push, self.bias = draw(layers, size), draw(layers, size), draw(layers)

    def directions(self) -> tuple[Float[Tensor, "L D"], Float[Tensor, "L"]]:
        """Return the corrected u ``[L, D]`` and its products with w ``[L]``, all above -1."""
        product = (self.weight * self.push).sum(1)
        wanted = F.softplus(product) - 1
        square = self.weight.square().sum(1).clamp(min=1e-12)
        return self.push + ((wanted - product) / square)[:, None] * self.weight, wanted

    def forward(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Map rows ``[B, D]`` to the base, with log-determinants ``[B]``."""
        push, product = self.directions()
        log_det = rows.new_zeros(rows.shape[0])
        for layer in range(len(push)):
            activation = torch.tanh(rows @ self.weight[layer] + self.bias[layer])
            rows = rows + activation[:, None] * push[layer]
            log_det = log_det + torch.log1p(product[layer] * (1 - activation.square()))
        return rows, log_det

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points of the base ``[B, D]`` back; the position along w is found by bisection."""
        push, product = self.directions()
        for layer in reversed(range(len(push))):
            target = latent @ self.weight[layer] + self.bias[layer]
            low, high = target - product[layer].abs(), target + product[layer].abs()
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                beyond = middle + product[layer] * torch.tanh(middle) > target
                low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
            latent = latent - torch.tanh((low + high) / 2)[:, None] * push[layer]
        return latent
