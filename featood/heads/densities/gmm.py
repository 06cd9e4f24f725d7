"""Density of a Gaussian mixture with one component per class."""

from __future__ import annotations

__all__ = ["GMM"]

import warnings
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.gaussian_head import GaussianHead
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.class_gaussians import (
    CHUNK_BYTES,
    ClassCovariances,
    class_distances,
    diagonal_distances,
)
from featood.numerics.gaussian import (
    ADVICE,
    LADDER,
    Whitening,
    factorize,
    log_density,
    log_determinant,
    logsumexp_weighted,
    squared_distances,
)
from featood.numerics.memory import require_memory
from featood.numerics.mixtures import predictive_entropy
from featood.numerics.moments import ClassMoments, ScatterByClass
from featood.options import option

TEMPORARIES = 8
"""Maximum number of temporary chunks held in memory in addition to the class covariances."""


@register(
    "gmm",
    title="Gaussian mixture density (DDU)",
    paper="Mukhoti et al., Deep Deterministic Uncertainty: A New Simple Baseline, CVPR",
    year=2023,
    url="https://arxiv.org/abs/2102.11582",
    needs=("features", "labels"),
)
class GMM(GaussianHead, StreamingHead):
    """Score ``-log sum_c pi_c N(z; mu_c, S_c)`` with the means, covariances and frequencies of the classes.

    The other score is the entropy of the class probabilities ``pi_c N(z; mu_c, S_c) / sum_k pi_k N(z; mu_k, S_k)``.

    Class covariances are normalised by n_c - 1, the tied covariance by N. With `shrinkage`, the intensity is estimated
    for each class from its own rows. The same ridge is added to all covariances, so that their densities stay
    comparable: zero, or the smallest value for which all can be factorised. A feature that is constant in training, or
    in one class, has a tiny variance there; ``--dead ignore`` drops features that are constant in every class. A class
    without variance (a single row) uses the mean covariance of the others. The fit holds two copies of the class
    covariances, ``16 C D^2`` bytes, and is refused if memory does not suffice. Computed in float64. Higher means more
    out-of-distribution.
    """

    covariance: str = option(
        "full",
        "covariance: one per class (full), one shared by all (tied), or variances only (diag)",
        choices=("full", "tied", "diag"),
    )
    which: str = option(
        "density",
        "negative log-density, or entropy of the class probabilities",
        choices=("density", "entropy"),
    )
    uniform: bool = option(
        False, "give all classes equal weight instead of their frequency (as DDU's published code)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shrinkage != "none" and self.covariance == "diag":
            raise UsageError(
                f"{self.name}: shrinkage applies to full and tied covariances; omit it with diag"
            )

    def fit_state(self, train: SelectedRows) -> State:
        """Fit in one pass, after checking that the class covariances fit into memory."""
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
            map_ = self.whiten(statistics, lambda: map(self._labelled, train.blocks()))[0]
            return {"weights": weights, **map_._asdict(), "means": map_(statistics.means())}
        center = statistics.mean()
        means = statistics.means() - center
        covariances = ClassCovariances(statistics)
        dead = covariances.variances <= 0
        ignored = dead if self.dead == "ignore" and bool(dead.any()) else None
        if self.covariance == "diag":
            return {"weights": weights, "center": center, **self._diagonal(means, covariances, ignored)}
        few = int((statistics.count <= means.shape[1]).sum())
        if few:
            warnings.warn(
                f"{self.name}: {few} of {len(weights)} classes have no more rows than there are features, so their "
                "covariances are singular; --covariance tied needs fewer rows",
                stacklevel=2,
            )
        if self.shrinkage != "none":
            covariances.shrink(self.intensity, self._fourth_powers(statistics, train))
        return {"weights": weights, "center": center, **self._full(means, covariances, ignored)}

    def prepare(self, state: State) -> Any:
        """Rebuild the whitening of the tied covariance."""
        if self.covariance == "tied":
            return Whitening(*(state[name] for name in Whitening._fields)), state
        return None, state

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negative log-density, or the entropy of the class probabilities ``[B]``."""
        densities, weights = self.class_densities(block, fitted), fitted[1]["weights"]
        if self.which == "density":
            return -logsumexp_weighted(densities, weights)
        return predictive_entropy([densities + weights.log()])

    def class_densities(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the log-density of each class that has rows ``[B, C]``."""
        map_, state = fitted
        rows = self.vectors(block)
        if map_ is not None:
            squared = squared_distances(map_(rows), state["means"])
        elif self.covariance == "diag":
            squared = diagonal_distances(rows - state["center"], state["means"], state["precisions"])
        else:
            squared = class_distances(rows - state["center"], state["means"], state["matrices"])
        return log_density(squared, state["log_det"], rows.shape[1])

    def _labelled(self, block: FeatureSet) -> tuple[Tensor, Tensor]:
        return self.vectors(block).double(), torch.as_tensor(block.labels)

    def _fourth_powers(self, statistics: ScatterByClass, train: SelectedRows) -> Tensor:
        powers = torch.zeros_like(statistics.count)
        if self.shrinkage == "ledoit-wolf":
            for block in train.blocks():
                powers += statistics.fourth_powers(*self._labelled(block))
        return powers

    def _full(self, means: Tensor, covariances: ClassCovariances, ignored: Tensor | None) -> State:
        matrices = means.new_empty(*means.shape, means.shape[1])
        log_det, unit = torch.empty_like(means[:, 0]), covariances.variances.mean()

        def invert(ridge: float) -> float:
            """Invert all with at least this ridge; return the largest one used, which earlier chunks may lack."""
            for part in covariances.parts():
                some = covariances[part]
                if ignored is not None:
                    some[:, ignored, ignored] = unit  # off-diagonal entries of ignored features are zero
                factors, ridge = factorize(some, ridge, "the covariance of a class", unit)
                identity = torch.eye(means.shape[1]).to(factors).expand_as(factors)
                matrices[part] = torch.linalg.solve_triangular(factors, identity, upper=False).mT
                log_det[part] = log_determinant(factors.diagonal(dim1=1, dim2=2).square(), ignored)
            return ridge

        used = invert(self.ridge)
        self._warn(used)
        if used > self.ridge and len(list(covariances.parts())) > 1:
            invert(used)
        if ignored is not None:
            matrices[:, ignored] = 0
        means = torch.einsum("cd,cde->ce", means, matrices)
        return {"means": means, "matrices": matrices, "log_det": log_det, "ridge": means.new_tensor(used)}

    def _diagonal(self, means: Tensor, covariances: ClassCovariances, ignored: Tensor | None) -> State:
        variances, unit = covariances[:], covariances.variances.mean()
        if not bool(unit > 0):
            raise DataError(f"{self.name}: all rows of each class are identical; fit on other or more rows")
        if ignored is not None:
            variances[:, ignored] = torch.inf
        used = LADDER[1] if self.ridge == 0 and bool((variances <= 0).any()) else self.ridge
        self._warn(used)
        variances += used * unit
        log_det = log_determinant(variances, ignored)
        return {
            "means": means,
            "precisions": 1 / variances,
            "log_det": log_det,
            "ridge": means.new_tensor(used),
        }

    def _warn(self, used: float) -> None:
        if used > self.ridge:
            warnings.warn(
                f"{self.name}: class covariances are singular or nearly so; a ridge of {used:.0e} of the mean variance "
                f"within classes was added to all ({ADVICE})",
                stacklevel=2,
            )

    def _require_memory(self, seen: int, classes: int, size: int, device: torch.device) -> None:
        """Raise if `classes` covariances do not fit into memory next to the scatter matrices of the `seen` classes."""
        if self.covariance == "full":
            require_memory(
                8 * (2 * classes - seen) * size**2 + TEMPORARIES * CHUNK_BYTES,
                f"{self.name}: the covariances of {classes} classes in {size} features",
                "use --covariance tied or diag",
                device,
            )
