"""Covariances and distances of many classes, computed for groups of classes to limit memory."""

from __future__ import annotations

__all__ = ["CHUNK_BYTES", "ClassCovariances", "class_distances", "diagonal_distances"]

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from featood.numerics.moments import ScatterByClass
from featood.numerics.shrinkage import shrunk

CHUNK_BYTES = 64 << 20
"""Maximum size of a temporary for a group of classes."""


def class_distances(
    rows: Float[Tensor, "B D"], means: Float[Tensor, "C D"], matrices: Float[Tensor, "C D D"]
) -> Float[Tensor, "B C"]:
    """Squared distances ``[B, C]`` of rows ``[B, D]``, whitened by the matrix of each class, from whitened means.

    Classes are processed in groups of limited memory.

    Parameters
    ----------
    rows : Tensor
        ``[B, D]``; also determines the precision of the computation.
    means : Tensor
        ``[C, D]``.
    matrices : Tensor
        ``[C, D, D]``.
    """
    group = len(means)
    if not torch.compiler.is_compiling():  # in a graph, the number of rows is not known
        group = max(1, CHUNK_BYTES // max(1, rows.numel() * rows.element_size()))
    parts = [
        (rows @ matrix.to(rows) - center[:, None].to(rows)).square_().sum(2)
        for matrix, center in zip(matrices.split(group), means.split(group), strict=True)
    ]
    return torch.cat(parts).T


def diagonal_distances(
    rows: Float[Tensor, "B D"], means: Float[Tensor, "C D"], precisions: Float[Tensor, "C D"]
) -> Float[Tensor, "B C"]:
    """Return ``sum_d p_cd (z_d - mu_cd)^2`` ``[B, C]`` in float64, for rows and means near the origin."""
    weighted = means * precisions
    squares = rows.square() @ precisions.T + (means * weighted).sum(1)
    return torch.addmm(squares, rows, weighted.T, alpha=-2).clamp_(min=0)


class ClassCovariances:
    """Unbiased covariances ``[K, D, D]`` or variances ``[K, D]`` of classes, computed in groups.

    A class without variance (one row, or only equal rows) has the mean covariance of the others.
    """

    def __init__(self, statistics: ScatterByClass) -> None:
        self.statistics = statistics
        self.intensity: Tensor | None = None
        variances = torch.cat([_variances(self._own(part)) for part in self.parts()])
        self.variances = (statistics.count - 1) @ variances / statistics.count.sum()
        """Mean variances within the classes ``[D]``, divided by N."""
        self.varies = variances.sum(1) > 0
        self.pooled = torch.zeros_like(statistics.scatter[0])
        if bool(self.varies.all()):
            return
        share = torch.where(self.varies, statistics.count, torch.zeros_like(statistics.count))
        share /= share.sum().clamp(min=1)
        for part in self.parts():
            own = self._own(part)
            self.pooled += (share[part] @ own.flatten(1)).view(own.shape[1:])

    def shrink(
        self,
        intensity: Callable[
            [Float[Tensor, "k D D"], Float[Tensor, "k"], Float[Tensor, "k"]], Float[Tensor, "k"]
        ],
        fourth_powers: Float[Tensor, "K"],
    ) -> None:
        """Shrink each covariance by the intensity ``[k]`` that a function computes.

        Its arguments are maximum-likelihood covariances ``[k, D, D]``, numbers of rows ``[k]``, and sums of fourth
        powers ``[k]``. Classes without variance are not shrunk.
        """
        count = self.statistics.count
        parts = [
            intensity(self.statistics.covariances(part=part), count[part], fourth_powers[part])
            for part in self.parts()
        ]
        self.intensity = torch.cat(parts).where(self.varies, 0)

    def __getitem__(self, part: slice) -> Float[Tensor, "k ..."]:
        own, varies = self._own(part), self.varies[part]
        if not bool(varies.all()):
            own = torch.where(varies.view(-1, *[1] * (own.ndim - 1)), own, self.pooled)
        return own if self.intensity is None else shrunk(own, self.intensity[part])

    def parts(self) -> Iterator[slice]:
        """Iterate over groups of classes whose covariances fit into `CHUNK_BYTES`."""
        group = max(1, CHUNK_BYTES // (8 * self.statistics.scatter[0].numel()))
        for start in range(0, len(self.statistics.classes), group):
            yield slice(start, start + group)

    def _own(self, part: slice) -> Float[Tensor, "k ..."]:
        return self.statistics.covariances(unbiased=True, part=part)


def _variances(covariances: Float[Tensor, "k ..."]) -> Float[Tensor, "k D"]:
    return covariances if covariances.ndim == 2 else covariances.diagonal(dim1=1, dim2=2).clone()
