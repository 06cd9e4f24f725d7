"""The weights that a training starts from: of a trained network, of a file, or published ones."""

from __future__ import annotations

__all__ = ["InitialWeights", "find_initial_weights"]

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from featood.errors import Mismatch, UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.inputs import image_transform
from featood.extractors.trainer import Architecture, is_extractor, load_extractor
from featood.extractors.transform import Transform
from featood.reporter import SILENT, Reporter
from featood.training.checkpoint import digest


class InitialWeights(NamedTuple):
    """Tensors of a network by name, and the transform they were trained with, if it is known."""

    name: str
    tensors: Mapping[str, Tensor]
    transform: Transform | None

    @property
    def digest(self) -> str:
        """SHA-256 of the tensors."""
        return digest(*self.tensors.values())

    def load(self, net: nn.Module, reporter: Reporter = SILENT) -> None:
        """Load the tensors into a network; a last layer for another number of classes stays as it is.

        Raises
        ------
        Mismatch
            If another tensor is missing, unexpected or of another shape.
        """
        expected = net.state_dict()
        last = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)][-1:]
        other = {
            name
            for name, tensor in self.tensors.items()
            if name in expected
            and tensor.shape[:1] != expected[name].shape[:1]
            and name.rpartition(".")[0] in last
        }
        tensors = {name: expected[name] if name in other else tensor for name, tensor in self.tensors.items()}
        try:
            net.load_state_dict(tensors)
        except RuntimeError as error:
            raise Mismatch(
                f"the weights of {self.name} do not fit the network with these options: {' '.join(str(error).split())}"
            ) from None
        if other:
            counts = [len(values[min(other)]) for values in (self.tensors, expected)]
            reporter.line(
                f"initial weights: {last[0]} has {counts[0]} outputs, not {counts[1]}, and starts from random weights"
            )


def find_initial_weights(
    name: str, architecture: Architecture, reporter: Reporter = SILENT
) -> InitialWeights:
    """Find weights by name.

    Parameters
    ----------
    name : str
        Folder of a network trained by featood, file of weights of `architecture`, or name of a backbone with published
        weights.
    architecture : Architecture
        The network to train.
    reporter : Reporter
        Receives a line about each choice made in reading a file.

    Raises
    ------
    DataError, Mismatch, UsageError
        If there are no such weights, or they do not fit.
    """
    if is_extractor(name):
        found = load_extractor(name)
        return InitialWeights(
            name, found.net.whole().state_dict(), image_transform(found.facts.transform, name)
        )
    if Path(name).exists():
        backbone = resolve_backbone(architecture.name, name, options=architecture.options, reporter=reporter)
    else:
        try:
            backbone = resolve_backbone(name, reporter=reporter)
        except UsageError as error:
            raise UsageError(f"'{name}' is no folder of a trained network and no file, and {error}") from None
    for note in backbone.notes:
        reporter.line(f"{name}: {note}")
    known = None if backbone.transform is None else image_transform(backbone.transform, name)
    return InitialWeights(name, backbone.module.state_dict(), known)
