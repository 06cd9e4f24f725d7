"""Base of the models with one prototype of each class, a moving average of embeddings."""

from __future__ import annotations

__all__ = ["PrototypeModel"]

import dataclasses
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.projection import ProjectionModel
from featood.losses import class_means, moved_prototypes, prototype_compactness, prototype_dispersion
from featood.options import option


class _Prototypes(nn.Module):
    rows: Tensor

    def __init__(self, classes: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(classes, latent))


@dataclasses.dataclass(kw_only=True, eq=False)
class PrototypeModel(ProjectionModel):
    """A model with the part ``prototypes``, which start as the mean embeddings in the untrained network."""

    temperature: float = option(0.1, "divides the similarities", low=1e-4)
    prototype_momentum: float = option(
        0.95, "share of a prototype that a row of its class leaves", low=0, high=1
    )

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the perceptron and the prototypes."""
        return {**super().parts(setup), "prototypes": _Prototypes(setup.classes, self.latent)}

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Set the prototypes to the mean embeddings, scaled to unit length."""
        part = self._prototypes(net)
        found = [(self.embed(net, net.features(batch.images)), batch.labels) for batch in batches]
        rows, labels = (torch.cat(values) for values in zip(*found, strict=True))
        means, _ = class_means(rows.to(part.rows.dtype), labels, len(part.rows))
        part.rows.copy_(F.normalize(means, dim=1))

    def prototype_losses(self, net: SplitNet, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Move the prototypes, and return compactness and dispersion, which has a gradient through the move."""
        part = self._prototypes(net)
        embedding, labels = self.pairs(net, features, labels)
        moved = moved_prototypes(part.rows.clone(), embedding, labels, self.prototype_momentum)
        part.rows.copy_(moved.detach())
        compactness = prototype_compactness(embedding, part.rows.to(embedding), labels, self.temperature)
        return compactness, prototype_dispersion(moved, self.temperature)

    @staticmethod
    def _prototypes(net: SplitNet) -> _Prototypes:
        part = net.parts["prototypes"]
        assert isinstance(part, _Prototypes)
        return part
