"""Outliers drawn in feature space from the tails of the classes, and a weighted energy that tells them apart."""

from __future__ import annotations

__all__ = ["energy_odds", "virtual_outliers", "weighted_energy"]

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def virtual_outliers(
    means: Float[Tensor, "C D"],
    factor: Float[Tensor, "D D"],
    count: int,
    draws: int,
    generator: torch.Generator,
) -> Float[Tensor, "{count} D"]:
    """Draw the least likely of many samples of Gaussians with class means and one covariance.

    The covariance being shared, a sample is the less likely under its class the longer the standard normal
    vector it is made of, whatever the class: the longest are kept, and added to the means of random classes.

    Parameters
    ----------
    means, factor : Tensor
        Class means ``[C, D]``, and the lower Cholesky factor of the covariance ``[D, D]``.
    count, draws : int
        Outliers to keep, and samples to choose them from.
    generator : torch.Generator
        Source of the samples.

    Returns
    -------
    Tensor
        ``[count, D]``.

    References
    ----------
    Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022, which keeps the one least
    likely of 10,000 for each class.
    """
    device = generator.device
    normal = torch.randn(draws, means.shape[1], generator=generator, device=device)
    longest = normal[normal.square().sum(1).topk(count).indices].to(means)
    chosen = torch.randint(len(means), (count,), generator=generator, device=device)
    return means[chosen.to(means.device)] + longest @ factor.T


def weighted_energy(logits: Float[Tensor, "B C"], log_weights: Float[Tensor, "C"]) -> Float[Tensor, "B"]:
    """Return ``-log sum_c w_c exp(l_c)`` ``[B]``."""
    return -(logits + log_weights).logsumexp(1)


def energy_odds(inside: Float[Tensor, "B"], outside: Float[Tensor, "M"]) -> Float[Tensor, ""]:
    """Return the logistic loss of telling known rows from outliers, each side counting the same.

    Parameters
    ----------
    inside, outside : Tensor
        Log-odds of being an outlier, of known rows ``[B]`` and of outliers ``[M]``.

    Returns
    -------
    Tensor
        ``mean log(1 + e^u)`` over known rows plus ``mean log(1 + e^-u)`` over outliers, a scalar; a side without
        rows counts 0.

    References
    ----------
    Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022.
    """
    known, outliers = F.softplus(inside), F.softplus(-outside)
    return known.sum() / max(len(known), 1) + outliers.sum() / max(len(outliers), 1)
