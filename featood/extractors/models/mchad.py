"""Networks that embed each class in a sphere, and outliers outside all spheres."""

from __future__ import annotations

__all__ = ["MultiHypersphere"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from featood.extractors.models.centers import Centers, CentersModel
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import center_loss, center_repulsion, cross_entropy
from featood.options import option
from featood.training.loop import Losses


@register(
    "mchad",
    title="Multi-class hypersphere anomaly detection",
    paper="Kirchheim et al., Multi-Class Hypersphere Anomaly Detection, ICPR",
    year=2022,
    url="https://doi.org/10.1109/ICPR56361.2022.9956337",
    needs=("labels", "outliers"),
)
class MultiHypersphere(CentersModel):
    """Minimise three terms of the distances d of embeddings to learned centres of the classes.

    They are the mean of ``max(d_y^2 - radius^2, 0)``, the cross-entropy of ``-d^2``, and for outliers the mean of
    ``sum_c max(margin^2 - d_c^2, 0)``. Score the distance to the nearest centre, the column ``score.avg``, with
    ``column``. The first and third weight are those of the authors' code, in which the third term takes the square of
    ``d^2``; here it takes ``d^2``, as in the paper. The centres are initialised at random. Optimiser, learning rate and
    weight decay are by default those of the authors' code; larger rates let the squared distances diverge.
    """

    training: ClassVar[Mapping[str, Any]] = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 5e-5}
    latent: int = option(32, "size of the embedding", low=1)
    center_weight: float = option(0.5, "weight of the distances to the own centre", low=0)
    weight: float = option(0.1, "weight of the outliers", low=0)
    radius: float = option(0.0, "distance from the centre without loss", low=0)
    margin: float = option(4.0, "distance of outliers from all centres", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the embedding and the centres."""
        centers = torch.randn(setup.classes, self.latent)
        return {"score": Centers(nn.Linear(setup.width, self.latent), centers, learned=True)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its three terms."""
        apart = self.centers_of(net).distances(net.features(batch.images))
        center = center_loss(apart, batch.labels, self.radius)
        named = cross_entropy(-apart.square(), batch.labels)
        near = center_repulsion(apart, batch.labels, self.margin)
        loss = self.center_weight * center + named + self.weight * near
        return {"loss": loss, "center": center, "classification": named, "outliers": near}
