"""Whitening and Gaussian densities: rows are whitened once, and one matrix product gives all class distances."""

from __future__ import annotations

__all__ = [
    "Whitening",
    "factorize",
    "log_density",
    "log_determinant",
    "logsumexp_weighted",
    "nearest_squared_distances",
    "squared_distances",
    "whitening",
    "whitenings",
]

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featood.errors import DataError
from featood.numerics.memory import by_chunks
from featood.numerics.symmetric import inverse_triangular, times_triangular

LADDER = (0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
SMALLEST_PIVOT = 1e-11
"""Minimum share of a variable's variance that the others leave unexplained; smaller pivots are rounding errors."""
MANY = 64
"""Smallest number of centers for which it saves time to find the nearest in float32."""
NEAREST_ROWS = 512
"""Rows of which the nearest centers are found at a time."""
UNDERFLOW = 1e-30
"""More than sums in float32 lose by numbers that are too small for it."""
OVERFLOW = 1e18
"""Lengths whose products have a place in float32."""
ADVICE = "to change this, set the option ridge or shrinkage"


def factorize(
    covariances: Float[Tensor, "*batch D D"],
    ridge: float = 0.0,
    what: str = "covariance",
    unit: Float[Tensor, ""] | None = None,
) -> tuple[Float[Tensor, "*batch D D"], float]:
    """Cholesky factors of one or many covariances, with the smallest ridge for which all factors are valid.

    All covariances get the same ridge, ``r unit``, as different ridges would dominate their comparison in directions of
    small variance. A Cholesky factorisation of a singular matrix can succeed with pivots that are rounding errors; such
    a factor is rejected like a failed one.

    Parameters
    ----------
    covariances : Tensor
        ``[..., D, D]`` in float64.
    ridge : float
        Smallest relative ridge to use.
    what : str
        Name for messages.
    unit : Tensor, optional
        Variance ``[]`` to which the ridge is relative, so that the result does not depend on the scale of the
        features; by default the mean variance of all covariances.

    Returns
    -------
    factors : Tensor
        ``[..., D, D]`` lower triangular.
    ridge : float
        The relative ridge r.

    Raises
    ------
    DataError
        If `unit` is zero, or no ridge up to 1e-2 is sufficient.
    """
    batch = covariances.reshape(-1, *covariances.shape[-2:]).double()
    diagonal = batch.diagonal(dim1=-2, dim2=-1)
    unit = diagonal.mean() if unit is None else unit
    if not bool(torch.isfinite(batch).all()):
        raise DataError(f"{what} is not finite; the features are too large or not finite")
    if not float(unit) > 0:
        raise DataError(f"{what} is zero: all rows (of each class) are identical; fit on other or more rows")
    for step in (ridge, *(step for step in LADDER if step > ridge)):
        trial = batch.clone()
        trial.diagonal(dim1=-2, dim2=-1).add_(step * unit)
        factors, failed = torch.linalg.cholesky_ex(trial)
        pivots = factors.diagonal(dim1=-2, dim2=-1).square() / trial.diagonal(dim1=-2, dim2=-1)
        if not bool(failed.any()) and float(pivots.min()) > SMALLEST_PIVOT:
            return factors.reshape(covariances.shape), step
    raise DataError(f"{what} is not positive definite even with a relative ridge of {LADDER[-1]}")


class Whitening(NamedTuple):
    """Affine map ``(z - center) @ matrix`` that transforms a covariance to the identity."""

    center: Float[Tensor, "D"]
    """``[D]``"""
    matrix: Float[Tensor, "D D"]
    """``[D, D]``"""
    log_det: Float[Tensor, ""]
    """Logarithm of the covariance's determinant."""
    ridge: Float[Tensor, ""]
    """Ridge that was added, relative to the mean variance (within classes)."""

    def __call__(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Whiten rows ``[B, D]`` in their precision, at least float32."""
        features = features if features.dtype == torch.float64 else features.float()
        center = self.center.to(features.dtype)
        rest = (self.center - center).to(features.dtype)  # rounding error of a center far from zero
        return times_triangular((features - center).sub_(rest), self.matrix.to(features.dtype))


def whitenings(
    center: Float[Tensor, "D"],
    covariances: Sequence[Float[Tensor, "D D"]],
    ridge: float = 0.0,
    what: str = "covariance",
    ignored: Bool[Tensor, "D"] | None = None,
) -> list[Whitening]:
    """Whitening maps of covariances ``[D, D]`` that are compared with each other, by Cholesky factors in float64.

    All get the same ridge, relative to the mean variance of the first: the smallest ridge, at least `ridge`, for which
    all factors are valid. Features in the mask `ignored` ``[D]`` do not contribute to distances and densities.

    Warns
    -----
    UserWarning
        If a covariance is singular, so that a ridge larger than `ridge` is used.
    """
    stack = torch.stack(list(covariances)).double()
    unit = stack[0].diagonal().mean()
    if ignored is not None:
        stack = stack.masked_fill(ignored[:, None] | ignored, 0) + torch.diag(ignored * unit)
    factors, used = factorize(stack, ridge, what, unit)
    if used > ridge:
        warnings.warn(
            f"{what} is singular or nearly so; a ridge of {used:.0e} of the mean variance was added ({ADVICE})",
            stacklevel=3,
        )
    matrices = torch.stack([inverse_triangular(factor).T for factor in factors])
    log_dets = log_determinant(factors.diagonal(dim1=1, dim2=2).square(), ignored)
    if ignored is not None:
        matrices = matrices.masked_fill(ignored[:, None], 0)
    return [
        Whitening(center.double(), matrix.contiguous(), log_det, log_det.new_tensor(used))
        for matrix, log_det in zip(matrices, log_dets, strict=True)
    ]


def whitening(
    center: Float[Tensor, "D"], covariance: Float[Tensor, "D D"], ridge: float = 0.0, what: str = "covariance"
) -> Whitening:
    """Whitening map of one covariance ``[D, D]``; see :func:`whitenings`."""
    return whitenings(center, [covariance], ridge, what)[0]


def squared_distances(rows: Float[Tensor, "B D"], centers: Float[Tensor, "C D"]) -> Float[Tensor, "B C"]:
    """Squared Euclidean distances ``[B, C]`` between rows ``[B, D]`` and centers ``[C, D]``, by one matrix product.

    Distances are non-negative, and infinite for a center that is NaN.
    """
    centers = centers.to(rows.dtype)
    absent = torch.isnan(centers).any(1)
    centers = torch.where(absent[:, None], torch.zeros_like(centers), centers)
    squares = rows.square().sum(1, keepdim=True) + centers.square().sum(1)
    distances = torch.addmm(squares, rows, centers.T, alpha=-2).clamp_(min=0)
    return distances.masked_fill_(absent, math.inf)


def nearest_squared_distances(
    rows: Float[Tensor, "B D"], centers: Float[Tensor, "C D"]
) -> Float[Tensor, "B"]:
    """Squared distances ``[B]`` of float64 rows ``[B, D]`` from the nearest of the centers ``[C, D]``, in float64.

    A product in float32, which takes half the time, finds the nearest center, and its distance is computed from the
    difference. In any order of summation, the product errs by at most ``(D + 2) 2^-24`` of the product of the lengths,
    to first order; for rows with another center within this error, all distances are computed in float64.
    """
    few = len(centers) < MANY
    if few or torch.compiler.is_compiling() or torch.get_float32_matmul_precision() != "highest":
        return squared_distances(rows, centers).amin(1)
    squares = centers.square().sum(1)
    longest = squares.max().sqrt()
    error = 1.1 * (centers.shape[1] + 8) * 2.0**-24  # also of rounding all factors and sums to float32
    low, halves = centers.T.float(), (squares / 2).float()

    def nearest(part: Float[Tensor, "b D"]) -> Float[Tensor, "b"]:
        two, places = torch.addmm(halves, part.float(), low, alpha=-1).topk(2, dim=1, largest=False)
        lengths = part.norm(dim=1) + longest
        bound = error * longest * lengths + UNDERFLOW
        clear = (two[:, 1].double() - two[:, 0].double() > 2 * bound) & (lengths < OVERFLOW)
        found = (part - centers[places[:, 0]]).square_().sum(1)
        if not bool(clear.all()):
            found[~clear] = squared_distances(part[~clear], centers).amin(1)
        return found

    return by_chunks(nearest, NEAREST_ROWS, rows)


def log_determinant(
    variances: Float[Tensor, "K D"], ignored: Bool[Tensor, "D"] | None = None
) -> Float[Tensor, "K"]:
    """Logarithms ``[K]`` of products of variances ``[K, D]``, for log-densities in D dimensions.

    The term of a feature in the mask `ignored` ``[D]`` is such that it does not contribute to the log-density.
    """
    logs = variances.log()
    return (logs if ignored is None else logs.masked_fill(ignored, -math.log(2 * math.pi))).sum(1)


def log_density(
    squared: Float[Tensor, "*shape"], log_det: Float[Tensor, "..."], size: int
) -> Float[Tensor, "*shape"]:
    """Log-densities ``[B, C]`` in float64 from squared Mahalanobis distances ``[B, C]`` in D = `size` dimensions."""
    return -0.5 * (squared.double() + log_det + size * math.log(2 * math.pi))


def logsumexp_weighted(
    log_densities: Float[Tensor, "B C"], weights: Float[Tensor, "C"]
) -> Float[Tensor, "B"]:
    """``log sum_c w_c exp(g_c)`` ``[B]``, without components of weight zero."""
    return torch.logsumexp(log_densities + weights.log(), dim=-1)
