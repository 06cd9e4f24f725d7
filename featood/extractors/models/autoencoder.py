"""Autoencoders of images."""

from __future__ import annotations

__all__ = ["Autoencoder"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.between import between
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
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

    The network's last layer computes a code, which a decoder maps to an image; labels are not used. With ``extract
    --autoencoder FOLDER``, another network's features of the reconstructions are cached, by which ``vmdls`` weights its
    scores.
    """

    classifies: ClassVar[bool] = False
    encodes: ClassVar[bool] = True
    latent: int = option(32, "size of the code", low=1)
    decoder: str = option("conv", "network from codes to images", choices=tuple(DECODERS))

    def outputs(self, classes: int) -> int:
        """Return the size of the code."""
        return self.latent

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the decoder."""
        return {"decoder": DECODERS[self.decoder](self.latent, setup.shape)}

    @staticmethod
    def reconstruct(net: SplitNet, images: Tensor) -> Tensor:
        """Return the reconstructions of images ``[B, C, H, W]``."""
        return net.parts["decoder"](net(images)).to(images.dtype)

    def pictures(self, net: SplitNet, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the images of codes between those of the images."""
        return {"interpolations": net.parts["decoder"](between(net(images)))}

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the mean squared differences ``[B]``."""
        return (self.reconstruct(net, batch.images) - batch.images).square().mean((1, 2, 3))

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the mean squared difference."""
        return {"loss": self.errors(net, batch).mean()}
