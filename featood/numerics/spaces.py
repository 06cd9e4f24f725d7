"""The space in which features are looked at: as they are, scaled by feature or by row, whitened, or projected.

Each is one affine map, after the rows have been brought to unit length where its name says ``l2``.
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
"""Those that are fitted to training rows, and the tensors that a fit gives."""
REDUCED = ("l2-whiten", "pca")
"""Those on principal components, of which there can be fewer than features."""
STILL = 1e-6
"""Share of its mean up to which a feature's standard deviation is the rounding of float32."""


def fit_space(kind: str, blocks: Iterable[Float[Tensor, "_ D"]], components: int = 0) -> dict[str, Tensor]:
    """Fit a space in one pass over the rows, in float64.

    Parameters
    ----------
    kind : str
        ``none``: rows as they are. ``standardize``: every feature with mean 0 and variance 1; one that does not
        vary is shifted alone, so that it counts in its own unit where it varies in other rows. ``l2``: every row
        with length 1, one of zeros excepted. ``l2-standardize``: such rows, standardised. ``l2-whiten``: rows of
        length 1, centred and then turned and scaled so that their covariance is the identity. ``pca``: rows as they
        are, centred and turned to their principal components. The last two leave out directions in which the rows
        do not vary beyond rounding; where other rows do, it does not show.
    blocks : iterable of Tensor
        Rows ``[B, D]``.
    components : int
        Leading principal components to keep; 0 for all with variance above rounding.

    Returns
    -------
    dict of str to Tensor
        ``center`` ``[D]`` with ``scale`` ``[D]``, or with ``axes`` ``[D, R]`` of the R components; nothing for the
        spaces that are not fitted.

    Raises
    ------
    UsageError
        When there are fewer components with variance than asked for, or the space has none.
    DataError
        When there are no rows, or none of their features varies.

    Warns
    -----
    UserWarning
        When directions are left out that were not asked to be.
    """
    if components and kind not in REDUCED:
        raise UsageError(
            f"components are for the spaces {' and '.join(REDUCED)}; with space {kind} leave them 0"
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
        scale = torch.where(deviation > STILL * center.abs(), deviation, torch.ones_like(deviation))
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
    """Bring rows ``[B, D]`` into a space, with what :func:`fit_space` returned.

    Returns
    -------
    Tensor
        ``[B, D]``, or ``[B, R]`` on principal components; in float64, but for the space ``none``, which changes
        nothing.

    Raises
    ------
    KeyError
        When a tensor of the space is missing.
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
    """Scale rows ``[B, D]`` to unit Euclidean length; a row of zeros stays zero.

    The largest entry is divided out first, so that no square over- or underflows.
    """
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / largest.masked_fill(largest == 0, 1)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
