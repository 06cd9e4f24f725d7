"""Inner products with the class means, as logits."""

from __future__ import annotations

__all__ = ["MeanLogits"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.moments import ClassSums
from featood.options import option


@register(
    "mean-logits",
    title="Inner products with the class means",
    paper="Lafon et al., Hybrid Energy Based Model in the Feature Space for Out-of-Distribution Detection, ICML "
    "(the scorer mean of the authors' code)",
    year=2023,
    url="https://arxiv.org/abs/2305.16966",
    needs=("features", "labels"),
)
class MeanLogits(StreamingHead):
    """Score ``-max_c <z, mu_c>`` over the class means, or ``-logsumexp_c <z, mu_c>``.

    These are `max-logit` and `energy` of a classifier whose weights are the class means. With the space l2 rows have
    unit length; where the authors also scale the means to unit length, the score is that of `cosine`. Higher means more
    out-of-distribution.
    """

    which: str = option(
        "max", "negated largest inner product, or negated logsumexp of all", choices=("max", "logsumexp")
    )

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's rows to the class sums."""
        return ClassSums.of(self.vectors(block), torch.as_tensor(block.labels), statistics)

    def finish(self, statistics: ClassSums, train: SelectedRows) -> State:
        """Keep the class means."""
        return {"means": statistics.means()}

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the score `which` ``[B]``."""
        products = self.vectors(block).double() @ fitted["means"].T
        return -(products.amax(1) if self.which == "max" else products.logsumexp(1))
