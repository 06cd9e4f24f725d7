"""Classifiers whose logits are divided by an output for the domain."""

from __future__ import annotations

__all__ = ["GeneralizedODIN"]

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.training.loop import Losses


@register(
    "godin",
    title="Generalized ODIN",
    paper="Hsu et al., Generalized ODIN: Detecting Out-of-distribution Image without Learning from Out-of-distribution "
    "Data, CVPR",
    year=2020,
    url="https://arxiv.org/abs/2002.11297",
)
class GeneralizedODIN(Model):
    """Minimise the cross-entropy of ``h_c / g``, where h are the network's logits and g is one number for each image.

    ``g = sigmoid(batch normalisation(w z + b))`` is the part ``g``. Score h with ``max-logit`` (and ``odin`` for the
    perturbation), or g with ``column --feature g.avg --negate``.

    h is the inner product ``W z + b`` (DeConf-I), which the network's last layer computes; the cosine and the distance
    (DeConf-C, DeConf-E) are left out, as their logits are not a linear layer. The authors exempt h from weight decay.
    """

    shown: ClassVar[tuple[str, ...]] = ("g",)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the divisor."""
        return {"g": nn.Sequential(nn.Linear(setup.width, 1), nn.BatchNorm1d(1), nn.Sigmoid())}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the cross-entropy."""
        batch = batch.inliers()
        features = net.features(batch.images)
        return {"loss": batch.cross_entropy(net.classify(features) / net.parts["g"](features))}
