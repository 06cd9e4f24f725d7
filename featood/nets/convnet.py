"""Small convolutional network of the outlier-exposure experiments on MNIST."""

from __future__ import annotations

__all__ = ["MnistConvNet", "SigmoidGelu"]

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SigmoidGelu(nn.Module):
    """The sigmoid approximation of GELU, ``x * sigmoid(1.702 x)`` (Hendrycks and Gimpel, 2016)."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply the activation elementwise."""
        return x * torch.sigmoid(1.702 * x)


class MnistConvNet(nn.Module):
    """Two convolutions and two linear layers; the penultimate feature has 50 dimensions.

    Parameters
    ----------
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which have 28 by 28 pixels with values in [0, 1].

    References
    ----------
    Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 10, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.act1 = SigmoidGelu()
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.act2 = SigmoidGelu()
        self.fc1 = nn.Linear(20 * 4 * 4, 50)
        self.act3 = SigmoidGelu()
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Float[Tensor, "B C 28 28"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, 28, 28]`` to logits ``[B, K]``."""
        x = self.act1(self.pool1(self.conv1(x)))
        x = self.act2(self.pool2(self.conv2(x)))
        return self.fc2(self.act3(self.fc1(x.flatten(1))))
