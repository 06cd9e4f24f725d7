"""Untrained networks by name: ours, torchvision's and timm's."""

from __future__ import annotations

__all__ = ["Architecture"]

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from featood.errors import UsageError
from featood.extractors.backbones.names import nearest_names
from featood.nets import create_net, is_net, net_defaults, seeded


class Architecture(NamedTuple):
    """A network by name: one of ours (``cifar-resnet18``), ``tv:NAME``, ``timm:NAME``, or a bare name of these."""

    name: str
    options: Mapping[str, Any] = {}
    """Further arguments of its constructor, such as ``dropout``."""

    @property
    def input_shape(self) -> tuple[int, int]:
        """Channels, and side in pixels, of the images that it is made for."""
        if is_net(self.name):
            defaults = net_defaults(self.name)
            return defaults.in_channels, defaults.image_size
        return 3, 224

    def make(self, classes: int, channels: int, generator: torch.Generator | None = None) -> nn.Module:
        """Build the network with fresh weights.

        Raises
        ------
        UsageError
            If the name or an option is unknown, or the network cannot take such images.
        """
        try:
            if is_net(self.name):
                return create_net(self.name, classes, channels, generator, **self.options)
            with seeded(generator):
                return self._of_library(classes, channels)
        except TypeError as error:
            raise UsageError(f"{self.name} cannot be made with {dict(self.options)}: {error}") from None

    def _of_library(self, classes: int, channels: int) -> nn.Module:
        from featood.extractors.vision import timm, torchvision

        family, _, name = self.name.rpartition(":")
        if family in ("", "tv") and name in torchvision.models.list_models(module=torchvision.models):
            if channels != 3:
                raise UsageError(f"torchvision's {name} takes images with 3 channels; take timm:{name}")
            return torchvision.models.get_model(name, weights=None, num_classes=classes, **self.options)
        if family in ("", "timm") and timm.is_model(name):
            return timm.create_model(
                name, pretrained=False, num_classes=classes, in_chans=channels, **self.options
            )
        raise UsageError(
            f"there is no architecture '{self.name}'{nearest_names(name)}; see featood backbones"
        )
