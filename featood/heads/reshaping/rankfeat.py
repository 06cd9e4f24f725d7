"""Feature maps without their largest singular component."""

from __future__ import annotations

__all__ = ["RankFeat", "remove_rank_one"]

from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError, UsageError
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.options import option

MAPS = 256
"""Number of maps decomposed at a time, in float64."""


@register(
    "rankfeat",
    title="Rank-1 feature removal (RankFeat)",
    paper="Song et al., RankFeat: Rank-1 Feature Removal for Out-of-distribution Detection, NeurIPS",
    year=2022,
    url="https://arxiv.org/abs/2209.08590",
    needs=("features", "classifier"),
    learns=False,
)
class RankFeat(RawFeatures, FeatureHead):
    """Score the energy of the logits of the last feature map without its largest singular component.

    The map is stored at extraction (``featood extract --maps``); its average over positions is the input of the
    classifier. The authors also remove the component in the previous stage, run the last stage on the result, and
    average the logits of both. A cache does not contain what this needs, so this head is the paper's variant for the
    last block alone.
    """

    feature: str = option("map", "column with the unpooled maps, C * H * W numbers per row")

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the energy ``[B]``."""
        if block.classifier is None:
            raise DataError(f"{self.name} needs the classifier's weight and bias, which {block.name} lacks")
        rows = self.vectors(block)
        weight, bias = (torch.as_tensor(part, device=rows.device).double() for part in block.classifier)
        if rows.shape[1] % weight.shape[1]:
            raise UsageError(
                f"{self.name}: column '{self.feature}' has {rows.shape[1]} numbers per row, which are not maps of the "
                f"classifier's {weight.shape[1]} input channels"
            )
        maps = rows.unflatten(1, (weight.shape[1], -1))
        averages = by_chunks(remove_rank_one, MAPS, maps)
        return -(averages @ weight.T + bias).logsumexp(1)


def remove_rank_one(maps: Tensor) -> Tensor:
    """Remove the largest singular component of each map and average the rest over positions.

    With the right singular vector v (over positions), the result is ``X - X v v^T``; with the left one u (over
    channels), it is ``X - u u^T X``, which is the same. The shorter vector is computed, as an eigenvector.

    Parameters
    ----------
    maps : Tensor
        ``[B, C, T]``: channels by positions.

    Returns
    -------
    Tensor
        ``[B, C]`` in float64.
    """
    maps = maps.double()
    channels, positions = maps.shape[1:]
    if positions <= channels:
        v = torch.linalg.eigh(maps.mT @ maps).eigenvectors[:, :, -1:]
        kept = 1 - v * v.sum(1, keepdim=True)
        return (maps @ kept)[:, :, 0] / positions
    u = torch.linalg.eigh(maps @ maps.mT).eigenvectors[:, :, -1:]
    means = maps.mean(2, keepdim=True)
    return (means - u * (u.mT @ means))[:, :, 0]
