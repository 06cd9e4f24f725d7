"""Loading published weights, weights from a file, or random weights."""

from __future__ import annotations

__all__ = ["Loaded", "Make", "file_name", "from_file", "obtain"]

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from featood.errors import DataError, Mismatch
from featood.extractors.backbones.backbone import RANDOM, Request
from featood.extractors.backbones.shape import Design, Shape, shape_in_file
from featood.extractors.weights import Conversion, fill, match, read_checkpoint
from featood.nets import seeded

Make = Callable[[Shape], nn.Module]


class Loaded(NamedTuple):
    """A network with weights."""

    module: nn.Module
    weights: str
    """The name of a file or of published weights, or ``random``."""
    shape: Shape = Shape()
    """Differences of a file from the default network."""
    classes: tuple[str, ...] = ()
    """Names of the classes of the logits, if a file has them."""
    notes: tuple[str, ...] = ()

    @property
    def has_published_classes(self) -> bool:
        """Whether its logits apparently have the classes of the published weights."""
        return self.shape.classes is None and not self.shape.without and self.weights != RANDOM


def obtain(
    make: Make,
    request: Request,
    what: str,
    publish: Callable[[], nn.Module],
    tag: str,
    where: str,
    describe: Callable[[nn.Module], Design],
    conversions: Callable[[nn.Module], Iterable[Conversion]],
    prepared: str = "",
) -> Loaded:
    """Return a network with random weights, those of a file, or the published ones.

    Parameters
    ----------
    make, describe, conversions
        See :func:`from_file`.
    request : Request
        Its weights are ``random``, a file, or empty for the published ones.
    what : str
        Name of the backbone.
    publish : callable
        Builds the network with its published weights.
    tag, where : str
        Name and address of the published weights.
    prepared : str
        How images are preprocessed for weights of a file; by default as for the published ones.

    Raises
    ------
    DataError, Mismatch
        If the weights cannot be downloaded or read, or do not match.
    """
    if request.weights == RANDOM:
        with seeded(torch.Generator().manual_seed(request.seed)):
            return Loaded(make(Shape()), RANDOM)
    if request.weights:
        loaded = from_file(make, request.weights, describe, conversions)
        if request.transform is not None:
            return loaded
        how = prepared or f"as for the published weights of {what}"
        return loaded._replace(notes=(*loaded.notes, _preparation(how, loaded.shape)))
    return Loaded(_published(publish, what, where), tag)


def from_file(
    make: Make,
    weights: str,
    describe: Callable[[nn.Module], Design],
    conversions: Callable[[nn.Module], Iterable[Conversion]] = lambda _: (),
    rename: Callable[[nn.Module], Conversion] | None = None,
) -> Loaded:
    """Build a network with the number of classes, channels and image size in a file of weights, and load these.

    Parameters
    ----------
    make : callable
        Builds the network for a shape.
    weights : str
        The file; see :func:`featood.extractors.weights.read_checkpoint`.
    describe : callable
        Returns the properties of the network that may differ in a file.
    conversions : callable
        Returns the conversions of older names for the network, which are tried if the names do not match.
    rename : callable, optional
        Returns a conversion that is applied first.

    Raises
    ------
    DataError, Mismatch
        If the weights cannot be read or do not match.
    """
    checkpoint = read_checkpoint(weights)
    module = make(Shape())
    renamed = ""
    if rename is not None:
        tensors, renamed = rename(module)(checkpoint.tensors)
        checkpoint = dataclasses.replace(checkpoint, tensors=tensors)
    expected, design, what = module.state_dict(), describe(module), type(module).__name__
    children = [name for name, _ in module.named_children()]
    found = match(
        checkpoint, expected, what, design.slots, (*conversions(module), partial(_by_position, children))
    )
    shape, tensors = shape_in_file(found, expected, design, weights), found.tensors
    notes = (*filter(None, [renamed]), *found.notes)
    if shape != Shape():
        try:
            module = make(shape)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise Mismatch(f"{weights}: {what} cannot be built {shape}, as in the file: {error}") from error
        expected = module.state_dict()
        tensors = {name: tensor for name, tensor in tensors.items() if name in expected}
        if absent := [name for name in expected if name not in tensors]:
            raise Mismatch(f"{weights} does not match this {what} {shape}: missing {', '.join(absent[:8])}")
        notes += (f"built {shape}, as in the file",)
    notes += fill(module, tensors, weights)
    head = "" if shape.without or not design.slots.head else f"{design.slots.head[0]}.weight"
    named = head and len(expected[head]) == len(checkpoint.classes)
    return Loaded(module, file_name(weights), shape, checkpoint.classes if named else (), notes)


def _by_position(children: Sequence[str], flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """Rename numbered layers, as in ``nn.Sequential(*net.children())``, to those of the network."""

    def name(found: re.Match[str]) -> str:
        place = int(found[2])
        return f"{found[1]}{children[place]}." if place < len(children) else found[0]

    renamed = {re.sub(r"^((?:[^\d.][^.]*\.)*)(\d{1,3})\.", name, key): value for key, value in flat.items()}
    return renamed, f"read the numbered layers of the file as {', '.join(children[:3])}, ..., in this order"


def _preparation(how: str, shape: Shape) -> str:
    """Return the note about the transform used for weights without one."""
    grey = ", mean and std averaged over colours" if shape.channels == 1 else ""
    return f"images are preprocessed {how}{grey} (--mean, --std, --image-size and --resize change this)"


def _published(make: Callable[[], nn.Module], what: str, where: str) -> nn.Module:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # downloads print progress, but stdout is for results
            return make()
    except Exception as error:  # no network, hub errors, bad checksums, damaged downloads
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:160]
        raise DataError(
            f"the weights of {what} could not be downloaded ({reason}): download {where or 'them'} on a machine with "
            "network access and give the file as --weights FILE, or use --weights random for an untrained network"
        ) from error


def file_name(weights: str) -> str:
    """Return the last part of the path of a file or folder of weights."""
    return os.path.basename(weights.rstrip("/\\"))
