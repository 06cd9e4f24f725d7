"""Features clipped at a quantile of the training activations, before they are transformed into a space."""

from __future__ import annotations

__all__ = ["ClippedFeatures"]

import dataclasses
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.numerics.quantiles import quantiles
from featood.numerics.sharing import digest
from featood.options import option

LIMIT = "clip.limit"


@dataclasses.dataclass(kw_only=True, eq=False)
class ClippedFeatures(FeatureHead):
    """A head whose features may be rectified (ReAct) before they are transformed into its space.

    References
    ----------
    Sun et al., ReAct: Out-of-distribution Detection With Rectified Activations, NeurIPS 2021.
    """

    clip: float = option(1.0, "clip features at this quantile of the training activations", low=0, high=1)

    def fit_space(self, train: SelectedRows) -> State:
        """Find the quantile, and fit the space to the clipped rows."""
        if self.clip == 1:
            return super().fit_space(train)
        (limit,) = quantiles(lambda: map(self.vectors, train.blocks()), [self.clip])
        limits = {LIMIT: torch.tensor(limit, dtype=torch.float64, device=train.device)}
        return super().fit_space(train.mapped(partial(self._clipped, state=limits))) | limits

    def in_space(self, rows: SelectedRows, state: Mapping[str, Tensor]) -> SelectedRows:
        """Return rows whose blocks are clipped and transformed as they are read."""
        if self.clip == 1:
            return super().in_space(rows, state)
        key = partial(_key, self.space, state)
        return rows.mapped(partial(self.transform_block, state=state), key)

    def transform_block(self, block: FeatureSet, state: Mapping[str, Tensor]) -> FeatureSet:
        """Clip the column of a block, and transform it into the space."""
        if self.clip < 1:
            block = self._clipped(block, state)
        return super().transform_block(block, state)

    def _clipped(self, block: FeatureSet, state: Mapping[str, Tensor]) -> FeatureSet:
        values = self.vectors(block).clamp(max=float(state[LIMIT]))
        return dataclasses.replace(block, features={**block.features, self.feature or block.main: values})


def _key(space: str, state: Mapping[str, Tensor]) -> tuple[str, str]:
    return f"clipped {space}", digest(*state.values())
