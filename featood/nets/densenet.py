"""Densely connected networks with bottlenecks and compression, DenseNet-BC."""

from __future__ import annotations

__all__ = ["DenseNet", "DenseNetOptions"]

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_
from featood.nets.options import NetOptions
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseNetOptions(NetOptions):
    """Options of DenseNet-BC."""

    name: ClassVar[str] = "densenet"
    dropout: float = option(
        0.0, "probability of dropout after each convolution but the first", low=0, high=0.99
    )


class _Layer(nn.Module):
    """Appends ``growth`` channels, computed through a 1x1 bottleneck with four times as many."""

    def __init__(self, in_channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.dropout1 = nn.Dropout(dropout)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out H W"]:
        out = self.dropout1(self.conv1(self.relu1(self.bn1(x))))
        out = self.dropout2(self.conv2(self.relu2(self.bn2(out))))
        return torch.cat([x, out], dim=1)


class _Block(nn.Module):
    def __init__(self, in_channels: int, growth: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(_Layer(in_channels + i * growth, growth, dropout) for i in range(layers))
        )

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out H W"]:
        return self.layer(x)


class _Transition(nn.Module):
    """Compresses the channels and halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.avgpool = nn.AvgPool2d(2)

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out H//2 W//2"]:
        return self.avgpool(self.dropout(self.conv1(self.relu(self.bn1(x)))))


class DenseNet(nn.Module):
    """Three dense blocks with compression by half between them; the feature of DenseNet-100-12 has 342 dimensions.

    Parameters
    ----------
    depth
        ``6n + 4``, with ``n`` layers (two convolutions each) per block.
    growth
        Channels added by each layer.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images.
    options
        See :class:`DenseNetOptions`.

    References
    ----------
    Huang et al., Densely Connected Convolutional Networks, CVPR 2017.
    """

    Options = DenseNetOptions

    def __init__(
        self,
        depth: int,
        growth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        options: DenseNetOptions = DenseNetOptions(),
    ) -> None:
        if depth < 10 or depth % 6 != 4 or growth < 1:
            raise UsageError(
                "densenet-D-G needs a depth of 6n + 4 and a growth of at least 1, such as densenet-100-12, "
                f"not densenet-{depth}-{growth}"
            )
        super().__init__()
        layers, dropout = (depth - 4) // 6, options.dropout
        width1 = 2 * growth + layers * growth
        width2 = width1 // 2 + layers * growth
        width3 = width2 // 2 + layers * growth
        self.conv1 = nn.Conv2d(in_channels, 2 * growth, 3, padding=1, bias=False)
        self.block1 = _Block(2 * growth, growth, layers, dropout)
        self.trans1 = _Transition(width1, width1 // 2, dropout)
        self.block2 = _Block(width1 // 2, growth, layers, dropout)
        self.trans2 = _Transition(width2, width2 // 2, dropout)
        self.block3 = _Block(width2 // 2, growth, layers, dropout)
        self.bn1 = nn.BatchNorm2d(width3)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width3, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        x = self.trans1(self.block1(self.conv1(x)))
        x = self.trans2(self.block2(x))
        x = self.relu(self.bn1(self.block3(x)))
        return self.fc(self.avgpool(x).flatten(1))
