"""Relative norm of the projection on the principal subspace, motivated by neural collapse."""

from __future__ import annotations

__all__ = ["NECO"]

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import warn_of_centring
from featood.heads.base.moments_head import add_moments, class_moments
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.numerics.moments import ClassMoments
from featood.numerics.subspaces import Subspace, explaining, principal_axes, subspace
from featood.options import option

CHUNK = 1024
"""Number of rows that are scored at a time, as larger temporaries take as long as the product."""


class LogitMoments(NamedTuple):
    """Moments of rows, and the sum of their largest logits."""

    rows: ClassMoments
    largest: Tensor

    def merge(self, other: Self) -> Self:
        """Combine with the statistics of other rows."""
        return self._replace(rows=self.rows.merge(other.rows), largest=self.largest + other.largest)

    def without_rows(self) -> Self:
        """Return statistics of no rows with the same shift."""
        return self._replace(rows=self.rows.without_rows(), largest=torch.zeros_like(self.largest))


@register(
    "neco",
    title="Neural collapse based detection (NECO)",
    paper="Ammar et al., NECO: NEural Collapse Based Out-of-distribution detection, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2310.06823",
    needs=("features", "logits"),
)
class NECO(StreamingHead):
    """Score ``-|P z| / |z| max(logits)`` of standardised features z, P being the projection on the principal subspace.

    The authors omit the largest logit for ResNets (``--no-max-logit``). A feature that is constant in
    training is scaled by the mean standard deviation of the others. Higher means more out-of-distribution.

    Adding a constant to all logits leaves the softmax unchanged but changes the score. If the mean largest logit of
    the training rows is not positive, the score would be reversed; the logits are then centred over the classes first,
    with a warning.
    """

    dim: int = option(0, "dimension of the principal subspace (0: set by `explained`)", low=0)
    explained: float = option(0.9, "share of the variance that the subspace explains", low=1e-6, high=1)
    max_logit: bool = option(True, "multiply by the largest logit")

    def accumulate(self, statistics: LogitMoments | None, block: FeatureSet) -> LogitMoments:
        """Add a block's rows to the moments, and their largest logits."""
        rows, largest = statistics or (None, 0.0)
        return LogitMoments(add_moments(self, rows, block), largest + _largest(block))

    def fit_state(self, train: SelectedRows) -> State:
        """Pass over the features once, unless another head has done so, and over the logits once."""
        largest = torch.tensor(sum(float(part) for part, _ in train.map(_largest)), dtype=torch.float64)
        return self.finish(LogitMoments(class_moments(self, train), largest), train)

    def finish(self, statistics: LogitMoments, train: SelectedRows) -> State:
        """Standardise and compute the principal subspace."""
        moments, largest = statistics.rows, float(statistics.largest)
        if centred := self.max_logit and largest <= 0:
            warn_of_centring(self.name, "the mean largest logit", largest / moments.rows)
        covariance = moments.covariance()
        variance = covariance.diagonal()
        alive = variance > 1e-12 * variance.amax()
        if not bool(alive.any()):
            raise DataError(f"neco: all rows of {train.source.name} are identical; fit on other rows")
        scale = variance.clamp(min=0).sqrt()
        scale = torch.where(alive, scale, scale[alive].mean())
        values, axes = principal_axes(covariance / torch.outer(scale, scale))
        size = min(self.dim or explaining(values, self.explained), len(values))
        space = subspace(axes, values, size, inside=True)
        state = {"mean": moments.mean(), "std": scale, **space._asdict()}
        return {**state, "centred": torch.tensor(centred)}

    def prepare(self, state: State) -> Any:
        """Restore the subspace."""
        return {**state, "space": Subspace.of(state)}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the negated relative norm, times the largest logit ``[B]``."""
        assert block.logits is not None
        share = by_chunks(lambda rows: self._share(rows.double(), fitted), CHUNK, self.vectors(block))
        if not self.max_logit:
            return -share
        logits = block.logits[:]
        largest = logits.amax(1).double()
        if "centred" in fitted:  # absent from artefacts of earlier versions
            mean = logits.mean(1, dtype=torch.float64)
            largest = torch.where(fitted["centred"].to(logits.device), largest - mean, largest)
        return -share * largest

    def _share(self, rows: Tensor, fitted: Any) -> Tensor:
        """Return the norm of the projection of float64 rows ``[B, D]`` relative to their own, standardised ``[B]``."""
        rows = (rows - fitted["mean"]).div_(fitted["std"])
        inside = fitted["space"].inside(rows, torch.zeros_like(fitted["mean"]))
        return inside / rows.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)


def _largest(block: FeatureSet) -> Tensor:
    """Sum the largest logits of the rows of a block."""
    assert block.logits is not None
    return block.logits[:].double().amax(1).sum()
