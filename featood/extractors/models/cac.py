"""Networks that embed the images of each class near a fixed point on an axis."""

from __future__ import annotations

__all__ = ["ClassAnchors"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.extractors.models.centers import Centers, CentersModel
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import class_anchors, rejection
from featood.options import option
from featood.training.loop import Losses


class _Anchors(Centers):
    def score(self, apart: Tensor) -> Tensor:
        return rejection(apart)


@register(
    "cac",
    title="Class anchor clustering",
    paper="Miller et al., Class Anchor Clustering: A Loss for Distance-Based Open Set Recognition, WACV",
    year=2021,
    url="https://arxiv.org/abs/2004.02434",
)
class ClassAnchors(CentersModel):
    """Minimise ``log(1 + sum_{c != y} exp(d_y - d_c)) + weight d_y``, with distances d to fixed anchors of the classes.

    The embedding has as many dimensions as there are classes, and the anchor of a class is at `magnitude` on its axis.
    Score ``min_c d_c (1 - softmin(d)_c)``, the column ``score.avg``, with ``column``. Weight and magnitude are those of
    the authors.
    """

    weight: float = option(0.1, "weight of the distance to the anchor", low=0)
    magnitude: float = option(10.0, "distance of the anchors from 0", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the embedding and the anchors."""
        anchors = self.magnitude * torch.eye(setup.classes)
        return {"score": _Anchors(nn.Linear(setup.width, setup.classes), anchors)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms."""
        apart = self.centers_of(net).distances(net.features(batch.images))
        return class_anchors(apart, batch.labels, self.weight)
