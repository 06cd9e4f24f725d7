"""Networks that map all images near one point, and outliers away from it."""

from __future__ import annotations

__all__ = ["DeepSAD"]

from featood.extractors.models.deep_svdd import OneCenterModel
from featood.extractors.models.model import ImageBatch
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import deep_sad
from featood.options import option
from featood.training.loop import Losses


@register(
    "deep-sad",
    title="Deep SAD",
    paper="Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR",
    year=2020,
    url="https://arxiv.org/abs/1906.02694",
    needs=("outliers",),
)
class DeepSAD(OneCenterModel):
    """Minimise the mean of ``|z - c|^2`` over images plus a multiple of the mean of its inverse over outliers.

    z embeds an image and c is a fixed centre; labels are not used. Score it with ``column``. The authors initialise the
    network as an autoencoder, which is left out.
    """

    weight: float = option(1.0, "weight of the outliers", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss."""
        part = self.centers_of(net)
        embedding = part.embed(net.features(batch.images))
        return {"loss": deep_sad(embedding, part.centers[0], batch.labels, self.weight)}
