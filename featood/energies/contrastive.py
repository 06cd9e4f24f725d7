"""Losses that lower the energy of data and raise the energy of samples: contrastive divergence, logistic contrast."""

from __future__ import annotations

__all__ = ["ContrastiveObjective", "contrastive_divergence", "logistic_contrast"]

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.gaussian_base import learned_energy
from featood.energies.replay import SampledObjective
from featood.energies.sgld import Energy
from featood.options import option


def contrastive_divergence(
    energy: Energy,
    positive: Float[Tensor, "B *shape"],
    negative: Float[Tensor, "M *shape"],
    *,
    l2: float,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return ``mean E(x+) - mean E(x-) + l2 (mean E(x+)^2 + mean E(x-)^2)``.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``.
    positive, negative : Tensor
        Data ``[B, ...]`` and samples ``[M, ...]``.
    l2 : float
        Weight of the squared energies, which keeps them near zero.
    noise : float
        Standard deviation of normal noise added to both.
    generator : torch.Generator, optional
        Generator of the noise; required if `noise` is positive.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the mean energies ``positive`` and ``negative``.

    References
    ----------
    Hinton, Training Products of Experts by Minimizing Contrastive Divergence, Neural Computation 2002; squared
    energies: Du and Mordatch, Implicit Generation and Modeling with EBMs, NeurIPS 2019.
    """
    low, high = _energies(energy, positive, negative, noise, generator)
    loss = low.mean() - high.mean() + l2 * (low.square().mean() + high.square().mean())
    return {"loss": loss, "positive": low.mean(), "negative": high.mean()}


def logistic_contrast(
    energy: Energy,
    positive: Float[Tensor, "B *shape"],
    negative: Float[Tensor, "M *shape"],
    *,
    l2: float = 0.0,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return ``mean softplus(E(x+)) + mean softplus(-E(x-))``, and the squared energies as `contrastive_divergence`.

    Without the squared energies, its minimum is ``E = log q - log p``, p being the density of the data and q that of
    the samples: E is bounded wherever the samples lie near the data.

    Parameters
    ----------
    energy, positive, negative, l2, noise, generator
        As in :func:`contrastive_divergence`.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the mean energies ``positive`` and ``negative``.

    References
    ----------
    Gutmann and Hyvärinen, Noise-contrastive estimation: A new estimation principle for unnormalized statistical
    models, AISTATS 2010.
    """
    low, high = _energies(energy, positive, negative, noise, generator)
    loss = (
        F.softplus(low).mean() + F.softplus(-high).mean() + l2 * (low.square().mean() + high.square().mean())
    )
    return {"loss": loss, "positive": low.mean(), "negative": high.mean()}


def _energies(
    energy: Energy,
    positive: Tensor,
    negative: Tensor,
    noise: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Return the energies of data and of samples, with normal noise added to both."""
    if noise:
        if generator is None:
            raise ValueError("noise needs a generator")
        positive, negative = (
            rows + noise * torch.randn(rows.shape, generator=generator, device=generator.device).to(rows)
            for rows in (positive, negative)
        )
    return energy(positive), energy(negative)


@dataclasses.dataclass(kw_only=True, eq=False)
class ContrastiveObjective(SampledObjective):
    """Learn an energy by contrast with its own Langevin samples; see :func:`contrastive_divergence`."""

    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Draw samples and return the contrastive loss."""
        samples = self.samples(net, parts["chains"], len(rows), generator)
        return contrastive_divergence(learned_energy(net), rows, samples, l2=self.l2)
