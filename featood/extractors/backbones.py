"""Backbones by name: our small nets, torchvision, timm, or any Python callable."""

from __future__ import annotations

__all__ = ["Backbone", "list_backbones", "resolve_backbone"]

import contextlib
import dataclasses
import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featood.errors import DataError, FeatoodError, UsageError
from featood.extractors.transform import Transform
from featood.extractors.weights import load_weights, read_state_dict, weights_sha256
from featood.nets import create_net, is_net, list_nets, net_defaults, seeded

RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode, and what it takes to have it again."""

    name: str
    """As it was asked for."""
    resolved: str
    """``net:NAME``, ``tv:NAME@WEIGHTS``, ``timm:NAME`` or ``python:MODULE:CALLABLE``."""
    module: nn.Module
    weights: str
    """A file's name, the name of published weights, or ``random``."""
    transform: Transform | None
    """The transform that belongs to the weights, where they name one."""
    sha256: str
    """Digest of all parameters and buffers."""
    folder: str = ""
    """Folder name in the cache, where it is not to follow from the name and the weights."""

    @property
    def slug(self) -> str:
        """Folder name in the cache: the name, and the weights where the name does not imply them."""
        if self.folder:
            return self.folder
        stem = Path(self.weights).name
        for suffix in (".safetensors", ".pth.tar", ".pth", ".pt", ".th", ".tar", ".ckpt", ".bin"):
            stem = stem.removesuffix(suffix)
        implied = stem in self.resolved or self.resolved.startswith("python:")
        name = self.name.split(":")[-2] if self.name.startswith("python:") else self.name
        return name if implied else f"{name}@{stem}"

    @property
    def channels(self) -> int:
        """Channels of the images it takes."""
        first = next((layer for layer in self.module.modules() if isinstance(layer, nn.Conv2d)), None)
        return 1 if first is not None and first.in_channels == 1 else 3


def list_backbones() -> dict[str, list[str]]:
    """Return the known names by family; imports torchvision and timm."""
    from featood.extractors.vision import timm, torchvision

    return {
        "net": list_nets(),
        "tv": torchvision.models.list_models(module=torchvision.models),
        "timm": timm.list_models(),
    }


def resolve_backbone(name: str, weights: str = "", num_classes: int | None = None, seed: int = 0) -> Backbone:
    """Build a backbone in evaluation mode.

    Parameters
    ----------
    name : str
        One of our nets (``cifar-resnet20``), ``tv:NAME`` or ``tv:NAME@WEIGHTS``, ``timm:NAME``,
        ``python:package.module:callable``, or a bare name, which is looked up in this order. The module
        that the callable returns may have an attribute ``featood_transform``, the fields of a
        :class:`~featood.extractors.transform.Transform`.
    weights : str
        A file (safetensors, or a PyTorch checkpoint), or ``random``; empty for the published weights.
    num_classes : int, optional
        Width of the logits of a net of ours with random weights.
    seed : int
        Seed of random weights.

    Raises
    ------
    UsageError
        When the name is unknown; the text suggests the nearest.
    DataError, Mismatch
        When the weights cannot be read or do not fit.

    Warns
    -----
    UserWarning
        When the weights are random because none could be had.
    """
    scheme, _, rest = name.partition(":")
    if scheme in BUILDERS and rest:
        module, resolved, source, transform = BUILDERS[scheme](rest, weights, num_classes, seed)
    else:
        family = next((family for family, known in FINDERS.items() if known(name)), None)
        if family is None:
            raise UsageError(f"there is no backbone '{name}'{_nearest(name)}; see featood backbones")
        module, resolved, source, transform = BUILDERS[family](name, weights, num_classes, seed)
    return Backbone(name, resolved, module.eval(), source, transform, weights_sha256(module))


Built = tuple[nn.Module, str, str, Transform | None]


def _build_net(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    if not weights or weights == RANDOM:
        if not weights:
            warnings.warn(
                f"{name} has random weights (seed {seed}): give trained ones by --weights", stacklevel=3
            )
        generator = torch.Generator().manual_seed(seed)
        return create_net(name, num_classes or 10, generator=generator), f"net:{name}", RANDOM, None
    state = read_state_dict(weights)
    matrices = [value for value in state.values() if value.ndim == 2]
    kernels = [value for value in state.values() if value.ndim == 4]
    channels = kernels[0].shape[1] if kernels else net_defaults(name).in_channels
    module = create_net(name, len(matrices[-1]) if matrices else 10, in_channels=channels)
    load_weights(module, weights)
    return module, f"net:{name}", os.path.basename(weights), None


def _build_torchvision(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    from featood.extractors.vision import torchvision

    architecture, _, tag = name.partition("@")
    try:
        choices = torchvision.models.get_model_weights(architecture)
    except ValueError:
        raise UsageError(f"torchvision has no model '{architecture}'{_nearest(architecture)}") from None
    # the literature on out-of-distribution detection uses the first published weights
    tag = tag or ("IMAGENET1K_V1" if "IMAGENET1K_V1" in choices.__members__ else choices.DEFAULT.name)
    if tag not in choices.__members__:
        raise UsageError(
            f"torchvision has no weights '{tag}' for {architecture} (it has: {', '.join(choices.__members__)})"
        )
    published = choices[tag]

    def make(pretrained: bool) -> nn.Module:
        return torchvision.models.get_model(architecture, weights=published if pretrained else None)

    module, source = _pretrained(make, weights, f"tv:{architecture}@{tag}", tag, seed)
    preset = published.transforms()
    transform = Transform(
        3,
        preset.crop_size[0],
        preset.crop_size[0],
        preset.resize_size[0],
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
    )
    return module, f"tv:{architecture}@{tag}", source, transform


def _build_timm(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    from featood.extractors.vision import timm

    if not timm.is_model(name.split(".")[0]):
        raise UsageError(f"timm has no model '{name}'{_nearest(name)}")
    module, source = _pretrained(
        lambda pretrained: timm.create_model(name, pretrained=pretrained),
        weights,
        f"timm:{name}",
        "pretrained",
        seed,
    )
    config = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    resize = round(height / config["crop_pct"])
    mean, std = (tuple(config[key]) for key in ("mean", "std"))
    transform = Transform(channels, height, width, resize, mean, std, config["interpolation"])
    about: Any = module.default_cfg
    resolved = f"timm:{about.get('architecture', name)}"
    tag = about.get("tag", "")
    return module, f"{resolved}.{tag}" if tag else resolved, source, transform


def _pretrained(
    make: Callable[[bool], nn.Module], weights: str, what: str, published: str, seed: int
) -> tuple[nn.Module, str]:
    """Return a module with weights from a file, as published, or random where nothing can be downloaded."""
    if weights and weights != RANDOM:
        module = make(False)
        load_weights(module, weights)
        return module, os.path.basename(weights)
    if not weights:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # downloaders talk, and stdout is for results
                return make(True), published
        except (OSError, RuntimeError, ValueError) as error:  # URLError, hub errors, bad checksums
            reason = str(error).strip().split("\n")[0][:120]
            warnings.warn(
                f"the weights of {what} could not be downloaded ({reason}): it has RANDOM weights (seed {seed}), "
                "whose scores mean nothing; give a file by --weights",
                stacklevel=4,
            )
    with seeded(torch.Generator().manual_seed(seed)):
        return make(False), RANDOM


def _build_python(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(f"python:{name} is not of the form python:package.module:callable")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"python:{name} cannot be imported: {error}") from None
    try:
        with seeded(torch.Generator().manual_seed(seed)):
            module = target()
    except FeatoodError:
        raise
    except Exception as error:  # a stranger's code
        raise DataError(f"python:{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"python:{name} returned {type(module).__name__}, not a torch.nn.Module")
    if weights:
        load_weights(module, weights)
    own = getattr(module, "featood_transform", None)
    transform = None if own is None else Transform.from_json(own)
    return module, f"python:{name}", os.path.basename(weights) or "its own", transform


def _is_torchvision(name: str) -> bool:
    from featood.extractors.vision import torchvision

    return name.partition("@")[0] in torchvision.models.list_models(module=torchvision.models)


def _is_timm(name: str) -> bool:
    from featood.extractors.vision import timm

    return timm.is_model(name.split(".")[0])


def _nearest(name: str) -> str:
    names = [known for family in list_backbones().values() for known in family]
    near = difflib.get_close_matches(name.split(":")[-1], names, 3, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


BUILDERS: dict[str, Callable[[str, str, int | None, int], Built]] = {
    "net": _build_net,
    "tv": _build_torchvision,
    "timm": _build_timm,
    "python": _build_python,
}
FINDERS: dict[str, Callable[[str], bool]] = {"net": is_net, "tv": _is_torchvision, "timm": _is_timm}
