"""featood's networks for small images as backbones."""

from __future__ import annotations

__all__ = ["build"]

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.backbones.backbone import RANDOM, Built
from featood.extractors.backbones.shape import Design, Shape, drop_layer, first_convolution, last_layer
from featood.extractors.backbones.sources import from_file
from featood.extractors.weights import Slots
from featood.nets import create_net, net_defaults


def build(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    """Build a network of featood with weights from a file, or random ones."""
    channels = net_defaults(name).in_channels
    if not weights:
        create_net(name, 1)  # raises the error of an impossible depth first
        raise UsageError(
            f"{name} has no published weights: give trained ones with --weights FILE, or use --weights random"
        )
    if weights == RANDOM:
        generator = torch.Generator().manual_seed(seed)
        return Built(create_net(name, num_classes or 10, generator=generator), f"net:{name}", RANDOM)

    def make(shape: Shape) -> nn.Module:
        net = create_net(name, shape.classes or 10, shape.channels)
        return drop_layer(net, shape.without) if shape.without else net

    def describe(net: nn.Module) -> Design:
        return Design(Slots(last_layer(net), first_convolution(net)), channels)

    loaded = from_file(make, weights, describe, lambda _: (_other_names,))
    return Built(loaded.module, f"net:{name}", loaded.weights, classes=loaded.classes, notes=loaded.notes)


def _other_names(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """Rename ``shortcut``, which is common in code for small images, to torchvision's ``downsample``."""
    renamed = {re.sub(r"(^|\.)shortcut\.", r"\1downsample.", name): tensor for name, tensor in flat.items()}
    return renamed, "read 'shortcut' as 'downsample'"
