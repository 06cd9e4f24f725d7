"""Flow-contrastive estimation: noise-contrastive estimation against a flow that learns to be hard to tell from data."""

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
    """A noise with an invertible map behind it, differentiable in its parameters."""

    def inverse(self, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Map points ``[B, D]`` of the standard normal base to rows."""


def flow_contrastive(
    energy: Energy, rows: Float[Tensor, "B D"], flow: Flow, generator: torch.Generator
) -> dict[str, Float[Tensor, ""]]:
    """Return the flow's loss against an energy that tells data from its draws by ``-E(x) - log q(x)``.

    It is the logistic loss of :func:`noise_contrastive` with the labels exchanged: draws are to look like data,
    data like draws. The energy's loss is :func:`noise_contrastive` itself, with the flow as the noise. Keep the
    parameters of whichever is not to learn `frozen`.

    Parameters
    ----------
    energy : callable
        ``[B, D]`` to ``[B]``.
    rows : Tensor
        Data ``[B, D]``.
    flow : Flow
        q; gradients reach its parameters through its draws and through its density.
    generator : torch.Generator
        Source of the draws.

    Returns
    -------
    dict of str to Tensor
        ``loss``, and the share that the energy tells apart as ``accuracy``.

    References
    ----------
    Gao et al., Flow Contrastive Estimation of Energy-Based Models, CVPR 2020.
    """
    base = torch.randn(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype)
    draws = flow.inverse(base.to(rows.device))
    data_margin = -energy(rows) - flow.log_density(rows)
    draw_margin = -energy(draws) - flow.log_density(draws)
    loss = F.softplus(data_margin).mean() + F.softplus(-draw_margin).mean()
    right = torch.cat([data_margin > 0, draw_margin < 0])
    return {"loss": loss, "accuracy": right.double().mean()}


def importance_likelihood(
    energy: Energy, rows: Float[Tensor, "B D"], noise: Noise, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of rows ``[B, D]``, the energy normalised by draws of the noise.

    ``mean E(x) + log mean exp(-E(x~) - log q(x~))`` over as many draws as rows: unlike a contrastive loss it can be
    compared between moments at which the noise is not the same.
    """
    draws = noise.sample(len(rows), generator).to(rows)
    log_weights = -energy(draws) - noise.log_density(draws)
    return energy(rows).mean() + log_weights.logsumexp(0) - math.log(len(rows))
