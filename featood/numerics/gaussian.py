"""Gaussians with one factorisation: whiten once, then one matrix product serves every class."""

from __future__ import annotations

__all__ = ["Whitening", "factorize", "log_density", "logsumexp_weighted", "squared_distances", "whitening"]

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from featood.errors import DataError

LADDER = (0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
DEAD = 1e-15
"""Share of the mean variance up to which a feature's variance is rounding error."""
SOUND = 1e-11
"""Least share of a variable's variance that the others may leave unexplained; below it a pivot is noise."""


def factorize(covariance: Tensor, ridge: float = 0.0, what: str = "covariance") -> tuple[Tensor, Tensor]:
    """Cholesky factors of one or many covariances, with the smallest relative ridge that makes them sound.

    The ridge is a multiple of the mean variance, so the result does not depend on the scale of the
    features. A Cholesky factorisation can succeed on a singular matrix with pivots made of rounding errors;
    such a factor is rejected like a failed one.

    Parameters
    ----------
    covariance : Tensor
        ``[..., D, D]`` in float64.
    ridge : float
        Smallest relative ridge to use.
    what : str
        Name for messages.

    Returns
    -------
    factor : Tensor
        ``[..., D, D]`` lower triangular.
    ridge : Tensor
        ``[...]`` the relative ridge of each.

    Raises
    ------
    DataError
        When a covariance has no variance at all, or no ridge up to 1e-2 helps.
    """
    batch = covariance.reshape(-1, *covariance.shape[-2:]).double()
    diagonal = batch.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.mean(-1)
    if not bool(torch.isfinite(batch).all()):
        raise DataError(f"{what} is not finite; the features are too large or not finite")
    if bool((scale <= 0).any()):
        raise DataError(
            f"{what} is zero: the rows (of each class) are all alike; fit on other or on more rows"
        )
    factor = torch.empty_like(batch)
    used = torch.full_like(scale, math.nan)
    todo = torch.arange(len(batch), device=batch.device)
    eye = torch.eye(batch.shape[-1], dtype=batch.dtype, device=batch.device)
    for step in sorted({ridge, *(step for step in LADDER if step > ridge)}):
        trial = batch[todo] + (step * scale[todo])[:, None, None] * eye
        lower, info = torch.linalg.cholesky_ex(trial)
        pivots = lower.diagonal(dim1=-2, dim2=-1).square() / trial.diagonal(dim1=-2, dim2=-1)
        sound = (info == 0) & (pivots.min(-1).values > SOUND)
        factor[todo[sound]] = lower[sound]
        used[todo[sound]] = step
        todo = todo[~sound]
        if not len(todo):
            break
    else:
        raise DataError(f"{what} is not positive definite even with a relative ridge of {LADDER[-1]}")
    return factor.reshape(covariance.shape), used.reshape(covariance.shape[:-2])


class Whitening(NamedTuple):
    """An affine map under which a covariance becomes the identity: ``(z - center) @ matrix``."""

    center: Tensor
    """``[D]``"""
    matrix: Tensor
    """``[D, D]``"""
    log_det: Tensor
    """Logarithm of the covariance's determinant."""
    ridge: Tensor
    """Relative ridge that was added."""

    def __call__(self, features: Tensor) -> Tensor:
        """Whiten rows ``[B, D]`` in their own precision (float32 for less)."""
        features = features if features.dtype == torch.float64 else features.float()
        center = self.center.to(features.dtype)
        rest = (self.center - center).to(features.dtype)  # what float32 cannot say of a center far from zero
        return (features - center - rest) @ self.matrix.to(features.dtype)


def whitening(
    center: Tensor,
    covariance: Tensor,
    ridge: float = 0.0,
    what: str = "covariance",
    ignore_dead: bool = False,
) -> Whitening:
    """Whitening map of one covariance ``[D, D]`` by its Cholesky factor in float64.

    With `ignore_dead`, features without variance take no part; otherwise the ridge is all the variance they have.

    Warns
    -----
    UserWarning
        When the covariance is singular, so that a ridge beyond `ridge` decides the distances.
    """
    variance = covariance.diagonal()
    dead = (variance <= DEAD * variance.mean()) & ignore_dead
    factor, used = factorize(covariance + torch.diag(dead * variance.mean()), ridge, what)
    if float(used) > ridge:
        warnings.warn(
            f"{what} is singular or nearly so; a ridge of {float(used):.0e} of the mean variance was added",
            stacklevel=3,
        )
    identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    log_det = 2 * factor.diagonal()[~dead].log().sum()
    matrix = inverse.T.masked_fill(dead[:, None], 0)
    return Whitening(center.double(), matrix.contiguous(), log_det, used)


def squared_distances(rows: Tensor, centers: Tensor) -> Tensor:
    """Squared Euclidean distances ``[B, C]`` between rows ``[B, D]`` and centers ``[C, D]`` by one product.

    Non-negative; a center of NaN is infinitely far.
    """
    centers = centers.to(rows.dtype)
    absent = torch.isnan(centers).any(1)
    centers = torch.where(absent[:, None], torch.zeros_like(centers), centers)
    squares = rows.square().sum(1, keepdim=True) + centers.square().sum(1)
    distances = torch.addmm(squares, rows, centers.T, alpha=-2).clamp_(min=0)
    return distances.masked_fill_(absent, math.inf) if bool(absent.any()) else distances


def log_density(squared: Tensor, log_det: Tensor, size: int) -> Tensor:
    """Log-densities ``[B, C]`` in float64 from squared Mahalanobis distances ``[B, C]`` in D = `size` dimensions."""
    return -0.5 * (squared.double() + log_det + size * math.log(2 * math.pi))


def logsumexp_weighted(log_densities: Tensor, weights: Tensor) -> Tensor:
    """``log sum_c w_c exp(g_c)`` ``[B]``, with components of weight zero left out."""
    return torch.logsumexp(log_densities + weights.log(), dim=-1)
