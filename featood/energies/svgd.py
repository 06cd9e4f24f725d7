"""Stein variational gradient descent: gradient descent of particles on an energy, with repulsion between them."""

from __future__ import annotations

__all__ = ["svgd"]

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from featood.energies.sgld import Energy, Gradient


def svgd(
    energy: Energy,
    start: Float[Tensor, "n *shape"],
    *,
    steps: int,
    step_size: float,
    project: Callable[[Float[Tensor, "n *shape"]], Float[Tensor, "n *shape"]] | None = None,
    known: Gradient | None = None,
) -> Float[Tensor, "n *shape"]:
    """Move particles by ``x_i <- x_i + a mean_j [-k(x_j, x_i) dE(x_j)/dx_j + dk(x_j, x_i)/dx_j]``.

    The first term moves a particle towards low energy, the second away from the others. The kernel is
    ``exp(-|x - y|^2 / h)``, where h is the squared median distance between two particles divided by ``log n``, computed
    at every step; a row of the kernel sums to about two. The update is deterministic. A single particle follows the
    gradient only.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``. Keep its parameters `frozen`, so that only the inputs get gradients.
    start : Tensor
        ``[n, ...]`` initial particles, which must be distinct, as equal particles move together.
    steps : int
        Number of steps; 0 returns `start`.
    step_size : float
        Step size a.
    project : callable, optional
        Projection to the domain of the data, after each step.
    known : callable, optional
        Gradient, in closed form, of a term that is added to `energy`.

    Returns
    -------
    Tensor
        ``[n, ...]`` detached.

    References
    ----------
    Liu and Wang, Stein Variational Gradient Descent: A General Purpose Bayesian Inference Algorithm, NeurIPS 2016.
    """
    x = start.detach()
    for _ in range(steps):
        x.requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x.detach()
        if known is not None:
            gradient = gradient + known(x)
        x = x + step_size * _direction(x.flatten(1), gradient.flatten(1)).reshape(x.shape)
        if project is not None:
            x = project(x).detach()
    return x


def _direction(x: Float[Tensor, "n D"], gradient: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Return the update of particles ``[n, D]``, given the gradients ``[n, D]`` of their energies."""
    n = len(x)
    if n == 1:
        return -gradient
    # computed from differences, as matrix products are inaccurate for small distances
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = distances[*torch.triu_indices(n, n, offset=1, device=x.device)]
    width = (pairs.median().square() / math.log(n)).clamp(min=torch.finfo(x.dtype).tiny)
    kernel = torch.exp(-distances.square() / width)
    repulsion = 2 / width * (x * kernel.sum(1, keepdim=True) - kernel @ x)
    return (repulsion - kernel @ gradient) / n
