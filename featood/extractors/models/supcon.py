"""Networks trained by supervised contrastive learning."""

from __future__ import annotations

__all__ = ["SupCon"]

from featood.extractors.models.model import ImageBatch
from featood.extractors.models.network import SplitNet
from featood.extractors.models.projection import ProjectionModel
from featood.extractors.models.registry import register
from featood.losses import supervised_contrastive
from featood.options import option
from featood.training.loop import Losses


@register(
    "supcon",
    title="Supervised contrastive learning",
    paper="Khosla et al., Supervised Contrastive Learning, NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2004.11362",
)
class SupCon(ProjectionModel):
    """Minimise ``-log exp(z_i z_p / t) / sum_{k != i} exp(z_i z_k / t)`` over pairs i, p of the same class.

    z are embeddings of unit length of two views of each image: use an augmentation (``--augment crop,flip``), without
    which the views are equal. Score the features with ``knn`` or ``ssd``. A linear classifier is trained at the same
    time, on features without a gradient.
    """

    temperature: float = option(0.1, "t", low=1e-4)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the contrastive loss, and the cross-entropy of the linear classifier."""
        batch = batch.inliers()
        features = net.features(batch.images)
        contrast = supervised_contrastive(*self.pairs(net, features, batch.labels), self.temperature)
        named = self.classification(net, batch, features)
        return {"loss": contrast + named, "contrast": contrast, "classification": named}
