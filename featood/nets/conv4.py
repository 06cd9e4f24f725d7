"""A small network without normalisation, for energies of small images."""

from __future__ import annotations

__all__ = ["Conv4", "Conv4Options"]

import dataclasses
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from featood.nets.mlp import ACTIVATIONS
from featood.nets.options import NetOptions
from featood.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv4Options(NetOptions):
    """Options of this network."""

    name: ClassVar[str] = "conv4"
    activation: str = option(
        "silu", "activation; score matching needs a smooth one", choices=tuple(ACTIVATIONS)
    )


class Conv4(nn.Module):
    """Four convolutions with strides of 2 and two linear layers; the penultimate feature has 2K dimensions.

    The convolutions have K/2, K, 2K and 2K channels. There is no normalisation, so the logits of an image do not depend
    on others, and are smooth, as sampling and score matching need.

    Parameters
    ----------
    width
        K.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images, of any size from 16 pixels.
    options
        See :class:`Conv4Options`.
    """

    Options = Conv4Options

    def __init__(
        self, width: int, num_classes: int = 10, in_channels: int = 3, options: Conv4Options = Conv4Options()
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[options.activation]
        few, many = max(1, width // 2), 2 * width
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, few, 5, 2, padding=2), act(),
            nn.Conv2d(few, width, 3, 2, padding=1), act(),
            nn.Conv2d(width, many, 3, 2, padding=1), act(),
            nn.Conv2d(many, many, 3, 2, padding=1), act(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * many, many), act(),
        )  # fmt: skip
        self.fc = nn.Linear(many, num_classes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images ``[B, C, H, W]`` to logits ``[B, K]``."""
        return self.fc(self.layers(x))
