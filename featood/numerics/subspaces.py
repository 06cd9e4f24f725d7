"""A principal subspace and its complement, stored as a basis of one of the two."""

from __future__ import annotations

__all__ = ["Subspace", "explaining", "principal_axes", "rank", "subspace"]

from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featood.numerics.sharing import shares

FLOAT32_SHARE = 1e-3
"""Share of the length of a typical row above which a component is computed in float32, to about 1e-4 of itself."""


class Subspace(NamedTuple):
    """A subspace, given by an orthonormal basis of itself or of its complement."""

    basis: Float[Tensor, "D k"]
    """``[D, k]``, in the precision of the product: float32 or float64."""
    direct: Bool[Tensor, ""] | bool
    """Whether the basis spans the subspace itself."""

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        """Return the subspace whose tensors are in the state of a head."""
        return cls(state["basis"], bool(state["direct"]))

    def inside(self, rows: Float[Tensor, "B D"], center: Float[Tensor, "D"]) -> Float[Tensor, "B"]:
        """Lengths ``[B]`` in float64 of the components of ``rows - center`` inside the subspace.

        It is a product with the basis, or the rest by Pythagoras, which cancels unless the basis has float64.
        """
        return self._length(rows, center, bool(self.direct))

    def outside(self, rows: Float[Tensor, "B D"], center: Float[Tensor, "D"]) -> Float[Tensor, "B"]:
        """Lengths ``[B]`` in float64 of the components of ``rows - center`` outside the subspace; see `inside`."""
        return self._length(rows, center, not self.direct)

    def _length(
        self, rows: Float[Tensor, "B D"], center: Float[Tensor, "D"], spanned: bool
    ) -> Float[Tensor, "B"]:
        precision = self.basis.dtype
        near = center.to(precision)
        rows = rows.to(precision) - near
        if precision != center.dtype:
            rows = rows.sub_((center - near).to(precision))  # the center's rounding error
        length = (rows @ self.basis).square().sum(1, dtype=torch.float64)
        return (length if spanned else (rows.square().sum(1) - length).clamp(min=0)).sqrt()


@shares
def principal_axes(matrix: Float[Tensor, "D D"]) -> tuple[Float[Tensor, "D"], Float[Tensor, "D D"]]:
    """Eigenvalues ``[D]``, largest first, and eigenvectors ``[D, D]`` in columns, of a covariance."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.flip(0).clamp(min=0), vectors.flip(1)


def subspace(
    axes: Float[Tensor, "D D"], values: Float[Tensor, "D"], size: int, *, inside: bool = False
) -> Subspace:
    """Return the subspace of the first `size` axes, to compute the components outside of it.

    The component is the product with a basis of its own, in float32, if it is large enough for that precision (the root
    of its share of the eigenvalues exceeds `FLOAT32_SHARE`); otherwise, or if that basis is more than twice as large as
    the other, float64 and the smaller basis are used.

    Parameters
    ----------
    axes, values : Tensor
        Eigenvectors ``[D, D]`` and eigenvalues ``[D]``, as of :func:`principal_axes`.
    size : int
        Dimension of the subspace.
    inside : bool
        Whether to compute the components inside of it instead.
    """
    wanted, other = (axes[:, :size], axes[:, size:]) if inside else (axes[:, size:], axes[:, :size])
    variance = values[:size].sum() if inside else values[size:].sum()
    if bool(variance > FLOAT32_SHARE**2 * values.sum()) and wanted.shape[1] <= 2 * other.shape[1]:
        return Subspace(wanted.float().contiguous(), torch.tensor(inside))
    direct = size <= len(axes) - size
    basis = axes[:, :size] if direct else axes[:, size:]
    return Subspace(basis.contiguous(), torch.tensor(direct))


def explaining(values: Float[Tensor, "D"], share: float) -> int:
    """Return the smallest number of leading eigenvalues ``[D]`` whose sum is at least a share of the total."""
    sums = values.cumsum(0)
    return min(int((sums < share * sums[-1] * (1 - 1e-12)).sum()) + 1, len(values))


def rank(values: Float[Tensor, "D"]) -> int:
    """Return the number of eigenvalues ``[D]``, largest first, that are larger than rounding errors."""
    return int((values > 1e-12 * values[0]).sum())
