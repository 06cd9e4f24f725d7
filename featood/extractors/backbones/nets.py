"""Our small-image nets as backbones."""

from __future__ import annotations

__all__ = ["build"]

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.backbones.backbone import RANDOM, Built
from featood.extractors.backbones.shape import Made, Shape, drop_layer, first_convolution, last_layer
from featood.extractors.backbones.sources import from_file
from featood.extractors.weights import Slots
from featood.nets import create_net, net_defaults


def build(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    """Build one of our nets with weights from a file, or random ones."""
    channels = net_defaults(name).in_channels
    if not weights:
        create_net(name, 1)  # an impossible depth is the nearer fault
        raise UsageError(
            f"{name} has no published weights: give trained ones by --weights FILE, or take --weights random"
        )
    if weights == RANDOM:
        generator = torch.Generator().manual_seed(seed)
        return Built(create_net(name, num_classes or 10, generator=generator), f"net:{name}", RANDOM)

    def make(shape: Shape) -> nn.Module:
        net = create_net(name, shape.classes or 10, shape.channels)
        return drop_layer(net, shape.without) if shape.without else net

    def describe(net: nn.Module) -> Made:
        return Made(Slots(last_layer(net), first_convolution(net)), channels)

    loaded = from_file(make, weights, describe, lambda _: (_other_names,))
    return Built(loaded.module, f"net:{name}", loaded.weights, classes=loaded.classes, notes=loaded.notes)


def _other_names(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """Call shortcuts with a convolution as torchvision does; much-copied code for small images has another name."""
    renamed = {re.sub(r"(^|\.)shortcut\.", r"\1downsample.", name): tensor for name, tensor in flat.items()}
    return renamed, "took its shortcuts for downsample"
