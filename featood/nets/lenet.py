"""LeNet-5 with ReLUs and max-pooling, for 28x28 digits."""

from __future__ import annotations

__all__ = ["LeNet"]

from jaxtyping import Float
from torch import Tensor, nn


class LeNet(nn.Module):
    """Two convolutions and three linear layers; the penultimate feature has 84 dimensions.

    Parameters
    ----------
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which have 28 by 28 pixels.

    References
    ----------
    LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Float[Tensor, "B C 28 28"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, 28, 28]`` to logits ``[B, K]``."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(x.flatten(1)))
        return self.fc3(self.relu4(self.fc2(x)))
