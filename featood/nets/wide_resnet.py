"""Wide residual networks, WRN-D-K."""

from __future__ import annotations

__all__ = ["WideResNet"]

from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_


class _Block(nn.Module):
    """Pre-activation block; if the number of channels changes, the shortcut starts after the first activation."""

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # name of the parameter in published checkpoints
        self.convShortcut = None
        if stride != 1 or in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        active = self.relu1(self.bn1(x))
        out = self.relu2(self.bn2(self.conv1(active)))
        out = self.conv2(self.dropout(out))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class _Stage(nn.Module):
    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int, dropout: float) -> None:
        super().__init__()
        first = _Block(in_channels, channels, stride, dropout)
        rest = (_Block(channels, channels, 1, dropout) for _ in range(blocks - 1))
        self.layer = nn.Sequential(first, *rest)

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        return self.layer(x)


class WideResNet(nn.Module):
    """Three stages of 16K, 32K and 64K channels; the penultimate feature has 64K dimensions.

    Parameters
    ----------
    depth
        ``6n + 4``, with ``n`` blocks per stage.
    width
        Widening factor K.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images.
    dropout
        Dropout probability between the two convolutions of a block.

    References
    ----------
    Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016.
    """

    def __init__(
        self, depth: int, width: int, num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0
    ) -> None:
        if depth < 10 or depth % 6 != 4 or width < 1:
            raise UsageError(
                "wrn-D-K needs a depth of 6n + 4 and a width of at least 1, such as wrn-40-2, "
                f"not wrn-{depth}-{width}"
            )
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = _Stage(16, 16 * width, blocks, 1, dropout)
        self.block2 = _Stage(16 * width, 32 * width, blocks, 2, dropout)
        self.block3 = _Stage(32 * width, 64 * width, blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.relu(self.bn1(x))
        return self.fc(self.avgpool(x).flatten(1))
