"""Classifiers trained by cross-entropy."""

from __future__ import annotations

__all__ = ["CrossEntropy"]

from typing import ClassVar

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.options import option
from featood.training.loop import Losses


@register(
    "cross-entropy",
    title="Cross-entropy",
    paper="Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR",
    year=2016,
    url="https://arxiv.org/abs/1512.00567",
    mixes=True,
)
class CrossEntropy(Model):
    """Minimise the mean of ``-sum_c q_c log p_c``, where q gives the label ``1 - s + s / C`` and others ``s / C``.

    s is the smoothing; 0, the default, is the plain cross-entropy.
    """

    takes: ClassVar[tuple[str, ...]] = ("images", "texts")
    smoothing: float = option(0.0, "share of the target spread evenly over all classes", low=0, high=1)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the cross-entropy of a batch."""
        return {"loss": batch.cross_entropy(net(batch.images), self.smoothing)}
