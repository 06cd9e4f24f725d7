"""Residual networks for CIFAR with few channels: ResNet-20, 32, 44, 56, 110 and 1202."""

from __future__ import annotations

__all__ = ["CifarResNet", "CifarResNetOptions", "PadShortcut"]

import dataclasses
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_
from featood.nets.options import NetOptions
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class CifarResNetOptions(NetOptions):
    """Options of residual networks for CIFAR with few channels."""

    name: ClassVar[str] = "cifar-resnet"
    shortcut: str = option(
        "pad",
        "shortcuts between stages: subsampling and zeros (option A), or 1x1 convolutions with normalisation (option B)",
        choices=("pad", "projection"),
    )


class PadShortcut(nn.Module):
    """Shortcut without parameters ("option A"), which subsamples and pads the channels with zeros on both sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(
        self, x: Float[Tensor, "B C_in H W"]
    ) -> Float[Tensor, "B C_out -(-H//{self.stride}) -(-W//{self.stride})"]:
        """Map ``[B, C_in, H, W]`` to ``[B, C_out, ceil(H / stride), ceil(W / stride)]``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = (
                nn.Sequential(
                    nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )
                if projection
                else PadShortcut(in_channels, channels, stride)
            )

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


def _stage(in_channels: int, channels: int, blocks: int, stride: int, projection: bool) -> nn.Sequential:
    first = _Block(in_channels, channels, stride, projection)
    return nn.Sequential(first, *(_Block(channels, channels, 1, projection) for _ in range(blocks - 1)))


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels; the penultimate feature has 64 dimensions.

    Parameters
    ----------
    depth
        ``6n + 2``, with ``n`` blocks per stage.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images.
    options
        See :class:`CifarResNetOptions`.

    References
    ----------
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
    """

    Options = CifarResNetOptions

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        options: CifarResNetOptions = CifarResNetOptions(),
    ) -> None:
        if depth < 8 or depth % 6 != 2:
            raise UsageError(
                "cifar-resnetD needs a depth of 6n + 2, such as cifar-resnet20 or cifar-resnet110, or of 18, 34 or 50 "
                f"for the wide networks, got {depth}"
            )
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        projection = options.shortcut == "projection"
        self.layer1 = _stage(16, 16, blocks, 1, projection)
        self.layer2 = _stage(16, 32, blocks, 2, projection)
        self.layer3 = _stage(32, 64, blocks, 2, projection)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.avgpool(x).flatten(1))
