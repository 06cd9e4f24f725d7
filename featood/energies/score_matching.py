"""Sliced score matching: fit the gradient of the log-density, without sampling."""

from __future__ import annotations

__all__ = ["PROJECTIONS", "sliced_score_matching", "warn_if_piecewise_linear"]

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.energies.sgld import Energy

PROJECTIONS = ("gaussian", "rademacher", "sphere")


def sliced_score_matching(
    energy: Energy,
    rows: Float[Tensor, "B ..."],
    generator: torch.Generator,
    *,
    projections: int = 1,
    variance_reduced: bool = True,
    projection: str = "gaussian",
) -> Float[Tensor, ""]:
    """Return ``mean (1/2) |dE/dx|^2 - v' (d2E/dx2) v`` over random directions v.

    In expectation it is score matching's ``(1/2) |s|^2 + tr ds/dx`` of the score ``s = -dE/dx``, for directions
    with ``E v v' = I``. The second derivatives must not vanish: see :func:`warn_if_piecewise_linear`.

    Parameters
    ----------
    energy : callable
        ``[B, ...]`` to ``[B]``, each from its own input alone, twice differentiable.
    rows : Tensor
        Data ``[B, ...]``.
    generator : torch.Generator
        Source of the directions.
    projections : int
        Directions to a row.
    variance_reduced : bool
        Without it, the first term is ``(1/2) (v' dE/dx)^2``, as in the paper's plain form.
    projection : str
        ``gaussian``, ``rademacher`` (signs), or ``sphere`` (of radius the root of the number of dimensions).

    Returns
    -------
    Tensor
        Scalar, differentiable in the energy's parameters.

    References
    ----------
    Song et al., Sliced Score Matching: A Scalable Approach to Density and Score Estimation, UAI 2019.
    """
    rows = rows.detach().repeat_interleave(projections, 0).requires_grad_(True)
    v = torch.randn(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype).to(rows)
    if projection == "rademacher":
        v = v.sign()
    elif projection == "sphere":
        v = v * (v[0].numel() ** 0.5 / v.flatten(1).norm(dim=1)).reshape(-1, *[1] * (v.ndim - 1))
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(energy(rows).sum(), rows, create_graph=True)
        along = (gradient * v).flatten(1).sum(1)
        (curvature,) = torch.autograd.grad(along.sum(), rows, create_graph=True)
        squared = gradient.square().flatten(1).sum(1) if variance_reduced else along.square()
        return (0.5 * squared - (curvature * v).flatten(1).sum(1)).mean()


def warn_if_piecewise_linear(model: nn.Module) -> None:
    """Warn when a network has (leaky) rectifiers, whose second derivatives vanish almost everywhere.

    Warns
    -----
    UserWarning
        Score matching then has nothing to lower the energy of the data with, and merely shrinks gradients.
    """
    kinds = {
        type(module).__name__ for module in model.modules() if isinstance(module, nn.ReLU | nn.LeakyReLU)
    }
    if kinds:
        warnings.warn(
            f"score matching needs second derivatives, but those of {', '.join(sorted(kinds))} are zero: "
            "the energy will be close to constant; use a smooth activation (silu, softplus, tanh)",
            stacklevel=2,
        )
