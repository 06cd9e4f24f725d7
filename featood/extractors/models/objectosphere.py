"""Classifiers whose features are long for the classes and short for outliers."""

from __future__ import annotations

__all__ = ["Objectosphere"]

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import objectosphere
from featood.options import option
from featood.training.loop import Losses


@register(
    "objectosphere",
    title="Objectosphere",
    paper="Dhamija et al., Reducing Network Agnostophobia, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1811.04110",
    needs=("labels", "outliers"),
)
class Objectosphere(Model):
    """Minimise the entropic open-set loss plus a loss on the norms of the features z.

    The first is that of ``outlier-exposure`` with weight 1; the second is the mean of ``max(radius - |z|, 0)^2`` over
    labelled images plus the mean of ``|z|^2`` over outliers, times the weight. Score it with ``msp`` or ``norm``; the
    authors multiply the two.

    The weight 1 and the radius 1 are those of pytorch-ood; a suitable radius depends on the network.
    """

    weight: float = option(1.0, "weight of the loss on the norms", low=0)
    radius: float = option(1.0, "norm above which the features of labelled images have no loss", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its three terms."""
        features = net.features(batch.images)
        return objectosphere(net.classify(features), features, batch.labels, self.weight, self.radius)
