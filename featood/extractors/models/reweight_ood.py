"""Networks trained by contrastive learning with weights of the pairs."""

from __future__ import annotations

__all__ = ["ReweightOOD"]

from featood.extractors.models.model import ImageBatch
from featood.extractors.models.network import SplitNet
from featood.extractors.models.projection import ProjectionModel
from featood.extractors.models.registry import register
from featood.losses import reweighted_pairs
from featood.options import option
from featood.training.loop import Losses


@register(
    "reweight-ood",
    title="ReweightOOD",
    paper="Regmi et al., ReweightOOD: Loss Reweighting for Distance-based OOD Detection, CVPR Workshops",
    year=2024,
    url="https://github.com/sudarshanregmi/ReweightOOD",
)
class ReweightOOD(ProjectionModel):
    """Minimise ``elu(log sum_within exp(-w s / t) + log sum_between exp(w s / t))`` over the similarities s of pairs.

    The weights are ``sigmoid(c - m s)`` for pairs within a class and ``sigmoid(m s - c)`` for pairs of two classes, so
    that pairs far from their aim count more. s compares embeddings of two views of each image: use an augmentation
    (``--augment crop,flip``). Score the features with ``mahalanobis`` or ``knn``. Defaults are those of OpenOOD's
    implementation by the authors. A linear classifier is trained at the same time, on features without a gradient.
    """

    temperature: float = option(0.1, "t", low=1e-4)
    within_slope: float = option(2.0, "m of pairs within a class")
    within_offset: float = option(1.0, "c of pairs within a class")
    between_slope: float = option(5.0, "m of pairs of two classes")
    between_offset: float = option(4.0, "c of pairs of two classes")

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the contrastive loss, and the cross-entropy of the linear classifier."""
        batch = batch.inliers()
        features = net.features(batch.images)
        within, between = (
            (self.within_slope, self.within_offset),
            (self.between_slope, self.between_offset),
        )
        embedding, labels = self.pairs(net, features, batch.labels)
        contrast = reweighted_pairs(embedding, labels, self.temperature, within, between)
        named = self.classification(net, batch, features)
        return {"loss": contrast + named, "contrast": contrast, "classification": named}
