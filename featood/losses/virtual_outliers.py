"""Virtual outliers, drawn in feature space from the tails of the classes, and the weighted energy to detect them."""

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
    """Draw the least likely of many samples of Gaussians with class means and a shared covariance.

    As the covariance is shared, the likelihood of a sample under its class depends only on the norm of its standard
    normal vector. The vectors with the largest norms are kept, and added to the means of random classes.

    Parameters
    ----------
    means, factor : Tensor
        Class means ``[C, D]``, and the lower Cholesky factor of the covariance ``[D, D]``.
    count, draws : int
        Number of outliers, and of samples from which they are chosen.
    generator : torch.Generator
        Generator of the samples.

    Returns
    -------
    Tensor
        ``[count, D]``.

    References
    ----------
    Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022 (the least likely of 10,000
    samples for each class).
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
    """Return the logistic loss of classifying known rows and outliers, with equal weight for both sides.

    Parameters
    ----------
    inside, outside : Tensor
        Log-odds of being an outlier, of known rows ``[B]`` and of outliers ``[M]``.

    Returns
    -------
    Tensor
        ``mean log(1 + e^u)`` over known rows plus ``mean log(1 + e^-u)`` over outliers, a scalar; the mean of a side
        without rows is 0.

    References
    ----------
    Du et al., VOS: Learning What You Don't Know by Virtual Outlier Synthesis, ICLR 2022.
    """
    known, outliers = F.softplus(inside), F.softplus(-outside)
    return known.sum() / max(len(known), 1) + outliers.sum() / max(len(outliers), 1)
