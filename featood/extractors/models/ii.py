"""Networks that embed each class compactly, and the classes far from each other."""

from __future__ import annotations

__all__ = ["IntraInter"]

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from featood.extractors.models.centers import Centers, CentersModel, embedded
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import class_means, intra_inter
from featood.options import option
from featood.training.gathering import gathered
from featood.training.loop import Losses


@register(
    "ii",
    title="ii loss",
    paper="Hassen and Chan, Learning a Neural-network-based Representation for Open Set Recognition, SDM",
    year=2020,
    url="https://arxiv.org/abs/1802.04365",
)
class IntraInter(CentersModel):
    """Minimise the spread within classes minus the separation of the two nearest classes, by the means of a batch.

    The spread is the mean squared distance to the mean of the class, the separation the smallest squared distance of
    two means. Score the distance to the nearest centre, the column ``score.avg``, with ``column``.

    The centres are moving averages of the means of batches; the paper computes the means of all training images at the
    end. The separation is not rewarded above `farthest`, as the embedding would otherwise grow without bound.
    """

    latent: int = option(32, "size of the embedding", low=1)
    weight: float = option(1.0, "weight of the separation", low=0)
    farthest: float = option(10.0, "distance of two means above which they are not separated further", low=0)
    rate: float = option(0.1, "rate of the moving averages", low=0, high=1)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the embedding and the centres."""
        return {
            "score": Centers(nn.Linear(setup.width, self.latent), torch.zeros(setup.classes, self.latent))
        }

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Set the centres to the means in the untrained network."""
        part = self.centers_of(net)
        rows, labels = embedded(net, part, batches)
        part.centers.copy_(class_means(rows, labels, len(part.centers))[0])

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the spread and the separation."""
        part = self.centers_of(net)
        embedding, labels = gathered(part.embed(net.features(batch.images))), gathered(batch.labels)
        classes = len(part.centers)
        means, count = class_means(embedding.detach().to(part.centers.dtype), labels, classes)
        moved = torch.lerp(part.centers, means, self.rate)
        part.centers.copy_(torch.where(count[:, None] > 0, moved, part.centers))
        return intra_inter(embedding, labels, classes, self.weight, self.farthest)
