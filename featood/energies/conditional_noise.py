"""Conditional noise-contrastive estimation: tells each input from noisy copies of it."""

from __future__ import annotations

__all__ = ["ConditionalNoiseObjective", "conditional_noise_contrastive"]

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.classifier import free_energy
from featood.energies.objective import EnergyObjective
from featood.energies.perturbation import perturb
from featood.energies.sgld import Energy
from featood.options import option


def conditional_noise_contrastive(
    energy: Energy,
    rows: Float[Tensor, "B ..."],
    generator: torch.Generator,
    *,
    spread: float = 0.1,
    widest: float = 0.0,
    draws: int = 1,
    size_penalty: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Return the logistic loss of classifying each row and its noisy copies, ``mean log(1 + exp(E(x) - E(x~)))``.

    The kernel of the noise is symmetric, so its density cancels, also if the standard deviation is random, which
    covers the density near the rows and farther away. For little noise, the loss approaches score matching.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``.
    rows : Tensor
        Data ``[B, ...]``.
    generator : torch.Generator
        Generator of the noise.
    spread, widest : float
        Standard deviation of the noise; see :func:`perturb`.
    draws : int
        Number of noisy copies of each row.
    size_penalty : float
        Weight of ``mean |E(x)|``.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the share classified correctly as ``accuracy``.

    References
    ----------
    Ceylan and Gutmann, Conditional Noise-Contrastive Estimation of Unnormalised Models, ICML 2018.
    """
    noisy = perturb(rows.repeat(draws, *[1] * (rows.ndim - 1)), generator, spread=spread, widest=widest)
    low = energy(rows)
    rise = energy(noisy) - low.repeat(draws)
    loss = F.softplus(-rise).mean() + size_penalty * low.abs().mean()
    return {"loss": loss, "accuracy": (rise > 0).double().mean()}


@dataclasses.dataclass(kw_only=True, eq=False)
class ConditionalNoiseObjective(EnergyObjective):
    """Learn an energy that tells each input from noisy copies of it; see :func:`conditional_noise_contrastive`."""

    spread: float = option(0.1, "smallest standard deviation of the noise", low=1e-6)
    widest: float = option(1.0, "largest standard deviation of the noise; 0 for `spread` only", low=0)
    draws: int = option(5, "noisy copies of each input", low=1)
    size_penalty: float = option(0.0, "weight of the penalty on the magnitude of the energies", low=0)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the loss of distinguishing inputs from their noisy copies."""
        return conditional_noise_contrastive(
            free_energy(net),
            rows,
            generator,
            spread=self.spread,
            widest=self.widest,
            draws=self.draws,
            size_penalty=self.size_penalty,
        )
