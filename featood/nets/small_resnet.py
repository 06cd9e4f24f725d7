"""ResNet-18, 34 and 50 for small images: with a 3x3 stem of stride 1 and without max-pooling."""

from __future__ import annotations

__all__ = ["SmallResNet", "SmallResNetOptions"]

import dataclasses
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_
from featood.nets.layers import MOD_SLOPE, PoolShortcut, activation
from featood.nets.options import NetOptions
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallResNetOptions(NetOptions):
    """Options of ResNet-18, 34 and 50 for small images."""

    name: ClassVar[str] = "cifar-resnet"
    mod: bool = option(
        False,
        "LeakyReLU with slope 0.01, and shortcuts by average pooling and zeros in place of 1x1 convolutions",
    )


class _Basic(nn.Module):
    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, downsample: nn.Module | None, slope: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = activation(slope)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = activation(slope)
        self.downsample = downsample

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, downsample: nn.Module | None, slope: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = activation(slope)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = activation(slope)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu3 = activation(slope)
        self.downsample = downsample

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(out + (x if self.downsample is None else self.downsample(x)))


_LAYOUTS: dict[int, tuple[type[_Basic] | type[_Bottleneck], tuple[int, int, int, int]]] = {
    18: (_Basic, (2, 2, 2, 2)),
    34: (_Basic, (3, 4, 6, 3)),
    50: (_Bottleneck, (3, 4, 6, 3)),
}


def _stage(
    block: type[_Basic] | type[_Bottleneck], in_channels: int, width: int, blocks: int, stride: int, mod: bool
) -> nn.Sequential:
    channels = width * block.expansion
    downsample: nn.Module | None = None
    if stride != 1 or in_channels != channels:
        if mod:
            downsample = PoolShortcut(in_channels, channels, stride)
        else:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))
    slope = MOD_SLOPE if mod else 0.0
    first = block(in_channels, width, stride, downsample, slope)
    return nn.Sequential(first, *(block(channels, width, 1, None, slope) for _ in range(blocks - 1)))


class SmallResNet(nn.Module):
    """Four stages with projection shortcuts; the penultimate feature has 512 dimensions, or 2048 at depth 50.

    Parameters have the names of torchvision and timm; only the shape of the stem's kernel differs.

    Parameters
    ----------
    depth
        18, 34 or 50.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images.
    options
        See :class:`SmallResNetOptions`.

    References
    ----------
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016; `mod` is of Mukhoti et al., Deep
    Deterministic Uncertainty, CVPR 2023.
    """

    Options = SmallResNetOptions

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        options: SmallResNetOptions = SmallResNetOptions(),
    ) -> None:
        if depth not in _LAYOUTS:
            raise UsageError(f"a ResNet for small images has depth 18, 34 or 50, not {depth}")
        super().__init__()
        block, blocks = _LAYOUTS[depth]
        e = block.expansion
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = activation(MOD_SLOPE if options.mod else 0.0)
        self.layer1 = _stage(block, 64, 64, blocks[0], stride=1, mod=options.mod)
        self.layer2 = _stage(block, 64 * e, 128, blocks[1], stride=2, mod=options.mod)
        self.layer3 = _stage(block, 128 * e, 256, blocks[2], stride=2, mod=options.mod)
        self.layer4 = _stage(block, 256 * e, 512, blocks[3], stride=2, mod=options.mod)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * e, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))
