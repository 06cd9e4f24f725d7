"""Classifiers with an output for the confidence."""

from __future__ import annotations

__all__ = ["ConfidenceBranch"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import confidence_loss
from featood.options import option
from featood.training.gathering import gathered
from featood.training.loop import Losses


class _Price(nn.Module):
    value: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(start))


@register(
    "confidence-branch",
    title="Learned confidence",
    paper="DeVries and Taylor, Learning Confidence for Out-of-Distribution Detection in Neural Networks",
    year=2018,
    url="https://arxiv.org/abs/1802.04865",
)
class ConfidenceBranch(Model):
    """Minimise ``-log(c p_y + 1 - c) - weight log c`` over the class probabilities p and a confidence c.

    A linear output of the features, the part ``confidence``, is the logit of c. As in OpenOOD's implementation, a
    random half of the images has c = 1 in the first term, so that the classifier learns from difficult images too, and
    the weight rises by 1 % in each update in which the mean of ``-log c`` exceeds the budget, and falls otherwise.
    Score the column ``confidence.avg`` with ``column --feature confidence.avg --negate``.

    As the weight changes by 1 % in an update, it takes hundreds of updates to reach the budget; c does not rank images
    well before. The authors train for 200 epochs, and use ODIN's perturbation at test time, which is left out.
    """

    shown: ClassVar[tuple[str, ...]] = ("confidence",)
    weight: float = option(0.1, "weight of -log c at the start", low=0)
    budget: float = option(0.3, "mean of -log c to which the weight is adjusted", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the output for the confidence, and the weight of its price."""
        return {"confidence": nn.Linear(setup.width, 1), "price": _Price(self.weight)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the classification loss with hints, and the price of the hints."""
        batch = batch.inliers()
        features, price = net.features(batch.images), net.parts["price"]
        assert isinstance(price, _Price)
        hinted = torch.rand(len(batch.labels), generator=batch.generator).to(features.device) < 0.5
        confidence = net.parts["confidence"](features).squeeze(1)
        found = confidence_loss(net.classify(features), confidence, batch.labels, price.value.clone(), hinted)
        dear = gathered(found["price"].detach()[None]).mean() > self.budget
        price.value /= torch.where(dear, 0.99, 1.01).to(price.value)
        return found
