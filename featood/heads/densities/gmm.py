"""Density of a Gaussian mixture with one component a class."""

from __future__ import annotations

__all__ = ["Gmm"]

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base import State
from featood.heads.registry import option, register
from featood.heads.rows import SelectedRows
from featood.heads.streaming import StreamingHead
from featood.numerics.gaussian import (
    Whitening,
    factorize,
    log_density,
    logsumexp_weighted,
    squared_distances,
    whitening,
)
from featood.numerics.memory import require_memory
from featood.numerics.moments import ClassMoments, ScatterByClass

CHUNK_BYTES = 64 << 20
"""Largest temporary when several classes are dealt with at once."""
TEMPORARIES = 8
"""So many of them at once, at most, beside the class covariances."""


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
    variance (a single row) takes the mean covariance of the others. Class covariances are kept twice while they are
    fitted, ``16 C D^2`` bytes, and refused where that is more than there is.
    """

    covariance: str = option(
        "full",
        "covariance: of each class, one around the class means, or variances alone",
        choices=("full", "tied", "diag"),
    )
    uniform: bool = option(False, "weigh all classes alike, not by their frequency (as DDU's published code)")
    ridge: float = option(1e-6, "least ridge on the covariance, relative to the mean variance", low=0, high=1)

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the rows once, if there is memory for the covariances of their classes."""
        size = next(iter(train.source.features.values())).shape[1]
        size = min(size, self.components or size)
        self._require_memory(0, len(train.classes), size, train.device)
        return super().fit_state(train)

    def accumulate(self, statistics: Any, block: FeatureSet) -> ClassMoments | ScatterByClass:
        """Add a block's rows to the class moments."""
        rows, labels = self.vectors(block), torch.as_tensor(block.labels)
        if self.covariance == "tied":
            return ClassMoments.of(rows, labels, statistics)
        seen = 0 if statistics is None else len(statistics.classes)
        known = (
            labels[labels >= 0]
            if statistics is None
            else torch.cat([statistics.classes, labels[labels >= 0]])
        )
        if (classes := len(known.unique())) > seen:
            self._require_memory(seen, classes, rows.shape[1], rows.device)
        return ScatterByClass.of(rows, labels, statistics, self.covariance == "diag")

    def finish(self, statistics: Any, train: SelectedRows) -> State:
        """Factorise the covariances and whiten the means."""
        counts = torch.ones_like(statistics.count) if self.uniform else statistics.count
        weights = counts / counts.sum()
        if self.covariance == "tied":
            map_ = whitening(
                statistics.mean(), statistics.within_covariance(), self.ridge, "the tied covariance"
            )
            return {"weights": weights, **map_._asdict(), "means": map_(statistics.means())}
        center = statistics.mean()
        means = statistics.means() - center
        covariances = ClassCovariances(statistics)
        if self.covariance == "diag":
            return {"weights": weights, "center": center, **self._diagonal(means, covariances[:])}
        few = int((statistics.count <= means.shape[1]).sum())
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
        """Return the log-density of each class that has rows ``[B, C]``."""
        map_, state = fitted
        rows = self.vectors(block)
        if map_ is not None:
            squared = squared_distances(map_(rows), state["means"])
        elif self.covariance == "diag":
            squared = diagonal_distances(rows.double() - state["center"], state["means"], state["precisions"])
        else:
            squared = class_distances(rows - state["center"].to(rows), state["means"], state["matrices"])
        return log_density(squared, state["log_det"], rows.shape[1])

    def _full(self, means: Tensor, covariances: ClassCovariances) -> State:
        matrices = means.new_empty(*means.shape, means.shape[1])
        log_det, used = torch.empty_like(means[:, 0]), torch.empty_like(means[:, 0])

        def invert(ridge: float) -> None:
            for part in covariances.parts():
                factors, used[part] = factorize(covariances[part], ridge, "the covariance of a class")
                identity = torch.eye(means.shape[1]).to(factors).expand_as(factors)
                matrices[part] = torch.linalg.solve_triangular(factors, identity, upper=False).mT
                log_det[part] = 2 * factors.diagonal(dim1=1, dim2=2).log().sum(1)

        invert(self.ridge)
        if (most := float(used.max())) > self.ridge:
            warnings.warn(
                f"{self.name}: {int((used > self.ridge).sum())} of {len(used)} class covariances are singular or "
                f"nearly so; a ridge of {most:.0e} of the mean variance was added to all",
                stacklevel=2,
            )
            invert(most)
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

    def _require_memory(self, seen: int, classes: int, size: int, device: torch.device) -> None:
        """Refuse more classes than there is room for beside the scatter of those that were seen."""
        if self.covariance == "full":
            require_memory(
                8 * (2 * classes - seen) * size**2 + TEMPORARIES * CHUNK_BYTES,
                f"{self.name}: the covariances of {classes} classes in {size} features",
                "use --covariance tied or diag",
                device,
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


class ClassCovariances:
    """Unbiased covariances ``[K, D, D]`` or variances ``[K, D]`` of classes, made some at a time.

    A class without variance (one row, or all the same) has the mean covariance of the others.
    """

    def __init__(self, statistics: ScatterByClass) -> None:
        self.statistics = statistics
        self.sound = torch.cat([self._variances(part) > 0 for part in self.parts()])
        self.pooled = torch.zeros_like(statistics.scatter[0])
        if bool(self.sound.all()):
            return
        share = torch.where(self.sound, statistics.count, torch.zeros_like(statistics.count))
        share /= share.sum().clamp(min=1)
        for part in self.parts():
            own = self._own(part)
            self.pooled += (share[part] @ own.flatten(1)).view(own.shape[1:])

    def __getitem__(self, part: slice) -> Tensor:
        own, sound = self._own(part), self.sound[part]
        return (
            own if bool(sound.all()) else torch.where(sound.view(-1, *[1] * (own.ndim - 1)), own, self.pooled)
        )

    def parts(self) -> Iterator[slice]:
        """Iterate over groups of classes whose covariances fit into a fixed memory."""
        group = max(1, CHUNK_BYTES // (8 * self.statistics.scatter[0].numel()))
        for start in range(0, len(self.statistics.classes), group):
            yield slice(start, start + group)

    def _own(self, part: slice) -> Tensor:
        return self.statistics.covariances(unbiased=True, part=part)

    def _variances(self, part: slice) -> Tensor:
        own = self._own(part)
        return (own if own.ndim == 2 else own.diagonal(dim1=1, dim2=2)).sum(1)
