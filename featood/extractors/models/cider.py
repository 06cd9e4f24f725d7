"""Networks whose embeddings are near a prototype of their class, with prototypes far from each other."""

from __future__ import annotations

__all__ = ["CIDER"]

from featood.extractors.models.model import ImageBatch
from featood.extractors.models.network import SplitNet
from featood.extractors.models.prototypes import PrototypeModel
from featood.extractors.models.registry import register
from featood.options import option
from featood.training.loop import Losses


@register(
    "cider",
    title="CIDER",
    paper="Ming et al., How to Exploit Hyperspherical Embeddings for Out-of-Distribution Detection?, ICLR",
    year=2023,
    url="https://arxiv.org/abs/2203.04450",
)
class CIDER(PrototypeModel):
    """Minimise the dispersion of the prototypes p plus a multiple of the compactness of embeddings z.

    The dispersion is the mean of ``log mean_{k != c} exp(p_c p_k / t)``, the compactness the cross-entropy of
    ``z p_c / t``, times ``t / 0.07``. Both terms, the order of the updates and the defaults are those of OpenOOD, which
    has the authors' implementation. z are embeddings of two views of each image: use an augmentation
    (``--augment crop,flip``). Score the features with ``knn``. A linear classifier is trained at the same time, on
    features without a gradient.
    """

    weight: float = option(2.0, "weight of the compactness", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, compactness, dispersion, and the cross-entropy of the linear classifier."""
        batch = batch.inliers()
        features = net.features(batch.images)
        compactness, dispersion = self.prototype_losses(net, features, batch.labels)
        named = self.classification(net, batch, features)
        loss = self.weight * compactness + dispersion + named
        return {"loss": loss, "compactness": compactness, "dispersion": dispersion, "classification": named}
