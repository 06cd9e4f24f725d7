"""Mixtures of Gaussians, one per class, trained by gradient descent as an alternative to flows."""

from __future__ import annotations

__all__ = ["GaussianMixtures"]

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.initialise import seeded

SMALLEST_SCALE = 1e-3
"""Added to the diagonal of each factor, so that no Gaussian collapses."""


class GaussianMixtures(nn.Module):
    """Mixtures of K Gaussians with full covariances, one for each of C classes.

    Parameters
    ----------
    classes, components, size : int
        Number of classes, Gaussians per class, and dimensions.
    generator : torch.Generator, optional
        Generator of the initial means, weights and factors.

    References
    ----------
    Charpentier et al., Posterior Network, NeurIPS 2020 (density ``normal_mixture``). In the authors' code, all weights
    of components are 1, so a density has mass K; here they sum to 1.
    """

    def __init__(
        self, classes: int, components: int, size: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        with seeded(generator):
            self.weights = nn.Parameter(torch.randn(classes, components))
            self.means = nn.Parameter(torch.randn(classes, components, size))
            self.factors = nn.Parameter(torch.randn(classes, components, size, size) / 100)

    def log_density(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return the log-density of rows ``[B, D]`` in each class ``[B, C]``, in float64.

        Squared distances are linear in the products of coordinates, so one matrix product gives the distances to all
        Gaussians.
        """
        rows, means = rows.double(), self.means.double()
        size = rows.shape[1]
        raw = self.factors.double()
        scales = raw.diagonal(dim1=-2, dim2=-1).exp() + SMALLEST_SCALE
        lower = torch.tril(raw, -1) + torch.diag_embed(scales)
        identity = torch.eye(size, dtype=lower.dtype, device=lower.device).expand_as(lower)
        inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
        precision = inverse.mT @ inverse
        weighted = (precision @ means[..., None]).squeeze(-1)
        products = (rows[:, :, None] * rows[:, None, :]).flatten(1)
        squared = products @ precision.flatten(2).flatten(0, 1).T - 2 * rows @ weighted.flatten(0, 1).T
        squared = (squared + (weighted * means).sum(-1).flatten()).clamp(min=0)
        constants = scales.log().sum(-1) + 0.5 * size * math.log(2 * math.pi)
        densities = -0.5 * squared.unflatten(1, self.weights.shape) - constants
        return (densities + F.log_softmax(self.weights.double(), 1)).logsumexp(2)
