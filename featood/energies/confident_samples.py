"""Classifiers that are uncertain at samples of high confidence away from the data."""

from __future__ import annotations

__all__ = ["ConfidentSamplesObjective"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies.classifier import classification_loss, prediction_entropy
from featood.energies.replay import SampledObjective
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class ConfidentSamplesObjective(SampledObjective):
    """Learn a classifier, and raise the entropy of its predictions at samples that descended this entropy.

    References
    ----------
    The sampler of Grathwohl et al., ICLR 2020, on another energy; https://github.com/selflein/MA-EBM.
    """

    supervised: ClassVar[bool] = True

    uncertainty: float = option(1.0, "weight of the samples' entropy in the loss", low=0)

    def energy_losses(
        self,
        net: nn.Module,
        parts: Mapping[str, Any],
        rows: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Draw samples, and return the cross-entropy of the inputs minus the entropy at the samples."""
        samples = self.samples(net, parts["chains"], len(rows), generator, energy=prediction_entropy)
        named, unsure = classification_loss(net, rows, labels), prediction_entropy(net)(samples).mean()
        return {"loss": named - self.uncertainty * unsure, "classification": named, "entropy": unsure}
