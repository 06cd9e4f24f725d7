"""VGG-16 for small images: batch normalisation and one linear layer."""

from __future__ import annotations

__all__ = ["Vgg16"]

import torch
from torch import nn

from featood.nets.initialise import he_normal_

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(nn.Module):
    """Thirteen 3x3 convolutions in five stages; the penultimate feature has 512 dimensions.

    Parameters
    ----------
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which are at least 32 pixels high and wide.

    References
    ----------
    Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015; batch normalisation and the single
    linear layer are the usual adaptation to CIFAR.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for stage in _STAGES:
            for channels in stage:
                conv = nn.Conv2d(previous, channels, 3, padding=1)
                layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
                previous = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, num_classes)
        he_normal_(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
