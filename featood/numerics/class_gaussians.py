"""Covariances and distances of many classes, some of them at a time within a fixed memory."""

from __future__ import annotations

__all__ = ["CHUNK_BYTES", "ClassCovariances", "class_distances", "diagonal_distances"]

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from featood.numerics.moments import ScatterByClass
from featood.numerics.shrinkage import shrunk

CHUNK_BYTES = 64 << 20
"""Largest temporary when several classes are dealt with at once."""


def class_distances(
    rows: Float[Tensor, "B D"], means: Float[Tensor, "C D"], matrices: Float[Tensor, "C D D"]
) -> Float[Tensor, "B C"]:
    """Squared distances ``[B, C]`` of rows ``[B, D]``, whitened by each class's matrix, from whitened means.

    Some classes are taken at a time, as many as a fixed memory allows.

    Parameters
    ----------
    rows : Tensor
        ``[B, D]``; the precision of the computation is theirs.
    means : Tensor
        ``[C, D]``.
    matrices : Tensor
        ``[C, D, D]``.
    """
    group = max(1, CHUNK_BYTES // max(1, rows.numel() * rows.element_size()))
    parts = [
        (rows @ some.to(rows) - centers[:, None].to(rows)).square_().sum(2)
        for some, centers in zip(matrices.split(group), means.split(group), strict=True)
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
    """Unbiased covariances ``[K, D, D]`` or variances ``[K, D]`` of classes, made some at a time.

    A class without variance (one row, or all the same) has the mean covariance of the others.
    """

    def __init__(self, statistics: ScatterByClass) -> None:
        self.statistics = statistics
        self.intensity: Tensor | None = None
        variances = torch.cat([_variances(self._own(part)) for part in self.parts()])
        self.variances = (statistics.count - 1) @ variances / statistics.count.sum()
        """Mean variances within the classes ``[D]``, divided by N."""
        self.sound = variances.sum(1) > 0
        self.pooled = torch.zeros_like(statistics.scatter[0])
        if bool(self.sound.all()):
            return
        share = torch.where(self.sound, statistics.count, torch.zeros_like(statistics.count))
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
        """Shrink each by the intensity ``[k]`` that a function finds for maximum-likelihood covariances.

        It gets these ``[k, D, D]``, the numbers of rows ``[k]``, and their sums of fourth powers ``[k]``. A class
        without variance is left as it is.
        """
        count = self.statistics.count
        parts = [
            intensity(self.statistics.covariances(part=part), count[part], fourth_powers[part])
            for part in self.parts()
        ]
        self.intensity = torch.cat(parts).where(self.sound, 0)

    def __getitem__(self, part: slice) -> Float[Tensor, "k ..."]:
        own, sound = self._own(part), self.sound[part]
        if not bool(sound.all()):
            own = torch.where(sound.view(-1, *[1] * (own.ndim - 1)), own, self.pooled)
        return own if self.intensity is None else shrunk(own, self.intensity[part])

    def parts(self) -> Iterator[slice]:
        """Iterate over groups of classes whose covariances fit into a fixed memory."""
        group = max(1, CHUNK_BYTES // (8 * self.statistics.scatter[0].numel()))
        for start in range(0, len(self.statistics.classes), group):
            yield slice(start, start + group)

    def _own(self, part: slice) -> Float[Tensor, "k ..."]:
        return self.statistics.covariances(unbiased=True, part=part)


def _variances(covariances: Float[Tensor, "k ..."]) -> Float[Tensor, "k D"]:
    return covariances if covariances.ndim == 2 else covariances.diagonal(dim1=1, dim2=2).clone()
