"""Spaces of features: unchanged, scaled by feature or by row, whitened, or projected to principal components.

Each is an affine map; for names with ``l2``, rows are scaled to unit length first.
"""

from __future__ import annotations

__all__ = ["FITTED", "REDUCED", "SPACES", "apply_space", "fit_space", "unit"]

import warnings
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from featood.errors import DataError, UsageError
from featood.numerics.moments import ClassMoments, ScatterByClass

SPACES = ("none", "standardize", "l2", "l2-standardize", "l2-whiten", "pca")
FITTED: Mapping[str, tuple[str, ...]] = {
    "standardize": ("center", "scale"),
    "l2-standardize": ("center", "scale"),
    "l2-whiten": ("center", "axes"),
    "pca": ("center", "axes"),
}
"""Spaces that are fitted to training rows, and the tensors of the fit."""
REDUCED = ("l2-whiten", "pca")
"""Spaces of principal components, which can have fewer dimensions than the features."""
CONSTANT = 1e-6
"""A feature whose standard deviation is at most this share of its mean counts as constant (rounding of float32)."""


def fit_space(kind: str, blocks: Iterable[Float[Tensor, "_ D"]], components: int = 0) -> dict[str, Tensor]:
    """Fit a space in one pass over the rows, in float64.

    Parameters
    ----------
    kind : str
        ``none``: unchanged rows. ``standardize``: every feature has mean 0 and variance 1; a constant feature is only
        shifted, so in other rows it counts in its original unit. ``l2``: every row has length 1, except rows of zeros.
        ``l2-standardize``: rows of length 1, standardised. ``l2-whiten``: rows of length 1, centred, rotated and scaled
        so that their covariance is the identity. ``pca``: centred rows, rotated to their principal components. The last
        two leave out directions without variance beyond rounding; variation of other rows in them is ignored.
    blocks : iterable of Tensor
        Rows ``[B, D]``.
    components : int
        Number of leading principal components to keep; 0 for all with variance above rounding.

    Returns
    -------
    dict of str to Tensor
        ``center`` ``[D]`` with ``scale`` ``[D]``, or with ``axes`` ``[D, R]`` of the R components; empty for spaces
        that are not fitted.

    Raises
    ------
    UsageError
        If fewer components than requested have variance, or the space has no components.
    DataError
        If there are no rows, or all features are constant.

    Warns
    -----
    UserWarning
        If directions are left out although `components` is 0.
    """
    if components and kind not in REDUCED:
        raise UsageError(
            f"components are for the spaces {' and '.join(REDUCED)}; omit them for the space {kind}"
        )
    if kind not in FITTED:
        return {}
    moments: ClassMoments | ScatterByClass | None = None
    for rows in blocks:
        rows = _normalised(kind, rows)
        if kind in REDUCED:
            moments = ClassMoments.of(rows, None, moments)  # type: ignore[arg-type]
        else:
            moments = ScatterByClass.of(rows, None, moments, diagonal=True)  # type: ignore[arg-type]
    if moments is None or not moments.rows:
        raise DataError("there are no rows to fit the space to")
    center = moments.mean()
    if isinstance(moments, ScatterByClass):
        deviation = moments.covariances()[0].sqrt()
        scale = torch.where(deviation > CONSTANT * center.abs(), deviation, torch.ones_like(deviation))
        return {"center": center, "scale": scale}
    from featood.numerics.subspaces import principal_axes, rank

    values, axes = principal_axes(moments.covariance())
    spanned, size = rank(values), len(values)
    if not spanned:
        raise DataError(f"space {kind}: all rows are identical; fit on other or more rows")
    if components > spanned:
        raise UsageError(
            f"the rows vary in {spanned} of {size} directions; components must not be {components}"
        )
    if spanned < size and not components:
        warnings.warn(
            f"space {kind}: the rows vary in {spanned} of {size} directions; the others are left out",
            stacklevel=2,
        )
    kept = components or spanned
    axes = axes[:, :kept]
    if kind == "l2-whiten":
        axes = axes / values[:kept].sqrt()
    return {"center": center, "axes": axes.contiguous()}


def apply_space(
    kind: str, fitted: Mapping[str, Tensor], rows: Float[Tensor, "B D"]
) -> Float[Tensor, "B D"] | Float[Tensor, "B R"]:
    """Transform rows ``[B, D]`` to a space fitted by :func:`fit_space`.

    Returns
    -------
    Tensor
        ``[B, D]``, or ``[B, R]`` for principal components, in float64; for the space ``none``, the unchanged rows.

    Raises
    ------
    KeyError
        If a tensor of the space is missing.
    """
    if kind == "none":
        return rows
    rows = _normalised(kind, rows)
    if kind not in FITTED:
        return rows
    rows = rows - fitted["center"]
    return rows @ fitted["axes"] if kind in REDUCED else rows / fitted["scale"]


def _normalised(kind: str, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    return unit(rows.double()) if kind.startswith("l2") else rows.double()


def unit(rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Scale rows ``[B, D]`` to unit Euclidean length; rows of zeros are not changed.

    Where squares may overflow or underflow, rows are divided by their largest entry first.
    """
    if not torch.compiler.is_compiling():
        length, limits = torch.linalg.vector_norm(rows, dim=1, keepdim=True), torch.finfo(rows.dtype)
        if bool(((length > limits.tiny**0.25) & (length < limits.max**0.25)).all()):
            return rows / length
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / largest.masked_fill(largest == 0, 1)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
