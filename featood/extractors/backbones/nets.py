"""featood's networks for small images as backbones."""

from __future__ import annotations

__all__ = ["build"]

import re

import torch
from torch import nn

from featood.errors import Mismatch, UsageError
from featood.extractors.backbones.backbone import RANDOM, Built, Request
from featood.extractors.backbones.conventions import other_names
from featood.extractors.backbones.shape import Design, Shape, drop_layer, first_convolution, last_layer
from featood.extractors.backbones.sources import from_file
from featood.extractors.weights import Slots
from featood.nets import changed_options, create_net, net_defaults


def build(name: str, request: Request) -> Built:
    """Build a network of featood with weights from a file, or random ones."""
    options = request.options
    changed = changed_options(name, options)
    channels = net_defaults(name).in_channels
    if not request.weights:
        create_net(name, 1)  # raises the error of an impossible depth first
        raise UsageError(
            f"{name} needs weights: give trained ones with --weights FILE, or use --weights random; published ones are "
            f"backbones of their own ({name}.TAG, listed by featood backbones {name})"
        )
    if request.weights == RANDOM:
        generator = torch.Generator().manual_seed(request.seed)
        net = create_net(name, request.num_classes or 10, generator=generator, **options)
        return Built(net, f"net:{name}", RANDOM, request.transform, options=changed)

    def make(shape: Shape) -> nn.Module:
        net = create_net(name, shape.classes or 10, shape.channels, **options)
        return drop_layer(net, shape.without) if shape.without else net

    def describe(net: nn.Module) -> Design:
        return Design(Slots(last_layer(net), first_convolution(net)), channels)

    try:
        loaded = from_file(make, request.weights, describe, rename=other_names)
    except Mismatch as error:
        if not options.get("sn") and re.search(r"\.weight_(orig|u|sigma)\b", str(error)):
            raise Mismatch(
                f"{error} (with spectral normalisation, as it seems: --arch-option sn=true)"
            ) from None
        raise
    return Built(
        loaded.module, f"net:{name}", loaded.weights, request.transform, loaded.classes, notes=loaded.notes,
        options=changed,
    )  # fmt: skip
