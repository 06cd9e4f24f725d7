"""Networks by name."""

from __future__ import annotations

__all__ = [
    "NetDefaults",
    "changed_options",
    "create_net",
    "is_net",
    "list_nets",
    "net_defaults",
    "net_options",
]

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featood.errors import UsageError
from featood.nets.cifar_resnet import CifarResNet
from featood.nets.conv4 import Conv4
from featood.nets.convnet import MnistConvNet
from featood.nets.densenet import DenseNet
from featood.nets.initialise import seeded
from featood.nets.lenet import LeNet
from featood.nets.mnist_conv import MnistConv
from featood.nets.options import NetOptions, parse_options
from featood.nets.small_resnet import SmallResNet
from featood.nets.spectral import bound_layers
from featood.nets.vgg import Vgg
from featood.nets.vggm import VggM
from featood.nets.wide_resnet import WideResNet
from featood.options import OptionEntry, options_of


@dataclass(frozen=True)
class NetDefaults:
    """The images that a network is made for: number of channels, and height and width in pixels."""

    in_channels: int = 3
    image_size: int = 32


@dataclass(frozen=True)
class _Family:
    """A pattern of names, whose groups are the first arguments of the builder, and common names."""

    pattern: str
    build: Callable[..., nn.Module]
    names: tuple[str, ...]
    defaults: NetDefaults = NetDefaults()

    @property
    def options(self) -> type[NetOptions]:
        """The class of the options, which the network takes as ``options``, or that of networks without their own."""
        return getattr(self.build, "Options", NetOptions)


_DIGITS = NetDefaults(in_channels=1, image_size=28)

_FAMILIES = (
    _Family(
        r"cifar-resnet(?!(?:18|34|50)$)([0-9]+)",
        CifarResNet,
        tuple(f"cifar-resnet{depth}" for depth in (20, 32, 44, 56, 110)),
    ),
    _Family(r"cifar-resnet(18|34|50)", SmallResNet, ("cifar-resnet18", "cifar-resnet34", "cifar-resnet50")),
    _Family(r"wrn-([0-9]+)-([0-9]+)", WideResNet, ("wrn-16-4", "wrn-28-10", "wrn-40-2")),
    _Family(r"densenet-([0-9]+)-([0-9]+)", DenseNet, ("densenet-100-12",)),
    _Family(r"cifar-vgg([0-9]+)", Vgg, tuple(f"cifar-vgg{depth}" for depth in (11, 13, 16, 19))),
    _Family(r"vggm", VggM, ("vggm",)),
    _Family(r"conv4-([0-9]+)", Conv4, ("conv4-32",)),
    _Family(r"lenet", LeNet, ("lenet",), _DIGITS),
    _Family(r"mnist-convnet", MnistConvNet, ("mnist-convnet",), _DIGITS),
    _Family(r"mnist-conv", MnistConv, ("mnist-conv",), _DIGITS),
)


def _find(name: str) -> tuple[_Family, tuple[int, ...]] | None:
    for family in _FAMILIES:
        if match := re.fullmatch(family.pattern, name):
            return family, tuple(int(group) for group in match.groups())
    return None


def _require(name: str) -> tuple[_Family, tuple[int, ...]]:
    found = _find(name)
    if found is None:
        near = difflib.get_close_matches(name, list_nets(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = f"{', '.join(list_nets())}, and other depths of cifar-resnetD, wrn-D-K and densenet-D-G"
        raise UsageError(f"unknown network {name!r}; {hint}known: {known}")
    return found


def list_nets() -> list[str]:
    """Return the common names; ``cifar-resnetD``, ``wrn-D-K`` and ``densenet-D-G`` also exist with other numbers."""
    return [name for family in _FAMILIES for name in family.names]


def is_net(name: str) -> bool:
    """Return whether ``name`` is the name of a network of this package."""
    return _find(name) is not None


def net_defaults(name: str) -> NetDefaults:
    """Return the number of channels and the size of the images that a network is made for.

    Raises
    ------
    UsageError
        If there is no such network.
    """
    return _require(name)[0].defaults


def net_options(name: str) -> tuple[OptionEntry, ...]:
    """Return the options of a network, those of all networks last.

    Raises
    ------
    UsageError
        If there is no such network.
    """
    entries = options_of(_require(name)[0].options)
    shared = len(options_of(NetOptions))
    return entries[shared:] + entries[:shared]


def changed_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from the defaults of a network.

    Raises
    ------
    UsageError
        If there is no such network or option, or a value is invalid.
    """
    parsed = parse_options(_require(name)[0].options, options, name)
    values = {entry.name: (getattr(parsed, entry.name), entry.default) for entry in net_options(name)}
    return {key: value for key, (value, default) in values.items() if value != default}


def create_net(
    name: str,
    num_classes: int,
    in_channels: int | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> nn.Module:
    """Create a network with random weights, on the CPU and in training mode.

    Parameters
    ----------
    name
        One of :func:`list_nets`, or ``cifar-resnetD``, ``wrn-D-K`` or ``densenet-D-G`` with other numbers.
    num_classes
        Width of the logits.
    in_channels
        Channels of the images; by default 1 for the digit networks, otherwise 3.
    generator
        Generator of the initial weights; ``None`` means seed 0. The global random state does not change.
    options
        Such as ``dropout``; see :func:`net_options`.

    Raises
    ------
    UsageError
        If the name or an option is unknown, or a number in the name, `num_classes`, `in_channels` or the value of an
        option is invalid.
    """
    family, numbers = _require(name)
    channels = family.defaults.in_channels if in_channels is None else in_channels
    if num_classes < 1 or channels < 1:
        raise UsageError(f"{name} needs at least one class and one channel, got {num_classes} and {channels}")
    parsed = parse_options(family.options, options, name)
    own = {} if type(parsed) is NetOptions else {"options": parsed}
    with seeded(generator):
        net = family.build(*numbers, num_classes=num_classes, in_channels=channels, **own)
    return bound_layers(net, parsed, name)
