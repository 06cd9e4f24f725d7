"""Weights from a file, as they were published, or random ones."""

from __future__ import annotations

__all__ = ["Loaded", "Make", "file_name", "from_file", "obtain"]

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from featood.errors import DataError, Mismatch
from featood.extractors.backbones.backbone import RANDOM
from featood.extractors.backbones.shape import Made, Shape, shape_in_file
from featood.extractors.weights import Conversion, fill, match, read_checkpoint
from featood.nets import seeded

Make = Callable[[Shape], nn.Module]


class Loaded(NamedTuple):
    """A network with weights."""

    module: nn.Module
    weights: str
    """A file's name, the name of published weights, or ``random``."""
    shape: Shape = Shape()
    """What a file decided otherwise than the network is made."""
    classes: tuple[str, ...] = ()
    """Names of the classes, where a file has them for its logits."""
    notes: tuple[str, ...] = ()

    @property
    def has_published_classes(self) -> bool:
        """Whether its logits are those of the published weights, as far as can be told."""
        return self.shape.classes is None and not self.shape.without and self.weights != RANDOM


def obtain(
    make: Make,
    weights: str,
    seed: int,
    what: str,
    publish: Callable[[], nn.Module],
    tag: str,
    where: str,
    describe: Callable[[nn.Module], Made],
    conversions: Callable[[nn.Module], Iterable[Conversion]],
) -> Loaded:
    """Return a network with random weights, those of a file, or the published ones.

    Parameters
    ----------
    make, describe, conversions
        See :func:`from_file`.
    weights : str
        ``random``, a file, or nothing for the published ones.
    seed : int
        Of random weights.
    what : str
        The backbone.
    publish : callable
        Makes the network with its published weights.
    tag, where : str
        Name and address of these.

    Raises
    ------
    DataError, Mismatch
        When the weights cannot be had, cannot be read or do not fit.
    """
    if weights == RANDOM:
        with seeded(torch.Generator().manual_seed(seed)):
            return Loaded(make(Shape()), RANDOM)
    if weights:
        loaded = from_file(make, weights, describe, conversions)
        return loaded._replace(notes=(*loaded.notes, _preparation(what, loaded.shape)))
    return Loaded(_published(publish, what, where), tag)


def from_file(
    make: Make,
    weights: str,
    describe: Callable[[nn.Module], Made],
    conversions: Callable[[nn.Module], Iterable[Conversion]] = lambda _: (),
) -> Loaded:
    """Make a network with the classes, channels and image size of a file of weights, and load them.

    Parameters
    ----------
    make : callable
        From a shape to the network.
    weights : str
        The file; see :func:`featood.extractors.weights.read_checkpoint`.
    describe : callable
        From the network to what of it may differ in a file.
    conversions : callable
        From the network to conversions of older names.

    Raises
    ------
    DataError, Mismatch
        When the weights cannot be read or do not fit.
    """
    checkpoint = read_checkpoint(weights)
    module = make(Shape())
    own, made, what = module.state_dict(), describe(module), type(module).__name__
    children = [name for name, _ in module.named_children()]
    found = match(checkpoint, own, what, made.slots, (*conversions(module), partial(_by_position, children)))
    shape, notes, tensors = shape_in_file(found, own, made, weights), found.notes, found.tensors
    if shape != Shape():
        try:
            module = make(shape)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise Mismatch(f"{weights}: no {what} can be made {shape}, as in the file: {error}") from error
        own = module.state_dict()
        tensors = {name: tensor for name, tensor in tensors.items() if name in own}
        if absent := [name for name in own if name not in tensors]:
            raise Mismatch(f"{weights} does not fit this {what} {shape}: missing {', '.join(absent[:8])}")
        notes += (f"made {shape}, as in the file",)
    notes += fill(module, tensors, weights)
    head = "" if shape.without or not made.slots.head else f"{made.slots.head[0]}.weight"
    named = head and len(own[head]) == len(checkpoint.classes)
    return Loaded(module, file_name(weights), shape, checkpoint.classes if named else (), notes)


def _by_position(children: Sequence[str], flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """Name layers that are numbered, as in ``nn.Sequential(*net.children())``, after the network's."""

    def name(found: re.Match[str]) -> str:
        place = int(found[2])
        return f"{found[1]}{children[place]}." if place < len(children) else found[0]

    renamed = {re.sub(r"^((?:[^\d.][^.]*\.)*)(\d{1,3})\.", name, key): value for key, value in flat.items()}
    return renamed, f"took the file's numbered layers for {', '.join(children[:3])}, ..., in this order"


def _preparation(resolved: str, shape: Shape) -> str:
    """Return the line about the transform of weights that come with none."""
    grey = ", mean and std averaged over colours" if shape.channels == 1 else ""
    return (
        f"images are prepared as for the published weights of {resolved}{grey} "
        "(--mean, --std and --image-size change that)"
    )


def _published(make: Callable[[], nn.Module], what: str, where: str) -> nn.Module:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # downloaders talk, and stdout is for results
            return make()
    except Exception as error:  # no network, hub errors, bad checksums, damaged downloads
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:160]
        raise DataError(
            f"the weights of {what} could not be had ({reason}): fetch {where or 'them'} where there is a network "
            "and give the file by --weights FILE, or take --weights random for an untrained network"
        ) from error


def file_name(weights: str) -> str:
    """Return the last part of the path of a file or folder of weights."""
    return os.path.basename(weights.rstrip("/\\"))
