"""Density of a Gaussian mixture with one component a class."""

from __future__ import annotations

__all__ = ["Gmm"]

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base import State, StreamingHead
from featood.heads.registry import option, register
from featood.heads.rows import SelectedRows
from featood.numerics.gaussian import (
    Whitening,
    factorize,
    log_density,
    logsumexp_weighted,
    squared_distances,
    whitening,
)
from featood.numerics.moments import ClassMoments, ScatterByClass

MOST_BYTES = 4 << 30
"""Class covariances larger than this in sum are refused."""
CHUNK_BYTES = 64 << 20
"""Largest temporary when rows are whitened by several classes at once."""


@register(
    "gmm",
    title="Gaussian mixture density (DDU)",
    paper="Mukhoti et al., Deep Deterministic Uncertainty: A New Simple Baseline, CVPR",
    year=2023,
    url="https://arxiv.org/abs/2102.11582",
    needs=("features", "labels"),
)
class Gmm(StreamingHead):
    """Score ``-log sum_c pi_c N(z; mu_c, S_c)`` with the means, covariances and frequencies of the classes.

    Class covariances are divided by n_c - 1, the tied one by N. Where one needs more than `ridge` times its
    mean variance to be sound, all get as much, so that their densities stay comparable. A class without
    variance (a single row) takes the mean covariance of the others.
    """

    covariance: str = option(
        "full",
        "covariance: of each class, one around the class means, or variances alone",
        choices=("full", "tied", "diag"),
    )
    normalize: bool = option(False, "scale every row to length 1")
    uniform: bool = option(False, "weigh all classes alike, not by their frequency (as DDU's published code)")
    ridge: float = option(1e-6, "least ridge on the covariance, relative to the mean variance", low=0, high=1)

    def accumulate(self, statistics: Any, block: FeatureSet) -> ClassMoments | ScatterByClass:
        """Add a block's rows to the class moments."""
        rows, labels = self._rows(block), torch.as_tensor(block.labels)
        if self.covariance == "tied":
            return ClassMoments.of(rows, labels, statistics)
        diagonal = self.covariance == "diag"
        if not diagonal and len(labels):
            self._check_memory(int(labels.max()) + 1, rows.shape[1])
        return ScatterByClass.of(rows, labels, statistics, diagonal)

    def finish(self, statistics: Any, train: SelectedRows) -> State:
        """Factorise the covariances and whiten the means."""
        counts = (statistics.count > 0).double() if self.uniform else statistics.count
        weights = counts / counts.sum()  # zero for a class without rows, wherever its mean is put
        if self.covariance == "tied":
            map_ = whitening(
                statistics.mean(), statistics.within_covariance(), self.ridge, "the tied covariance"
            )
            return {"weights": weights, **map_._asdict(), "means": map_(statistics.means())}
        center = statistics.shift + statistics.total.sum(0) / statistics.count.sum()
        means = (statistics.means() - center).nan_to_num(0.0)
        covariances = _filled(statistics.covariances(unbiased=True), statistics.count)
        if self.covariance == "diag":
            return {"weights": weights, "center": center, **self._diagonal(means, covariances)}
        few = int(((statistics.count > 0) & (statistics.count <= means.shape[1])).sum())
        if few:
            warnings.warn(
                f"{self.name}: {few} of {len(weights)} classes have no more rows than there are features, so their "
                "covariances are singular; --covariance tied needs fewer rows",
                stacklevel=2,
            )
        return {"weights": weights, "center": center, **self._full(means, covariances)}

    def prepare(self, state: State) -> Any:
        """Rebuild the map of the tied covariance."""
        if self.covariance == "tied":
            return Whitening(*(state[name] for name in Whitening._fields)), state
        return None, state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negative log-density ``[B]``."""
        return -logsumexp_weighted(self.class_densities(block, fitted), fitted[1]["weights"])

    def class_densities(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the log-density of each class ``[B, C]``; a class without rows has one too, and no weight."""
        map_, state = fitted
        rows = self._rows(block)
        if map_ is not None:
            squared = squared_distances(map_(rows), state["means"])
        elif self.covariance == "diag":
            squared = diagonal_distances(rows.double() - state["center"], state["means"], state["precisions"])
        else:
            squared = class_distances(rows - state["center"].to(rows), state["means"], state["matrices"])
        return log_density(squared, state["log_det"], rows.shape[1])

    def _rows(self, block: FeatureSet) -> Tensor:
        rows = self.vectors(block)
        return F.normalize(rows) if self.normalize else rows

    def _full(self, means: Tensor, covariances: Tensor) -> State:
        factors, used = factorize(covariances, self.ridge, "the covariance of a class")
        if (most := float(used.max())) > self.ridge:
            warnings.warn(
                f"{self.name}: {int((used > self.ridge).sum())} of {len(used)} class covariances are singular or "
                f"nearly so; a ridge of {most:.0e} of the mean variance was added to all",
                stacklevel=2,
            )
            factors, _ = factorize(covariances, most, "the covariance of a class")
        identity = torch.eye(means.shape[1]).to(factors).expand_as(factors)
        matrices = torch.linalg.solve_triangular(factors, identity, upper=False).mT.contiguous()
        log_det = 2 * factors.diagonal(dim1=1, dim2=2).log().sum(1)
        return {
            "means": torch.einsum("cd,cde->ce", means, matrices),
            "matrices": matrices,
            "log_det": log_det,
        }

    def _diagonal(self, means: Tensor, variances: Tensor) -> State:
        variances = variances + self.ridge * variances.mean(1, keepdim=True)
        if bool((variances <= 0).any()):
            raise DataError(
                f"{self.name}: a feature does not vary in a class; more rows or a --ridge are needed"
            )
        return {"means": means, "precisions": 1 / variances, "log_det": variances.log().sum(1)}

    def _check_memory(self, classes: int, size: int) -> None:
        needed = 8 * classes * size**2
        if needed > MOST_BYTES:
            raise UsageError(
                f"{self.name}: {classes} covariances of {size} features take {needed / 2**30:.0f} GiB; "
                "use --covariance tied or diag"
            )


def class_distances(rows: Tensor, means: Tensor, matrices: Tensor) -> Tensor:
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


def diagonal_distances(rows: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """Return ``sum_d p_cd (z_d - mu_cd)^2`` ``[B, C]`` in float64, for rows and means near the origin."""
    weighted = means * precisions
    squares = rows.square() @ precisions.T + (means * weighted).sum(1)
    return torch.addmm(squares, rows, weighted.T, alpha=-2).clamp_(min=0)


def _filled(covariances: Tensor, count: Tensor) -> Tensor:
    """Give classes without variance (none or one row, or all the same) the mean covariance of the others."""
    flat = covariances.reshape(len(covariances), -1)
    variance = (covariances if covariances.ndim == 2 else covariances.diagonal(dim1=1, dim2=2)).sum(1)
    sound = variance > 0
    share = torch.where(sound, count, torch.zeros_like(count))
    pooled = (share / share.sum().clamp(min=1)) @ flat
    return torch.where(sound[:, None], flat, pooled).reshape(covariances.shape)
