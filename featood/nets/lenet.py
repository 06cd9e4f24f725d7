"""LeNet-5 with ReLUs and max-pooling, for 28x28 digits."""

from __future__ import annotations

__all__ = ["LeNet", "LeNetOptions"]

import dataclasses
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.options import NetOptions
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNetOptions(NetOptions):
    """Options of LeNet-5."""

    name: ClassVar[str] = "lenet"
    padding: int = option(2, "zeros around the images; 2 as published, 0 in the code of DDU", low=0, high=2)


class LeNet(nn.Module):
    """Two convolutions and three linear layers; the penultimate feature has 84 dimensions.

    Parameters
    ----------
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, which have 28 by 28 pixels.
    options
        See :class:`LeNetOptions`.

    References
    ----------
    LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998.
    """

    Options = LeNetOptions

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        options: LeNetOptions = LeNetOptions(),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=options.padding)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        side = ((24 + 2 * options.padding) // 2 - 4) // 2
        self.fc1 = nn.Linear(16 * side * side, 120)
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
