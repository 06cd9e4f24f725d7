"""Classifiers whose logits are divided by a random temperature of each image."""

from __future__ import annotations

__all__ = ["RandomTemperature"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import random_temperature
from featood.options import option
from featood.training.loop import Losses


class _Variance(nn.Module):
    """Logarithms of variances ``[B, K]``; as the output, their mean ``[B, 1]``."""

    def __init__(self, width: int, degrees: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, degrees), nn.BatchNorm1d(degrees))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).exp().mean(1, keepdim=True)


@register(
    "rts",
    title="Random temperature scaling",
    paper="Shang et al., Improving Training and Inference of Face Recognition Models via Random Temperature Scaling, "
    "AAAI",
    year=2023,
    url="https://ojs.aaai.org/index.php/AAAI/article/view/26760",
)
class RandomTemperature(Model):
    """Minimise the cross-entropy of ``logits / T`` with ``T = sum_k v_k e_k^2 / (K - 2)`` plus a divergence of v.

    e is drawn from a normal distribution, the K variances v depend on the image, and the divergence is the mean of
    ``(v - log v - 1) / 2``. The part ``variance`` is their mean: score the column ``variance.avg`` with
    ``column --feature variance.avg``. A larger value is taken as more OOD, as in the paper.

    The paper's images have noisy labels. Where a network fits its labels, the loss lowers the temperature of images
    near the boundary of their class, and hardly changes that of others: v is then smaller for images that are difficult
    to classify, and its rank among OOD images depends on the data. Compare it with ``msp``.

    Loss and defaults are those of OpenOOD, which scores the mean with the opposite sign. It also clips the norm of the
    gradient at 2.5 (``--clip 2.5``).
    """

    shown: ClassVar[tuple[str, ...]] = ("variance",)
    degrees: int = option(32, "K, the number of variances", low=3)
    weight: float = option(0.1, "weight of the divergence", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the variances."""
        return {"variance": _Variance(setup.width, self.degrees)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms."""
        batch = batch.inliers()
        features, part = net.features(batch.images), net.parts["variance"]
        assert isinstance(part, _Variance)
        log_variances = part.layers(features)
        noise = torch.randn(log_variances.shape, generator=batch.generator).to(log_variances)
        return random_temperature(net.classify(features), log_variances, noise, batch.labels, self.weight)
