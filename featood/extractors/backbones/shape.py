"""Adapting a network to the shapes in a file of weights: number of classes, channels, and image size."""

from __future__ import annotations

__all__ = ["Design", "Shape", "drop_layer", "first_convolution", "last_layer", "shape_in_file"]

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from featood.errors import Mismatch
from featood.extractors.transform import Transform
from featood.extractors.weights import Match, Slots


class Shape(NamedTuple):
    """Differences of a file from the default network; None for no difference."""

    classes: int | None = None
    channels: int | None = None
    size: int | None = None
    without: str = ""
    """A module missing in the file: the layer of the logits, or the module that contains it."""

    def __str__(self) -> str:
        parts = [f"without {self.without}"] if self.without else []
        if self.classes is not None:
            parts.append(f"with {self.classes} classes")
        if self.channels is not None:
            parts.append(f"for images of {self.channels} channel{'s' if self.channels > 1 else ''}")
        if self.size is not None:
            parts.append(f"for {self.size} x {self.size} pixels")
        return ", ".join(parts)

    def arguments(self, **names: str) -> dict[str, int]:
        """Return the differences as arguments of a constructor, with names given as ``classes="num_classes"``."""
        values = self._asdict()
        return {argument: values[key] for key, argument in names.items() if values[key] is not None}

    def apply(self, transform: Transform) -> Transform:
        """Adapt the transform of published weights to the image size and channels of the file."""
        if self.size is not None and self.size != transform.height:
            transform = transform.at_size(self.size)
        if self.channels is not None and self.channels != transform.channels:
            mean, std = ((sum(values) / len(values),) for values in (transform.mean, transform.std))
            transform = dataclasses.replace(transform, channels=self.channels, mean=mean, std=std)
        return transform


@dataclasses.dataclass(frozen=True)
class Design:
    """Properties of a network that may differ in a file.

    Parameters
    ----------
    slots : Slots
        The tensors with variable shapes.
    channels : int
        Number of channels of the images.
    size : int
        Side of the square images of its position embeddings; 0 without these.
    patch : int
        Side of a patch in pixels.
    """

    slots: Slots
    channels: int = 3
    size: int = 0
    patch: int = 1


def shape_in_file(found: Match, expected: Mapping[str, Tensor], design: Design, path: str) -> Shape:
    """Return the differences in shape between the tensors of a file and those of a network.

    Raises
    ------
    Mismatch
        If the shapes do not belong to images that can be read.
    """

    def differ(name: str, axis: int) -> tuple[int, int] | None:
        if name not in expected or name not in found.tensors:
            return None
        lengths = found.tensors[name].shape[axis], expected[name].shape[axis]
        return None if lengths[0] == lengths[1] else lengths

    classes = channels = size = None
    without = ""
    if found.absent:
        head = design.slots.head[0]
        inside = all(name.startswith(f"{head}.") for name in found.absent)
        without = head if inside or len(design.slots.head) > 1 else head.partition(".")[0]
    elif design.slots.head and (counts := differ(f"{design.slots.head[0]}.weight", 0)):
        classes = counts[0]
    if widths := differ(f"{design.slots.stem}.weight", 1):
        channels = design.channels * widths[0] // widths[1]
        if channels not in (1, 3):
            raise Mismatch(f"{path} is for images of {channels} channels, not 1 or 3")
    if design.size and (tokens := differ(design.slots.positions, 1)):
        others = tokens[1] - (design.size // design.patch) ** 2  # class and register tokens
        side = math.isqrt(max(tokens[0] - others, 0))
        if not side or side**2 != tokens[0] - others:
            raise Mismatch(f"{path}: its {tokens[0]} position embeddings are not those of a square image")
        size = side * design.patch
    return Shape(classes, channels, size, without)


def first_convolution(module: nn.Module) -> str:
    """Return the name of the first convolution of a network, or an empty string."""
    return next((name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)), "")


def last_layer(module: nn.Module) -> tuple[str, ...]:
    """Return the name of the last linear layer of a network, or else of its last convolution, or an empty tuple."""
    layers = list(module.named_modules())
    for kind in (nn.Linear, nn.Conv2d):
        if names := [name for name, layer in layers if isinstance(layer, kind)]:
            return (names[-1],)
    return ()


def drop_layer(module: nn.Module, name: str) -> nn.Module:
    """Replace a layer by the identity."""
    module.set_submodule(name, nn.Identity())
    return module
