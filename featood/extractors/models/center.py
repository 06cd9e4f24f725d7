"""Classifiers whose features are near a centre of their class."""

from __future__ import annotations

__all__ = ["CenterLoss"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from featood.extractors.models.centers import Centers
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import center_loss
from featood.options import option
from featood.training.loop import Losses


@register(
    "center",
    title="Center loss",
    paper="Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV",
    year=2016,
    url="https://doi.org/10.1007/978-3-319-46478-7_31",
)
class CenterLoss(Model):
    """Minimise the cross-entropy plus a multiple of the mean of ``max(|z - c_y|^2 - radius^2, 0)``.

    z are the features and c_y is a learned centre of the class. Score the distance to the nearest centre, the column
    ``score.avg``, with ``column``, or the logits.

    The centres are parameters like others, initialised at random; the paper moves them to the mean of their rows in the
    batch, with a rate of their own. The weight 0.01 is that of the PyTorch implementation by K. Zhou for MNIST.
    """

    shown: ClassVar[tuple[str, ...]] = ("score",)
    weight: float = option(0.01, "weight of the distances", low=0)
    radius: float = option(0.0, "distance from the centre without loss", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the centres."""
        return {"score": Centers(nn.Identity(), torch.randn(setup.classes, setup.width), learned=True)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms."""
        features, part = net.features(batch.images), net.parts["score"]
        assert isinstance(part, Centers)
        named = batch.cross_entropy(net.classify(features))
        center = center_loss(part.distances(features), batch.labels, self.radius)
        return {"loss": named + self.weight * center, "classification": named, "center": center}
