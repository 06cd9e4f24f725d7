"""What a backbone is: a network, and what it takes to have it again."""

from __future__ import annotations

__all__ = ["CODE", "RANDOM", "Backbone", "Built", "code_name"]

import dataclasses
from pathlib import PurePath, PureWindowsPath
from typing import NamedTuple

from torch import nn

from featood.extractors.transform import Transform
from featood.extractors.weights import SUFFIXES

RANDOM = "random"
CODE = "python:"
"""What names begin with that stand for code to run."""


def code_name(name: str) -> str:
    """Return what the code of a name is called, wherever it lies.

    Examples
    --------
    >>> code_name("python:nets.small:build"), code_name("python:../nets/small.py:build")
    ('nets.small.build', 'small.build')
    """
    place, _, attribute = name.removeprefix(CODE).rpartition(":")
    path = PureWindowsPath(place) if "\\" in place else PurePath(place)
    return f"{path.name.removesuffix('.py')}.{attribute}"


class Built(NamedTuple):
    """What a family's ``build(name, weights, num_classes, seed)`` returns; see :class:`Backbone`."""

    module: nn.Module
    resolved: str
    weights: str
    transform: Transform | None = None
    classes: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode, and what it takes to have it again."""

    name: str
    """Name as given by the user."""
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
    titles: tuple[str, ...] = ()
    """Readable names of the same classes, synonyms after commas."""
    notes: tuple[str, ...] = ()
    """What was chosen, inferred or left out, a line each."""
    folder: str = ""
    """Folder name in the cache, where it is not to follow from the name and the weights."""

    @property
    def slug(self) -> str:
        """Folder name in the cache: the name, and the weights where the name does not imply them."""
        if self.folder:
            return self.folder
        name = self.name
        if name.startswith(CODE):
            name = code_name(name)
        if self.weights == "its own" or self.resolved.endswith(f"@{self.weights}"):
            return name
        file, sign, entry = self.weights.partition("#")
        for suffix in SUFFIXES:
            file = file.removesuffix(suffix)
        return f"{name}@{file}{sign}{entry}"

    @property
    def channels(self) -> int:
        """Channels of the images it takes."""
        first = next((layer for layer in self.module.modules() if isinstance(layer, nn.Conv2d)), None)
        return 1 if first is not None and first.in_channels == 1 else 3
