"""Backbones: networks with what is needed to build them again."""

from __future__ import annotations

__all__ = ["CODE", "MODELS", "RANDOM", "Backbone", "Built", "Parts", "Request", "code_name", "model_folder"]

import dataclasses
import os
from collections.abc import Mapping
from pathlib import PurePath, PureWindowsPath
from typing import Any, NamedTuple

from torch import nn

from featood.extractors.inputs import InputTransform
from featood.extractors.transform import Transform
from featood.extractors.weights import SUFFIXES
from featood.reporter import SILENT, Reporter

RANDOM = "random"
CODE = "python:"
"""Prefix of names of code to run."""
MODELS = ("st:", "hf:")
"""Prefixes of folders and names of models of sentence-transformers and transformers."""


def code_name(name: str) -> str:
    """Return the name of a callable without its location.

    Examples
    --------
    >>> code_name("python:nets.small:build"), code_name("python:../nets/small.py:build")
    ('nets.small.build', 'small.build')
    """
    place, _, attribute = name.removeprefix(CODE).rpartition(":")
    path = PureWindowsPath(place) if "\\" in place else PurePath(place)
    return f"{path.name.removesuffix('.py')}.{attribute}"


def model_folder(name: str) -> str:
    """Return the folder in the cache of a model of sentence-transformers or transformers.

    Examples
    --------
    >>> model_folder("hf:textattack/bert-base")
    'textattack--bert-base'
    """
    rest = name.partition(":")[2]
    return os.path.basename(os.path.abspath(rest)) if os.path.isdir(rest) else rest.replace("/", "--")


class Request(NamedTuple):
    """What to build besides the name; see :func:`featood.extractors.backbones.resolve_backbone`."""

    weights: str = ""
    num_classes: int | None = None
    seed: int = 0
    options: Mapping[str, Any] = {}
    transform: Transform | None = None
    """The transform of the file given as `weights`, if it is known."""
    reporter: Reporter = SILENT


class Built(NamedTuple):
    """Result of ``build(name, request)`` of a family; see :class:`Backbone`."""

    module: nn.Module
    resolved: str
    weights: str
    transform: InputTransform | None = None
    classes: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    folder: str = ""
    taps: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}


class Parts(NamedTuple):
    """A module with the transform of its inputs; see :class:`Backbone`."""

    module: nn.Module
    transform: InputTransform | None
    options: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode, with what is needed to build it again."""

    name: str
    """Name as given by the user."""
    resolved: str
    """``net:NAME``, ``tv:NAME@WEIGHTS``, ``timm:NAME``, ``st:NAME``, ``hf:NAME`` or ``python:MODULE:CALLABLE``."""
    module: nn.Module
    weights: str
    """The name of a file or of published weights, or ``random``."""
    transform: InputTransform | None
    """The transform of the weights, if they have one."""
    sha256: str
    """Digest of all parameters and buffers."""
    classes: tuple[str, ...] = ()
    """Names of the classes of the logits, if the weights have them (WordNet ids for ImageNet)."""
    titles: tuple[str, ...] = ()
    """Readable names of the same classes, with synonyms separated by commas."""
    notes: tuple[str, ...] = ()
    """What was chosen, inferred or left out, one line each."""
    folder: str = ""
    """Folder name in the cache, if not derived from the name and the weights."""
    taps: tuple[str, ...] = ()
    """Modules whose outputs are cached besides those requested."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What determines the outputs besides the weights, such as options of the network that differ from its defaults."""
    resampled: tuple[int, int] | None = None
    """Rows and columns of the position embeddings of the weights, if they were resampled to another image size."""
    resampled_sha256: str = ""
    """Digest of all parameters and buffers after that; empty if it is `sha256`."""

    @property
    def slug(self) -> str:
        """Folder name in the cache: the name, with the weights unless the name implies them."""
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
        """Number of channels of the input images."""
        first = next((layer for layer in self.module.modules() if isinstance(layer, nn.Conv2d)), None)
        return 1 if first is not None and first.in_channels == 1 else 3
