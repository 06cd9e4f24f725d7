"""Flow-contrastive estimation: noise-contrastive estimation against a flow trained to resemble the data."""

from __future__ import annotations

__all__ = ["Flow", "flow_contrastive", "importance_likelihood"]

import math
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featood.energies.noise_contrastive import Noise
from featood.energies.sgld import Energy


@runtime_checkable
class Flow(Noise, Protocol):
    """A noise distribution given by an invertible map, differentiable in its parameters."""

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` of the standard normal base to rows."""


def flow_contrastive(
    energy: Energy, rows: Float[Tensor, "B D"], flow: Flow, generator: torch.Generator
) -> dict[str, Float[Tensor, ""]]:
    """Return the flow's loss against an energy that classifies data and draws by ``-E(x) - log q(x)``.

    It is the logistic loss of :func:`noise_contrastive` with exchanged labels. The loss of the energy is
    :func:`noise_contrastive` with the flow as noise. Keep the parameters that must not be updated `frozen`.

    Parameters
    ----------
    energy : callable
        ``[B, D]`` to ``[B]``.
    rows : Tensor
        Data ``[B, D]``.
    flow : Flow
        q; its parameters get gradients through its draws and its density.
    generator : torch.Generator
        Generator of the draws.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the share that the energy classifies correctly as ``accuracy``.

    References
    ----------
    Gao et al., Flow Contrastive Estimation of Energy-Based Models, CVPR 2020.
    """
    base = torch.randn(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype)
    draws = flow.inverse(base.to(rows.device))
    data_margin = -energy(rows) - flow.log_density(rows)
    draw_margin = -energy(draws) - flow.log_density(draws)
    loss = F.softplus(data_margin).mean() + F.softplus(-draw_margin).mean()
    correct = torch.cat([data_margin > 0, draw_margin < 0])
    return {"loss": loss, "accuracy": correct.double().mean()}


def importance_likelihood(
    energy: Energy, rows: Float[Tensor, "B D"], noise: Noise, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of rows ``[B, D]``, with the energy normalised by importance sampling.

    ``mean E(x) + log mean exp(-E(x~) - log q(x~))`` with as many draws as rows. Unlike a contrastive loss, it can be
    compared between steps with different noise distributions.
    """
    draws = noise.sample(len(rows), generator).to(rows)
    log_weights = -energy(draws) - noise.log_density(draws)
    return energy(rows).mean() + log_weights.logsumexp(0) - math.log(len(rows))
