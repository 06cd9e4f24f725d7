"""The convolutional network of VMDLS for digits."""

from __future__ import annotations

__all__ = ["MnistConv"]

from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.initialise import he_normal_

_WIDTH = 100
_STAGES = (2, 2, 1)


class MnistConv(nn.Module):
    """Five 3x3 convolutions of 100 channels in three stages; the penultimate feature has 500 dimensions.

    No activation follows the linear layer that computes the feature. The authors put a latent layer in the place of the
    last one, ``fc``.

    Parameters
    ----------
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which have 28 by 28 pixels.

    References
    ----------
    https://github.com/BGU-CS-VIL/vmdls
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for convolutions in _STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(previous, _WIDTH, 3, padding=1), nn.ReLU()]
                previous = _WIDTH
            layers.append(nn.MaxPool2d(2))
        self.encoder = nn.Sequential(*layers)
        # name of the parameter in the authors' checkpoints
        self.dec_layer = nn.Linear(_WIDTH * 3 * 3, 500)
        self.fc = nn.Linear(500, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C 28 28"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, 28, 28]`` to logits ``[B, K]``."""
        return self.fc(self.dec_layer(self.encoder(x).flatten(1)))
