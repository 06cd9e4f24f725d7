"""Virtual outliers, drawn in feature space from the tails of the classes, and the weighted energy to detect them."""

from __future__ import annotations

__all__ = ["boundary_outliers", "energy_odds", "virtual_outliers", "weighted_energy"]

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


def boundary_outliers(
    rows: Float[Tensor, "C N D"],
    noise: Float[Tensor, "S D"],
    generator: torch.Generator,
    *,
    neighbor: int = 300,
    boundary: int = 200,
    seeds: int = 2,
    kept: int = 200,
) -> Float[Tensor, "_ D"]:
    """Draw outliers around rows at the boundary of their class, far from the other rows of the class.

    Distances are those to the `neighbor`-th nearest of a class's rows, all scaled to unit length. Of the `boundary`
    rows with the largest distance, `seeds` are chosen at random; noise is added to each of them, and the `kept` sums
    with the largest distance are returned.

    Parameters
    ----------
    rows : Tensor
        As many rows of each class ``[C, N, D]``.
    noise : Tensor
        ``[S, D]``.
    generator : torch.Generator
        Generator of the choice.
    neighbor, boundary : int
        At most N.
    seeds, kept : int
        At most `boundary` and S.

    Returns
    -------
    Tensor
        ``[C seeds kept, D]``.

    References
    ----------
    Tao et al., Non-parametric Outlier Synthesis, ICLR 2023.
    """
    classes, _, size = rows.shape
    unit = F.normalize(rows, dim=2)

    def isolation(points: Tensor) -> Tensor:
        return torch.cdist(F.normalize(points, dim=2), unit).kthvalue(neighbor, dim=2).values

    outermost = isolation(rows).topk(boundary, dim=1).indices
    chance = torch.rand(classes, boundary, generator=generator, device=generator.device)
    chosen = outermost.gather(1, chance.to(rows.device).topk(seeds, dim=1).indices)
    points = rows.gather(1, chosen[:, :, None].expand(-1, -1, size))
    around = points.reshape(-1, 1, size) + noise
    far = isolation(around.reshape(classes, -1, size)).reshape(classes * seeds, -1)
    found = far.topk(kept, dim=1).indices
    return around.gather(1, found[:, :, None].expand(-1, -1, size)).reshape(-1, size)


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
