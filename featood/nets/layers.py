"""Layers that several networks share."""

from __future__ import annotations

__all__ = ["NORMS", "PoolShortcut", "SumPool", "activation", "normalisation"]

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MOD_SLOPE = 0.01
GROUPS = 32

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "group": lambda channels: nn.GroupNorm(min(GROUPS, channels), channels),
    "none": lambda channels: nn.Identity(),
}


def normalisation(kind: str, channels: int, momentum: float = 0.1) -> nn.Module:
    """Return the normalisation of a kind, a key of :data:`NORMS`, for ``[B, channels, H, W]``."""
    return nn.BatchNorm2d(channels, momentum=momentum) if kind == "batch" else NORMS[kind](channels)


def activation(slope: float) -> nn.Module:
    """Return the rectifier with a slope for negative values."""
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


class PoolShortcut(nn.Module):
    """Shortcut without parameters: average pooling, and zeros as further channels.

    Where the stride does not divide height and width, it subsamples instead of pooling.

    References
    ----------
    Mukhoti et al., Deep Deterministic Uncertainty, CVPR 2023.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, out_channels - in_channels

    def forward(
        self, x: Float[Tensor, "B C_in H W"]
    ) -> Float[Tensor, "B C_in+{self.more} -(-H//{self.stride}) -(-W//{self.stride})"]:
        """Map ``[B, C_in, H, W]`` to ``[B, C_out, ceil(H / stride), ceil(W / stride)]``."""
        divides = x.shape[2] % self.stride == x.shape[3] % self.stride == 0
        x = F.avg_pool2d(x, self.stride if divides else 1, self.stride)
        return F.pad(x, (0, 0, 0, 0, 0, self.more))


class SumPool(nn.Module):
    """Sum over height and width."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 1 1"]:
        """Map ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""
        return x.sum((2, 3), keepdim=True)
