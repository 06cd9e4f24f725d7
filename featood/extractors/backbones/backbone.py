"""What a backbone is: a network, and what it takes to have it again."""

from __future__ import annotations

__all__ = ["RANDOM", "Backbone", "Built"]

import dataclasses
from pathlib import Path
from typing import NamedTuple

from torch import nn

from featood.extractors.transform import Transform

RANDOM = "random"


class Built(NamedTuple):
    """What a family's ``build(name, weights, num_classes, seed)`` returns."""

    module: nn.Module
    resolved: str
    """See :class:`Backbone`."""
    weights: str
    transform: Transform | None = None
    classes: tuple[str, ...] = ()


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
    classes: tuple[str, ...] = ()
    """Names of the classes that the logits stand for, where the weights name them (ImageNet: WordNet ids)."""
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
