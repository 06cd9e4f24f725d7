"""Untrained networks by name: ours, torchvision's and timm's."""

from __future__ import annotations

__all__ = ["Architecture"]

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from featood.errors import UsageError
from featood.extractors.backbones.names import nearest_names
from featood.extractors.models import list_models
from featood.nets import NetOptions, bound_layers, create_net, is_net, net_defaults, parse_options, seeded
from featood.nets.gru import GruClassifier
from featood.options import options_of

OWN_SIDE = 32
"""Side in pixels of the images of models with a network of their own, if that of the dataset is not known."""
LOADING = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "weights_backbone"}
"""Arguments of the libraries' constructors that load weights."""


TEXT_NETS = {"gru": GruClassifier}
"""Networks of texts."""


def _is_own(name: str) -> bool:
    """Whether an architecture is a model's own network, which has the name of the model."""
    model = list_models().get(name)
    return model is not None and model.own_network


class Architecture(NamedTuple):
    """A network by name: one of ours (``cifar-resnet18``), ``tv:NAME``, ``timm:NAME``, or a bare name of these.

    The network that a model makes itself has the name of the model.
    """

    name: str
    options: Mapping[str, Any] = {}
    """Such as ``dropout``: for ours, see :func:`featood.nets.net_options`; others take arguments of their constructor
    and the options of :class:`featood.nets.NetOptions`."""

    @property
    def takes(self) -> str:
        """Kind of its inputs; see :class:`featood.data.InputSet`."""
        return "texts" if self.name in TEXT_NETS else "images"

    @property
    def input_shape(self) -> tuple[int, int]:
        """Channels, and side in pixels, of the images that it is made for."""
        if is_net(self.name):
            defaults = net_defaults(self.name)
            return defaults.in_channels, defaults.image_size
        return 3, OWN_SIDE if _is_own(self.name) else 224

    def make(self, classes: int, channels: int, generator: torch.Generator | None = None) -> nn.Module:
        """Build the network with fresh weights, for images of some channels, or texts of so many different tokens.

        Raises
        ------
        UsageError
            If the name or an option is unknown, or the network cannot take such images.
        """
        if is_net(self.name):
            return create_net(self.name, classes, channels, generator, **self.options)
        if self.name in TEXT_NETS:
            kind = TEXT_NETS[self.name]
            chosen = parse_options(kind.Options, self.options, self.name)
            with seeded(generator):
                return bound_layers(kind(classes, channels, chosen), chosen, self.name)
        shared = {option.name for option in options_of(NetOptions)}
        options = parse_options(
            NetOptions, {key: value for key, value in self.options.items() if key in shared}, self.name
        )
        own = {key: value for key, value in self.options.items() if key not in shared}
        if loading := sorted(LOADING & own.keys()):  # the options may be from a folder that anybody wrote
            raise UsageError(f"{self.name}: {loading[0]} is not an option of the network; it reads files")
        try:
            with seeded(generator):
                net = self._of_library(classes, channels, own)
        except TypeError as error:
            raise UsageError(f"{self.name} cannot be made with {own}: {error}") from None
        return bound_layers(net, options, self.name)

    def _of_library(self, classes: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
        from featood.extractors.vision import timm, torchvision

        family, _, name = self.name.rpartition(":")
        if family in ("", "tv") and name in torchvision.models.list_models(module=torchvision.models):
            if channels != 3:
                raise UsageError(f"torchvision's {name} takes images with 3 channels; take timm:{name}")
            return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        if family in ("", "timm") and timm.is_model(name):
            return timm.create_model(
                name, pretrained=False, num_classes=classes, in_chans=channels, **options
            )
        raise UsageError(
            f"there is no architecture '{self.name}'{nearest_names(name)}; see featood backbones"
        )
