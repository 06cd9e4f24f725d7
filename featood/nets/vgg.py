"""VGG for small images, with batch normalisation and one linear layer."""

from __future__ import annotations

__all__ = ["Vgg", "VggOptions"]

import dataclasses
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_
from featood.nets.layers import MOD_SLOPE, activation
from featood.nets.options import NetOptions
from featood.options import option

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class VggOptions(NetOptions):
    """Options of VGG for small images."""

    name: ClassVar[str] = "cifar-vgg"
    mod: bool = option(False, "LeakyReLU with slope 0.01")
    bias: bool = option(True, "biases of the convolutions, which batch normalisation cancels")


class Vgg(nn.Module):
    """3x3 convolutions in five stages; the penultimate feature has 512 dimensions.

    Parameters
    ----------
    depth
        11, 13, 16 or 19: the number of convolutions plus the three linear layers of the published networks.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which must have at least 32 by 32 pixels.
    options
        See :class:`VggOptions`; DDU's VGG-16 has ``mod=True`` and ``bias=False``.

    References
    ----------
    Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015; batch normalisation and the single
    linear layer are the usual adaptation for CIFAR.
    """

    Options = VggOptions

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        options: VggOptions = VggOptions(),
    ) -> None:
        if depth not in _CONVOLUTIONS:
            raise UsageError(f"cifar-vggD needs a depth of 11, 13, 16 or 19, not {depth}")
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for channels, convolutions in zip(_WIDTHS, _CONVOLUTIONS[depth], strict=True):
            for _ in range(convolutions):
                conv = nn.Conv2d(previous, channels, 3, padding=1, bias=options.bias)
                layers += [conv, nn.BatchNorm2d(channels), activation(MOD_SLOPE if options.mod else 0.0)]
                previous = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
