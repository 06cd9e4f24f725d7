"""Wide residual networks, WRN-D-K."""

from __future__ import annotations

__all__ = ["WideResNet", "WideResNetOptions"]

import dataclasses
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from featood.errors import UsageError
from featood.nets.initialise import he_normal_
from featood.nets.layers import MOD_SLOPE, NORMS, PoolShortcut, SumPool, activation, normalisation
from featood.nets.mlp import NegativeLinear
from featood.nets.options import NetOptions
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class WideResNetOptions(NetOptions):
    """Options of wide residual networks."""

    name: ClassVar[str] = "wrn"
    dropout: float = option(
        0.0, "probability of dropout between the convolutions of a block", low=0, high=0.99
    )
    norm: str = option("batch", "normalisation; group has 32 groups, or one per channel if there are fewer channels",
                       choices=tuple(NORMS))  # fmt: skip
    norm_momentum: float = option(0.1, "momentum of batch normalisation", low=0, high=1)
    slope: float = option(
        0.0, "slope of the activation for negative values (0: ReLU, or 0.01 with mod)", low=0, high=1
    )
    mod: bool = option(
        False,
        "LeakyReLU with slope 0.01, and shortcuts by average pooling and zeros in place of 1x1 convolutions",
    )
    bias: bool = option(False, "biases of the convolutions")
    strides: tuple[int, ...] = option((1, 2, 2), "strides of the three stages")
    late_stride: bool = option(False, "stride in the second convolution of a block")
    shortcut: str = option(
        "projection",
        "shortcuts that start after the first activation of a block, not before it: 1x1 convolutions, all or none",
        choices=("projection", "all", "none"),
    )
    first_norm: bool = option(True, "whether the first block begins with a normalisation")
    bottleneck_channels_factor: float = option(
        0.0,
        "a stage ends in 1x1 convolutions to this share of its channels and back (0: no bottleneck)",
        low=0,
        high=1,
    )
    bottleneck_dim: int = option(
        0, "units of the middle layer of an autoencoder of the feature (0: no autoencoder)", low=0
    )
    sum_pool: bool = option(False, "sum over the last map in place of the mean")
    negative_linear: bool = option(
        False, "last layer with negative weights after a ReLU, so logits fall without bound far from the data"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.strides) != 3 or min(self.strides) < 1:
            raise UsageError(
                f"{self.name}: strides are three numbers of at least 1, such as 1,2,2, not {self.strides}"
            )
        if self.negative_linear and self.bottleneck_dim:
            raise UsageError(
                f"{self.name}: negative_linear needs features of at least 0, so no bottleneck_dim"
            )

    @property
    def leak(self) -> float:
        """Slope of the activation for negative values."""
        return self.slope or (MOD_SLOPE if self.mod else 0.0)

    def normalise(self, channels: int) -> nn.Module:
        """Return a normalisation layer."""
        return normalisation(self.norm, channels, self.norm_momentum)


class _Block(nn.Module):
    """Pre-activation block."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, options: WideResNetOptions, first: bool = False
    ) -> None:
        super().__init__()
        before, after = (1, stride) if options.late_stride else (stride, 1)
        self.bn1 = nn.Identity() if first and not options.first_norm else options.normalise(in_channels)
        self.relu1 = activation(options.leak)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, before, padding=1, bias=options.bias)
        self.bn2 = options.normalise(channels)
        self.relu2 = activation(options.leak)
        self.dropout = nn.Dropout(options.dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, after, padding=1, bias=options.bias)
        # name of the parameter in published checkpoints
        self.convShortcut: nn.Module | None = None
        self.after = options.shortcut == "all"
        if stride != 1 or in_channels != channels:
            if options.mod:
                self.convShortcut = PoolShortcut(in_channels, channels, stride)
            else:
                self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=options.bias)
                self.after = options.shortcut != "none"

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        active = self.relu1(self.bn1(x))
        out = self.relu2(self.bn2(self.conv1(active)))
        out = self.conv2(self.dropout(out))
        shortcut = active if self.after else x
        return out + (shortcut if self.convShortcut is None else self.convShortcut(shortcut))


class _Stage(nn.Module):
    def __init__(
        self, in_channels: int, channels: int, blocks: int, stride: int, options: WideResNetOptions,
        first: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        head = _Block(in_channels, channels, stride, options, first)
        rest = (_Block(channels, channels, 1, options) for _ in range(blocks - 1))
        self.layer = nn.Sequential(head, *rest)
        if options.bottleneck_channels_factor:
            few = max(1, int(channels * options.bottleneck_channels_factor))
            self.layer.extend([nn.Conv2d(channels, few, 1), nn.Conv2d(few, channels, 1)])

    def forward(self, x: Float[Tensor, "B C_in H W"]) -> Float[Tensor, "B C_out _ _"]:
        return self.layer(x)


def _autoencoder(size: int, middle: int) -> nn.Sequential:
    widths = [size, size // 2, middle, size // 2, size]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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
    options
        See :class:`WideResNetOptions`.

    References
    ----------
    Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016. `mod`, ``shortcut="none"`` and the momentum 0.01 are of
    Mukhoti et al., Deep Deterministic Uncertainty, CVPR 2023; the other options, except `dropout`, of
    https://github.com/selflein/MA-EBM.
    """

    Options = WideResNetOptions

    def __init__(
        self,
        depth: int,
        width: int,
        num_classes: int = 10,
        in_channels: int = 3,
        options: WideResNetOptions = WideResNetOptions(),
    ) -> None:
        if depth < 10 or depth % 6 != 4 or width < 1:
            raise UsageError(
                "wrn-D-K needs a depth of 6n + 4 and a width of at least 1, such as wrn-40-2, "
                f"not wrn-{depth}-{width}"
            )
        super().__init__()
        blocks = (depth - 4) // 6
        strides, size = options.strides, 64 * width
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=options.bias)
        self.block1 = _Stage(16, 16 * width, blocks, strides[0], options, first=True)
        self.block2 = _Stage(16 * width, 32 * width, blocks, strides[1], options)
        self.block3 = _Stage(32 * width, size, blocks, strides[2], options)
        self.bn1 = options.normalise(size)
        self.relu = nn.ReLU() if options.negative_linear else activation(options.leak)
        self.avgpool = SumPool() if options.sum_pool else nn.AdaptiveAvgPool2d(1)
        self.bottleneck = _autoencoder(size, options.bottleneck_dim) if options.bottleneck_dim else None
        self.fc = (NegativeLinear if options.negative_linear else nn.Linear)(size, num_classes)
        he_normal_(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.avgpool(self.relu(self.bn1(x))).flatten(1)
        return self.fc(x if self.bottleneck is None else self.bottleneck(x))
