"""An autoencoder of images, whose output is its negated reconstruction error."""

from __future__ import annotations

__all__ = ["ImageAutoencoder"]

import torch
from torch import Tensor, nn


class ImageAutoencoder(nn.Module):
    """A network from images to the negated mean squared differences from their reconstructions ``[B, 1]``.

    Parameters
    ----------
    encoder : Module
        From images ``[B, C, H, W]`` to codes ``[B, D]``.
    decoder : Module
        From codes to images.
    """

    feature_layer = "code"

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.code = nn.Identity()  # a module, so that it can be tapped

    def encode(self, images: Tensor) -> Tensor:
        """Return codes ``[B, D]``."""
        return self.code(self.encoder(images))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the reconstructions of images, in their number format."""
        return self.decoder(self.encode(images)).to(images.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to negated errors ``[B, 1]``, in float32 or better."""
        wide = torch.promote_types(images.dtype, torch.float32)
        differences = self.reconstruct(images).to(wide) - images.to(wide)
        return -differences.square().flatten(1).mean(1, keepdim=True)
