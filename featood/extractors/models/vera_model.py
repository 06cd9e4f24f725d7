"""Base of the models with a generator of images."""

from __future__ import annotations

__all__ = ["GeneratedModel"]

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import VeraObjective
from featood.extractors.models.between import SAMPLES
from featood.extractors.models.energy_model import EnergyModel
from featood.nets.decoders import UpsamplingDecoder
from featood.nets.initialise import seeded
from featood.options import option


@dataclasses.dataclass(kw_only=True, eq=False)
class GeneratedModel(VeraObjective, EnergyModel):
    """An energy model against a generator of images; weights and learning rates are those of the thesis's images."""

    training: ClassVar[Mapping[str, Any]] = {
        **EnergyModel.training, "lr": 3e-5, "momentum": 0.0, "beta2": 0.9,
        "lr_of": ("parts.sampler.network=6e-5", "parts.sampler.log_sigma=6e-5", "parts.sampler.log_posterior=3e-5"),
    }  # fmt: skip

    generator_width: int = option(64, "channels of the generator's maps", low=1)
    noise_size: int = option(128, "input size of the generator; 0 for the size of the inputs", low=0)
    entropy: float = option(1e-4, "weight of the generator's entropy; 1 is maximum likelihood", low=0)
    l2: float = option(0.0, "weight of the squared energies in the loss", low=0)
    l2_per_feature: bool = option(
        False, "divide that weight by the size of the inputs, because energies grow with it"
    )

    def generator_net(self, size: int, shape: tuple[int, ...], generator: torch.Generator) -> nn.Module:
        """Return the generator's network, whose images are in [-1, 1] and depend on their own noise only."""
        with seeded(generator):
            return nn.Sequential(UpsamplingDecoder(size, shape, self.generator_width), nn.Tanh())  # type: ignore[arg-type]

    def pictures(self, net: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return images of the generator."""
        return {"samples": net.parts["sampler"].sample(SAMPLES, generator)[0].detach()}
