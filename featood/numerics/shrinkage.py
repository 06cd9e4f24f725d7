"""Shrinkage of covariances towards a multiple of the identity, with the intensities of Ledoit-Wolf and OAS."""

from __future__ import annotations

__all__ = ["ledoit_wolf", "oas", "shrunk"]

import torch
from jaxtyping import Float
from torch import Tensor


def ledoit_wolf(
    covariance: Float[Tensor, "*batch D D"],
    rows: Float[Tensor, "*batch"],
    fourth_powers: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Intensity that minimises the expected squared error, estimated from the variance of the rows' outer products.

    Parameters
    ----------
    covariance : Tensor
        ``[..., D, D]``, divided by the number of rows.
    rows : Tensor
        ``[...]`` number of rows.
    fourth_powers : Tensor
        ``[...]`` sum of the fourth powers of the distances of the rows from the mean used for the covariance.

    Returns
    -------
    Tensor
        ``[...]`` between 0 and 1.

    References
    ----------
    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
    Analysis 2004.
    """
    squares = covariance.square().sum((-2, -1))
    distance = squares - covariance.shape[-1] * _mean_variance(covariance).square()
    error = (fourth_powers / rows - squares).clamp(min=0) / rows
    return torch.where(distance > error, error / distance, (error > 0).to(error))


def oas(covariance: Float[Tensor, "*batch D D"], rows: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Oracle-approximating intensity for normal rows.

    The terms in 2 / D of the paper's equation 23 are left out, as in the authors' code and scikit-learn.

    Parameters
    ----------
    covariance : Tensor
        ``[..., D, D]``, divided by the number of rows.
    rows : Tensor
        ``[...]`` number of rows.

    Returns
    -------
    Tensor
        ``[...]`` between 0 and 1.

    References
    ----------
    Chen, Wiesel, Eldar and Hero, Shrinkage algorithms for MMSE covariance estimation, IEEE Transactions on Signal
    Processing 2010.
    """
    size = covariance.shape[-1]
    squares, trace = covariance.square().sum((-2, -1)), size * _mean_variance(covariance)
    above, below = squares + trace.square(), (rows + 1) * (squares - trace.square() / size)
    return torch.where(below > above, above / below, torch.ones_like(above))


def shrunk(
    covariance: Float[Tensor, "*batch D D"],
    intensity: Float[Tensor, "*batch"],
    target: Float[Tensor, "*batch"] | None = None,
) -> Float[Tensor, "*batch D D"]:
    """Return ``(1 - a) S + a t I``.

    Parameters
    ----------
    covariance : Tensor
        S ``[..., D, D]``.
    intensity : Tensor
        a ``[...]``.
    target : Tensor, optional
        t ``[...]``; by default the mean variance of S.
    """
    target = _mean_variance(covariance) if target is None else target
    result = (1 - intensity)[..., None, None] * covariance
    result.diagonal(dim1=-2, dim2=-1).add_((intensity * target)[..., None])
    return result


def _mean_variance(covariance: Float[Tensor, "*batch D D"]) -> Float[Tensor, "*batch"]:
    return covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
