"""Two classifiers that disagree on outliers."""

from __future__ import annotations

__all__ = ["ClassifierDiscrepancy"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.phases import PhasedModel
from featood.extractors.models.registry import register
from featood.losses import classifier_discrepancy
from featood.options import option
from featood.training.gathering import gathered
from featood.training.loop import Losses


@register(
    "mcd",
    title="Maximum classifier discrepancy",
    paper="Yu and Aizawa, Unsupervised Out-of-Distribution Detection by Maximum Classifier Discrepancy, ICCV",
    year=2019,
    url="https://arxiv.org/abs/1908.04951",
    needs=("labels", "outliers"),
)
class ClassifierDiscrepancy(PhasedModel):
    """Minimise the cross-entropies of two classifiers plus ``max(margin - mean (H(p1) - H(p2)), 0)`` over outliers.

    The two are the network's last layer and the part ``second``, whose logits are the column ``second.avg``. Score it
    with ``msp`` or ``entropy``, of the first classifier, which is uncertain of outliers.

    Defaults are those of OpenOOD, whose entropies are over the rows of a batch; here they are over the classes, as in
    the paper. The authors alternate two updates; here both losses are minimised together.
    Their score, the discrepancy of the two classifiers, is left out.
    """

    shown: ClassVar[tuple[str, ...]] = ("second",)
    weight: float = option(1.0, "weight of the discrepancy", low=0)
    margin: float = option(1.2, "least difference of the entropies, in nats", low=0)
    pretraining: float = option(0.9, "share of the training without the discrepancy", low=0, high=1)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the second classifier."""
        return {**super().parts(setup), "second": nn.Linear(setup.width, setup.classes)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms."""
        features = net.features(batch.images)
        weight = self.weight if self.begun(net, batch, self.pretraining) else 0.0
        logits = torch.stack([net.classify(features), net.parts["second"](features)], 1)
        # the discrepancy is bounded for the mean of the batch, not of each process
        first, second = gathered(logits).unbind(1)
        return classifier_discrepancy(first, second, gathered(batch.labels), weight, self.margin)
