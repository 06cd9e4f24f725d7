"""A principal subspace and its complement, stored as a basis of the smaller of the two."""

from __future__ import annotations

__all__ = ["Subspace", "explaining", "principal_axes", "rank", "subspace"]

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Subspace(NamedTuple):
    """A subspace, given by an orthonormal basis of itself or, if smaller, of its complement."""

    basis: Float[Tensor, "D k"]
    """``[D, k]`` in float64."""
    direct: Bool[Tensor, ""]
    """Whether the basis spans the subspace itself."""

    def norms(self, rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Lengths ``[B]`` of the components of rows ``[B, D]`` inside and outside the subspace.

        One is computed by a matrix product, the other by Pythagoras; in float64, as the difference cancels.
        """
        rows = rows.double()
        spanned = (rows @ self.basis).square().sum(1)
        rest = (rows.square().sum(1) - spanned).clamp(min=0)
        spanned, rest = spanned.sqrt(), rest.sqrt()
        direct = self.direct.to(rows.device)
        return torch.where(direct, spanned, rest), torch.where(direct, rest, spanned)


def principal_axes(matrix: Float[Tensor, "D D"]) -> tuple[Float[Tensor, "D"], Float[Tensor, "D D"]]:
    """Eigenvalues ``[D]``, largest first, and eigenvectors ``[D, D]`` in columns, of a covariance."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.flip(0).clamp(min=0), vectors.flip(1)


def subspace(axes: Float[Tensor, "D D"], size: int) -> Subspace:
    """Return the subspace of the first `size` axes ``[D, D]``."""
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
