"""VGGM, the VGG of VMDLS with two hidden linear layers."""

from __future__ import annotations

__all__ = ["VggM"]

from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.initialise import he_normal_

_STAGES = ((64, 128), (256, 256), (256, 256, 256, 256))


class VggM(nn.Module):
    """Eight 3x3 convolutions in three stages, and two linear layers; the penultimate feature has 1,024 dimensions.

    The authors put a latent layer in the place of the last one, ``fc``.

    Parameters
    ----------
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which have 32 by 32 pixels.

    References
    ----------
    https://github.com/BGU-CS-VIL/vmdls
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for widths in _STAGES:
            for channels in widths:
                layers += [nn.Conv2d(previous, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                previous = channels
            layers.append(nn.MaxPool2d(2))
        layers += [
            nn.Flatten(),
            nn.Linear(previous * 4 * 4, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1024),
            nn.ReLU(),
        ]
        self.encoder = nn.Sequential(*layers)
        self.fc = nn.Linear(1024, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C 32 32"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, 32, 32]`` to logits ``[B, K]``."""
        return self.fc(self.encoder(x))
