"""Base class of heads that compare a row with the mean of the training rows and with the classifier."""

from __future__ import annotations

__all__ = ["MeanHead", "boundary_widths"]

import dataclasses

import torch
from torch import Tensor

from featood.cache.feature_set import ROWS, FeatureSet
from featood.heads.base.feature_head import RawFeatures, StreamingHead
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state
from featood.heads.base.rows import SelectedRows
from featood.numerics.gaussian import squared_distances
from featood.numerics.moments import ClassSums


@dataclasses.dataclass(kw_only=True, eq=False)
class MeanHead(RawFeatures, StreamingHead):
    """Base of the heads whose state is the mean of the training features and the classifier."""

    def accumulate(self, statistics: ClassSums | None, block: FeatureSet) -> ClassSums:
        """Add a block's rows to the sum."""
        return ClassSums.of(self.vectors(block), None, statistics)

    def finish(self, statistics: ClassSums, train: SelectedRows) -> State:
        """Keep the mean and the classifier."""
        return {"mean": statistics.mean(), **classifier_state(train, self.feature)}


def boundary_widths(weight: Tensor) -> Tensor:
    """Distances ``[C, C]`` between the weights ``[C, D]`` of classes, infinite where two classes have no boundary.

    A difference of logits divided by it is the distance to the boundary between the classes. A class has none with
    itself, nor with a class that has the same weights.
    """
    weight = weight.double()
    least = 1e-12 * weight.square().sum(1).amax()
    widths = weight.new_empty(len(weight), len(weight))
    for place, part in zip(
        widths.split(ROWS), weight.split(ROWS), strict=True
    ):  # in chunks, to bound the temporaries with many classes
        squares = squared_distances(part, weight)
        place.copy_(squares.masked_fill_(squares <= least, torch.inf).sqrt_())
    return widths
