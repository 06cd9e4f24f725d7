"""Networks that map all images near one point."""

from __future__ import annotations

__all__ = ["DeepSVDD"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.centers import Centers, CentersModel, embedded
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import hypersphere
from featood.options import option
from featood.training.loop import Losses

LEAST = 0.1
"""Smallest absolute coordinate of the centre, as in the authors' code; zero weights would reach a centre at 0."""


@dataclasses.dataclass(kw_only=True, eq=False)
class OneCenterModel(CentersModel):
    """A model with one centre, the mean of the embeddings in the untrained network; it does not classify.

    The network is trained without biases, as with them it could map every image to the centre: they are set to 0 before
    the training and stay there. The score is the distance to the centre, the column ``score.avg``. Optimiser, learning
    rate and weight decay are by default those of the authors' examples; larger rates let the squared distances diverge.
    """

    classifies: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {"optimizer": "adam", "lr": 1e-4, "weight_decay": 5e-7}
    latent: int = option(32, "size of the embedding", low=1)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the embedding and the centre."""
        return {
            "score": Centers(nn.Linear(setup.width, self.latent, bias=False), torch.zeros(1, self.latent))
        }

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Remove the biases and set the centre."""
        for name, value in net.named_parameters():
            if name.rpartition(".")[2] == "bias":
                value.requires_grad_(False).zero_()
        part = self.centers_of(net)
        center = embedded(net, part, batches)[0].mean(0, keepdim=True)
        least = torch.where(center < 0, -LEAST, LEAST)
        part.centers.copy_(torch.where(center.abs() < LEAST, least, center))

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the distance of each image ``[B]``."""
        return self.centers_of(net)(net.features(batch.images)).squeeze(1)


@register(
    "deep-svdd",
    title="Deep SVDD",
    paper="Ruff et al., Deep One-Class Classification, ICML",
    year=2018,
    url="https://proceedings.mlr.press/v80/ruff18a.html",
    needs=(),
)
class DeepSVDD(OneCenterModel):
    """Minimise the mean of ``max(|z - c|^2 - radius^2, 0)``, where z embeds an image and c is a fixed centre.

    Labels are not used. Score it with ``column``. The authors initialise the network as an autoencoder, which is left
    out, and take a radius of 0 (one-class) or one that is updated by a quantile (soft boundary); here it is fixed.
    """

    radius: float = option(0.0, "distance from the centre without loss", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss."""
        part = self.centers_of(net)
        embedding = part.embed(net.features(batch.images))
        return {"loss": hypersphere(embedding, part.centers[0], batch.labels, self.radius)}
