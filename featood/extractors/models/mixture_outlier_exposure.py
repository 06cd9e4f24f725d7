"""Classifiers that are trained on mixtures of images and outliers."""

from __future__ import annotations

__all__ = ["MixtureOutlierExposure"]

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import mixture_outlier_exposure
from featood.options import option
from featood.training.loop import Losses


@register(
    "mixture-outlier-exposure",
    title="Mixture outlier exposure",
    paper="Zhang et al., Mixture Outlier Exposure: Towards Out-of-Distribution Detection in Fine-grained Environments, "
    "WACV",
    year=2023,
    url="https://arxiv.org/abs/2106.03917",
    needs=("labels", "outliers"),
)
class MixtureOutlierExposure(Model):
    """Minimise the cross-entropy plus a multiple of that of mixtures ``m x + (1 - m) x'`` of images and outliers.

    The target of a mixture is m for the label of the image x and ``1 - m`` for the uniform distribution. Score it with
    ``msp``.

    m is uniform in [0, 1] and drawn for each image; OpenOOD draws one m for a batch from a Beta distribution, and its
    default is CutMix with weight 1. Only linear mixtures are implemented. The loss takes two passes through the
    network, so the mixtures have statistics of their own in batch normalisation.
    """

    weight: float = option(5.0, "weight of the mixtures", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms."""
        return mixture_outlier_exposure(net, batch.images, batch.labels, batch.generator, self.weight)
