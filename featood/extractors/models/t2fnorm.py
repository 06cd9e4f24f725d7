"""Classifiers that are trained on features of constant norm."""

from __future__ import annotations

__all__ = ["T2FNorm"]

import torch.nn.functional as F
from torch import Tensor

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.options import option
from featood.training.loop import Losses


@register(
    "t2fnorm",
    title="T2FNorm",
    paper="Regmi et al., T2FNorm: Train-time Feature Normalization for OOD Detection in Image Classification, CVPR "
    "Workshops",
    year=2024,
    url="https://arxiv.org/abs/2305.17797",
)
class T2FNorm(Model):
    """Minimise the cross-entropy of the logits of ``z / (t |z|)``, and leave out the norm at test time.

    The extracted logits are those of ``z / t``, as the authors' score takes them: the last layer's weights are divided
    by t after the training. Score it with ``msp``.
    """

    temperature: float = option(0.1, "t", low=1e-4)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the cross-entropy."""
        features = F.normalize(net.features(batch.images), dim=1) / self.temperature
        return {"loss": batch.cross_entropy(net.classify(features))}

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the misclassifications without the norm ``[B]``."""
        features = net.features(batch.images) / self.temperature
        return (net.classify(features).argmax(1) != batch.labels).float()

    def finish(self, net: SplitNet) -> None:
        """Divide the weights of the last layer by t."""
        net.last.weight /= self.temperature
