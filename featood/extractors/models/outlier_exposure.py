"""Classifiers that are trained to be uncertain of outliers."""

from __future__ import annotations

__all__ = ["OutlierExposure"]

from typing import ClassVar

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import outlier_exposure
from featood.options import option
from featood.training.loop import Losses


@register(
    "outlier-exposure",
    title="Outlier exposure",
    paper="Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR",
    year=2019,
    url="https://arxiv.org/abs/1812.04606",
    needs=("labels", "outliers"),
)
class OutlierExposure(Model):
    """Minimise the cross-entropy of labelled images plus a multiple of that of outliers to the uniform distribution.

    The authors fine-tune a trained classifier for a few epochs, or train from scratch with both. With weight 1 it is
    the entropic open-set loss (Dhamija et al., NeurIPS 2018).
    """

    takes: ClassVar[tuple[str, ...]] = ("images", "texts")
    weight: float = option(0.5, "weight of the outliers (1: entropic open-set loss)", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms."""
        return outlier_exposure(net(batch.images), batch.labels, self.weight)
