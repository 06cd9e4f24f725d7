"""Autoencoders of images."""

from __future__ import annotations

__all__ = ["Autoencoder"]

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.autoencoding import ImageAutoencoder
from featood.extractors.models.between import between
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import TrainableNet, outputs_for
from featood.extractors.models.registry import register
from featood.nets.decoders import DECODERS
from featood.options import option
from featood.training.loop import Losses


@register(
    "autoencoder",
    title="Autoencoder",
    paper="Hawkins et al., Outlier Detection Using Replicator Neural Networks, DaWaK",
    year=2002,
    url="https://doi.org/10.1007/3-540-46145-0_17",
    needs=(),
)
class Autoencoder(Model):
    """Minimise the mean squared difference of images and their reconstructions, in normalised pixels.

    The network's last layer computes a code, the main column, which a decoder maps to an image; labels are not used.
    The column ``reconstruction-error`` has the difference: score it with ``likelihood``. With ``extract --autoencoder
    FOLDER``, another network's features of the reconstructions are cached, by which ``vmdls`` weights its scores.
    """

    classifies: ClassVar[bool] = False
    density_column: ClassVar[str] = "reconstruction-error"
    latent: int = option(32, "size of the code", low=1)
    decoder: str = option("conv", "network from codes to images", choices=tuple(DECODERS))

    def outputs(self, classes: int) -> int:
        """Return the size of the code."""
        return self.latent

    def around(self, net: nn.Module, setup: Setup) -> nn.Module:
        """Return encoder and decoder as one network.

        Raises
        ------
        UsageError
            If encoder or decoder is impossible for images of this shape.
        """
        outputs_for(net.eval(), torch.zeros(2, *setup.shape))
        return ImageAutoencoder(net.train(), DECODERS[self.decoder](self.latent, setup.shape))

    @staticmethod
    def reconstruct(net: Any, images: Tensor) -> Tensor:
        """Return the reconstructions of images ``[B, C, H, W]``."""
        return net.body.reconstruct(images)

    def pictures(self, net: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the images of codes between those of the images."""
        return {"interpolations": net.body.decoder(between(net.body.encode(images)))}

    def errors(self, net: TrainableNet, batch: ImageBatch) -> Tensor:
        """Return the mean squared differences ``[B]``."""
        return -net(batch.images)[:, 0]

    def losses(self, net: TrainableNet, batch: ImageBatch) -> Losses:
        """Return the mean squared difference."""
        return {"loss": self.errors(net, batch).mean()}
