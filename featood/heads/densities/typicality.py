"""Distance of the log-density from its mean over the training rows."""

from __future__ import annotations

__all__ = ["Typicality"]

from typing import Any

from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.densities._density_head import DensityHead
from featood.heads.registry import register
from featood.numerics.moments import ClassSums


@register(
    "typicality",
    title="Typicality",
    paper="Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality, arXiv",
    year=2019,
    url="https://arxiv.org/abs/1906.02994",
    needs=("features",),
)
class Typicality(DensityHead, StreamingHead):
    """Score ``|-log p(x) - H|``, where H, the mean of ``-log p`` over the training rows, estimates the entropy.

    Most samples of a density in many dimensions have nearly the same log-density, so an input that is more likely than
    those of the training is not typical either. This is the authors' test for a single input.
    """

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's log-densities to the sums."""
        return ClassSums.of(self.log_densities(block)[:, None], None, statistics)

    def finish(self, statistics: ClassSums, train: SelectedRows) -> State:
        """Keep the mean log-density ``[1]``."""
        return {"mean": statistics.mean()}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the distances from the mean ``[B]``."""
        return (self.log_densities(block) - fitted["mean"]).abs()
