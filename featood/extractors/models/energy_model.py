"""Base of the models whose classifier is an energy of images."""

from __future__ import annotations

__all__ = ["EnergyModel", "SampledModel"]

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies import EnergyObjective, ReplayBuffer, SampledObjective, free_energy, perturb, sgld
from featood.energies.flow_contrastive import Turn
from featood.energies.hybrid import LogitQueue
from featood.extractors.models.between import SAMPLES
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.options import option
from featood.training.gathering import gathered
from featood.training.loop import Losses


@dataclasses.dataclass(kw_only=True, eq=False)
class EnergyModel(EnergyObjective, Model):
    """A model whose loss is an objective of energies; the network has one logit, or one for each class.

    The column ``energy`` is the negated logsumexp of the logits: score it with ``likelihood``.
    """

    density_column: ClassVar[str] = "energy"
    colours: ClassVar[tuple[float, float] | None] = (0.5, 0.5)
    training: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "batch_size": 64, "schedule": "constant",
        "validation": 0.0, "keep": "last",
    }  # fmt: skip

    image_noise: float = option(
        0.03, "standard deviation of the normal noise added to images, whose pixels are in [-1, 1]", low=0
    )

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.classifies = cls.supervised

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the modules that the objective adds."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        parts = self.energy_parts(setup.shape, setup.classes, generator)
        for part in parts.values():
            if isinstance(part, ReplayBuffer | LogitQueue | Turn):
                part.gather = gathered
        return parts

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Set what the added modules take from the training images."""
        pairs = ((batch.images, batch.labels) for batch in batches)
        self.start_parts(dict(net.parts), pairs, torch.default_generator)

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the misclassifications ``[B]``; NaN for one logit, as energies of two networks cannot be compared."""
        if net.outputs > 1:
            return super().errors(net, batch)
        return torch.full((len(batch.images),), torch.nan)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the losses of the objective."""
        batch = batch.inliers()
        images = self.noisy(batch)
        return self.energy_losses(net.logits_net(), dict(net.parts), images, batch.labels, batch.generator)

    def noisy(self, batch: ImageBatch) -> Tensor:
        """Return the images with noise."""
        return perturb(batch.images, batch.generator, spread=self.image_noise)


@dataclasses.dataclass(kw_only=True, eq=False)
class SampledModel(SampledObjective, EnergyModel):
    """An energy model with Langevin samples of images in [-1, 1].

    The sampler has long steps with limited gradients and little noise, by which chains of small networks reach images
    within hundreds of updates. With the values of JEM (a step of 1, noise of 0.01, no limits) they hardly move; recipes
    have these.
    """

    advice: ClassVar[str] = "a smaller --lr or --step-size, more --sgld-steps, or more --image-noise"

    sgld_steps: int = option(20, "Langevin steps between two updates", low=1)
    step_size: float = option(10.0, "Langevin step size", low=0)
    noise: float = option(0.005, "standard deviation of the Langevin noise", low=0)
    spread: float = option(1.0, "initial states are in [-spread, spread]", low=0)
    gradient_clip: float = option(
        0.03, "largest absolute value of each element of the sampler's gradient; 0 for no limit", low=0
    )
    value_clamp: float = option(
        1.0, "largest absolute value of each element of a sample; 0 for no limit", low=0
    )
    image_noise: float = option(
        0.005, "standard deviation of the normal noise added to images, whose pixels are in [-1, 1]", low=0
    )

    def pictures(self, net: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return states of random chains, and the samples after ten times the steps between two updates."""
        states = net.parts["chains"].samples
        chains = states[torch.randperm(len(states), generator=generator)[:SAMPLES].to(states.device)]
        sampling = {**self.sampling, "steps": 10 * self.sgld_steps}
        samples = sgld(free_energy(net.logits_net()), chains, generator=generator, final=1.0, **sampling)
        return {"samples": samples, "chains": chains}
