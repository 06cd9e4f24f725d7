"""Networks with a variational latent space in which classes keep a growing distance from each other."""

from __future__ import annotations

__all__ = ["VMDLS"]

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from featood.extractors.models.centers import classify_by_distance
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import LatentMargins, LatentSpace, distances
from featood.training.gathering import gathered, of_first
from featood.training.loop import Losses


@register(
    "vmdls",
    title="Variational and metric-based deep latent space",
    paper="Dinari and Freifeld, Variational- and Metric-based Deep Latent Space for Out-of-Distribution Detection, UAI",
    year=2022,
    url="https://github.com/BGU-CS-VIL/vmdls",
)
class VMDLS(LatentMargins, Model):
    """Minimise a triplet loss with a growing margin, and the divergence of latents from a narrow ball of their class.

    Linear layers of the features give mean mu and log-variance of the latents z. Over all triplets of an anchor, an
    image of its class and one of another, ``max(d_ap - d_an + slack, 0) + max(margin - d_an, 0)`` is averaged where it
    is not 0, with the Euclidean distances d of sampled latents. The second term is the mean of
    ``log N(z; mu, sigma^2) - log N(z; m_c, 0.1^2)``, where m_c is the mean of the class in the previous epoch, at first
    0. Balanced batches (``--batch-classes 10 --batch-size 160``) have many triplets. An image belongs to the class with
    the nearest mean, and the last layer is set so that the softmax of the logits equals that of the negated squared
    distances.

    The column ``mu.avg`` has mu: tap the stages of the network, and score with ``vmdls --latent-feature mu.avg``.

    Differences from the published code: `margin_max_distance` is not exceeded, and latents are compared as they are,
    not scaled to unit length (`normalize_embeddings`), by which margins above 2 act as a constant push.
    """

    shown: ClassVar[tuple[str, ...]] = ("mu",)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the latent space."""
        return {"mu": LatentSpace(nn.Linear(setup.width, 2 * self.latent), self.latent, setup.classes)}

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return whether another class mean is nearer than that of the class ``[B]``."""
        space = _space(net)
        latents = space(net.features(batch.images)).to(space.centers.dtype)
        return (distances(latents, space.centers).argmin(1) != batch.labels).float()

    def finish(self, net: SplitNet) -> None:
        """Set the last layer."""
        space = _space(net)
        assert isinstance(space.encoder, nn.Linear)
        weight, bias = space.encoder.weight[: self.latent], space.encoder.bias[: self.latent]
        classify_by_distance(net.last, space.centers, weight, bias)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the triplet term and the divergence."""
        batch, space = batch.inliers(), _space(net)
        # distances and densities need more than the half precision of autocast
        means, log_variances = (
            gathered(part.to(space.centers.dtype)) for part in space.posterior(net.features(batch.images))
        )
        labels = gathered(batch.labels)
        noise = of_first(self.draw_noise(len(means), batch.generator).to(means))
        margin, weight = self.margin(batch.epoch), self.divergence_weight(batch.epoch)
        found, latents = self.latent_losses(
            (means, log_variances), noise, space.centers, labels, margin, weight
        )
        space.follow(latents, labels, batch.ends_epoch)
        return found


def _space(net: SplitNet) -> LatentSpace:
    space = net.parts["mu"]
    assert isinstance(space, LatentSpace)
    return space
