"""What of a network's shape a file of weights decides: classes, channels, and the size of the images."""

from __future__ import annotations

__all__ = ["Made", "Shape", "drop_layer", "first_convolution", "last_layer", "shape_in_file"]

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from featood.errors import Mismatch
from featood.extractors.transform import Transform
from featood.extractors.weights import Match, Slots


class Shape(NamedTuple):
    """What a file decides otherwise than a network is made; None leaves it as it is made."""

    classes: int | None = None
    channels: int | None = None
    size: int | None = None
    without: str = ""
    """A module that the network has to do without: that which makes the logits, or all that surrounds it."""

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
        """Return what is decided under the names of a constructor's arguments, ``classes="num_classes"``."""
        values = self._asdict()
        return {argument: values[key] for key, argument in names.items() if values[key] is not None}

    def apply(self, transform: Transform) -> Transform:
        """Return the transform of published weights for images of the file's size and channels."""
        if self.size is not None and self.size != transform.height:
            transform = transform.at_size(self.size)
        if self.channels is not None and self.channels != transform.channels:
            mean, std = ((sum(values) / len(values),) for values in (transform.mean, transform.std))
            transform = dataclasses.replace(transform, channels=self.channels, mean=mean, std=std)
        return transform


@dataclasses.dataclass(frozen=True)
class Made:
    """What a network is made for, as far as a file may differ.

    Parameters
    ----------
    slots : Slots
        Which of its tensors tell.
    channels : int
        Of the images.
    size : int
        Side of the square images that its position embeddings are for; 0 where it has none.
    patch : int
        Pixels a side for each of them.
    """

    slots: Slots
    channels: int = 3
    size: int = 0
    patch: int = 1


def shape_in_file(found: Match, own: Mapping[str, Tensor], made: Made, path: str) -> Shape:
    """Return where the tensors of a file are of another shape than a network's own.

    Raises
    ------
    Mismatch
        When the shapes are of no image that can be read.
    """

    def differ(name: str, axis: int) -> tuple[int, int] | None:
        if name not in own or name not in found.tensors:
            return None
        lengths = found.tensors[name].shape[axis], own[name].shape[axis]
        return None if lengths[0] == lengths[1] else lengths

    classes = channels = size = None
    without = ""
    if found.absent:
        head = made.slots.head[0]
        inside = all(name.startswith(f"{head}.") for name in found.absent)
        without = head if inside or len(made.slots.head) > 1 else head.partition(".")[0]
    elif made.slots.head and (counts := differ(f"{made.slots.head[0]}.weight", 0)):
        classes = counts[0]
    if widths := differ(f"{made.slots.stem}.weight", 1):
        channels = made.channels * widths[0] // widths[1]
        if channels not in (1, 3):
            raise Mismatch(f"{path} is of a network for images of {channels} channels, not of 1 or 3")
    if made.size and (tokens := differ(made.slots.positions, 1)):
        others = tokens[1] - (made.size // made.patch) ** 2  # class and register tokens
        side = math.isqrt(max(tokens[0] - others, 0))
        if not side or side**2 != tokens[0] - others:
            raise Mismatch(f"{path}: its {tokens[0]} position embeddings are not those of a square image")
        size = side * made.patch
    return Shape(classes, channels, size, without)


def first_convolution(module: nn.Module) -> str:
    """Return the name of a network's first convolution, or nothing."""
    return next((name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)), "")


def last_layer(module: nn.Module) -> tuple[str, ...]:
    """Return the name of a network's last linear layer, else of its last convolution, or nothing."""
    layers = list(module.named_modules())
    for kind in (nn.Linear, nn.Conv2d):
        if names := [name for name, layer in layers if isinstance(layer, kind)]:
            return (names[-1],)
    return ()


def drop_layer(module: nn.Module, name: str) -> nn.Module:
    """Put the identity in the place of a layer."""
    module.set_submodule(name, nn.Identity())
    return module
