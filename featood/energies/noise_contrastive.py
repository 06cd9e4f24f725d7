"""Noise-contrastive estimation: learns a normalised energy by classifying data and noise."""

from __future__ import annotations

__all__ = [
    "GaussianNoise", "Noise", "NoiseContrastiveObjective", "TiltedGaussian", "UniformNoise", "noise_contrastive",
]  # fmt: skip

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.classifier import free_energy
from featood.energies.objective import EnergyObjective
from featood.energies.sgld import Energy
from featood.numerics.gaussian import Whitening, log_density, whitening
from featood.options import option

RIDGE = 1e-3
"""Relative ridge on the covariance of the noise, which is singular for data in a subspace."""


@runtime_checkable
class Noise(Protocol):
    """A distribution that can be sampled, with a known density."""

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} *shape"]:
        """Draw ``[count, ...]``, in any shape with as many values as an input."""

    def log_density(self, rows: Float[Tensor, "B *shape"]) -> Float[Tensor, "B"]:
        """Return ``log q`` ``[B]`` of inputs ``[B, ...]``."""


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """Gaussian with the mean and covariance of the data."""

    whitening: Whitening

    @classmethod
    def of(cls, rows: Float[Tensor, "N D"], ridge: float = RIDGE) -> Self:
        """Fit to rows ``[N, D]``, with a ridge on the covariance relative to the mean variance.

        Raises
        ------
        DataError
            If all rows are equal.
        """
        exact = rows.double()
        centered = exact - exact.mean(0)
        covariance = centered.T @ centered / len(rows)
        return cls(whitening(exact.mean(0), covariance, ridge, "the covariance of the noise"))

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} D"]:
        """Draw ``[count, D]`` in float32."""
        matrix, center = self.whitening.matrix, self.whitening.center
        shape = (count, len(center))
        draws = torch.randn(shape, generator=generator, device=generator.device, dtype=matrix.dtype)
        # rows @ matrix whitens, so solving gives draws with the covariance
        rows = torch.linalg.solve_triangular(matrix, draws.to(matrix.device), upper=True, left=False)
        return (rows + center).float()

    def log_density(self, rows: Float[Tensor, "B *shape"]) -> Float[Tensor, "B"]:
        """Return ``log q`` ``[B]`` of inputs ``[B, ...]``, in their precision."""
        flat = rows.flatten(1)
        squared = self.whitening(flat.double()).square().sum(1)
        return log_density(squared, self.whitening.log_det, flat.shape[1]).to(rows.dtype)


@dataclasses.dataclass(frozen=True)
class UniformNoise:
    """Uniform distribution on the bounding box of the data."""

    low: Float[Tensor, "D"]
    high: Float[Tensor, "D"]

    @classmethod
    def of(cls, rows: Float[Tensor, "N D"]) -> Self:
        """Fit to rows ``[N, D]``; sides shorter than 1e-3 are extended to 1e-3."""
        low, high = rows.min(0).values, rows.max(0).values
        margin = (5e-4 - (high - low) / 2).clamp(min=0)
        return cls(low - margin, high + margin)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} D"]:
        """Draw ``[count, D]``."""
        draws = torch.rand((count, len(self.low)), generator=generator, device=generator.device)
        return self.low + draws.to(self.low) * (self.high - self.low)

    def log_density(self, rows: Float[Tensor, "B *shape"]) -> Float[Tensor, "B"]:
        """Return ``log q`` ``[B]`` of inputs in the box, which is constant."""
        return -(self.high - self.low).log().sum().expand(len(rows))


class TiltedGaussian(nn.Module):
    """A network whose logits are added to the log-density of a Gaussian, which is part of its state.

    Parameters
    ----------
    net : Module
        From inputs ``[B, ...]`` to logits ``[B, C]``.
    size : int
        Size of an input.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net = net
        for name, shape in (("center", (size,)), ("matrix", (size, size)), ("log_det", ()), ("ridge", ())):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def tilt(self, gaussian: Whitening) -> None:
        """Set the Gaussian."""
        for name, value in gaussian._asdict().items():
            self.get_buffer(name).copy_(value)

    @property
    def noise(self) -> GaussianNoise:
        """The Gaussian."""
        return GaussianNoise(Whitening(*(self.get_buffer(name) for name in Whitening._fields)))

    def forward(self, rows: Float[Tensor, "B *shape"]) -> Float[Tensor, "B C"]:
        """Map inputs ``[B, ...]`` to logits ``[B, C]``, whose logsumexp is the log-density."""
        return self.net(rows) + self.noise.log_density(rows)[:, None]

    def energy(self, rows: Float[Tensor, "B *shape"]) -> Float[Tensor, "B"]:
        """Return the sum of the energies of network and Gaussian ``[B]``."""
        return free_energy(self)(rows)


def noise_contrastive(
    energy: Energy, rows: Float[Tensor, "B *shape"], noise: Noise, generator: torch.Generator
) -> dict[str, Float[Tensor, ""]]:
    """Return the logistic loss of classifying data and as many draws of the noise by ``-E(x) - log q(x)``.

    Its minimum is ``E = -log p``, including the constant.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the share classified correctly as ``accuracy``.

    References
    ----------
    Gutmann and Hyvärinen, Noise-contrastive estimation: A new estimation principle for unnormalized statistical
    models, AISTATS 2010.
    """
    draws = noise.sample(len(rows), generator).to(rows).reshape(rows.shape)
    data_margin = -energy(rows) - noise.log_density(rows)
    noise_margin = -energy(draws) - noise.log_density(draws)
    loss = F.softplus(-data_margin).mean() + F.softplus(noise_margin).mean()
    correct = torch.cat([data_margin > 0, noise_margin < 0])
    return {"loss": loss, "accuracy": correct.double().mean()}


@dataclasses.dataclass(kw_only=True, eq=False)
class NoiseContrastiveObjective(EnergyObjective):
    """Learn an energy that tells inputs from noise; ``noise`` is one of the parts."""

    noise: str = option(
        "gaussian",
        "normal, with mean and covariance of the inputs or as the base has it, or uniform on their bounding box",
        choices=("gaussian", "uniform"),
    )

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the loss of distinguishing inputs from noise."""
        return noise_contrastive(free_energy(net), rows, parts["noise"], generator)
