"""JEM: a classifier that is also an energy-based model of its inputs."""

from __future__ import annotations

__all__ = ["JEM"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies import class_energy, contrastive_divergence, frozen, joint_loss
from featood.heads.energies._energy_head import PUBLISHED, SampledHead
from featood.heads.registry import register
from featood.options import option


@register(
    "jem",
    title="Joint energy model",
    paper="Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, "
    "ICLR",
    year=2020,
    url="https://arxiv.org/abs/1912.03263",
    needs=("features", "labels"),
)
class JEM(SampledHead):
    """Score a classifier of the features whose free energy also models the density of the features.

    Samples descend the energy of a randomly drawn class, and each class has its own chains; with
    ``class_conditional=False`` they descend the free energy. Sampler and preset are described in `cd`.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": PUBLISHED}

    which: str = option(
        "energy",
        "free energy, 1 - largest probability, or norm of the energy's gradient (approximate mass)",
        choices=("energy", "max-probability", "gradient-norm"),
    )
    class_conditional: bool = option(True, "sample from the energy of a class instead of the free energy")
    density: float = option(1.0, "weight of the density of the features in the loss", low=0)
    classification: float = option(1.0, "weight of the cross-entropy in the loss", low=0)
    class_density: float = option(
        0.0, "weight of a contrastive term with samples of the rows' own classes", low=0
    )
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)
    smoothing: float = option(0.0, "label smoothing", low=0, high=1)
    entropy: float = option(
        0.0, "weight of the regulariser that increases the entropy of the predictions", low=0
    )

    def outputs(self, classes: int) -> int:
        """Return one output for each class."""
        return classes

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw samples, and return the contrastive and classification losses."""
        drawn = None
        if self.class_conditional:
            shape = (len(rows),)
            drawn = torch.randint(
                model.chains.classes, shape, generator=generator, device=generator.device
            ).to(rows.device)
        parts = joint_loss(
            model,
            rows,
            labels,
            self._sample(model, len(rows), drawn, generator),
            density=self.density,
            classification=self.classification,
            l2=self.l2,
            smoothing=self.smoothing,
            entropy=self.entropy,
        )
        if self.class_density:
            samples = self._sample(model, len(rows), labels, generator)
            further = contrastive_divergence(model.energy, rows, samples, l2=0.0)
            parts["loss"] = parts["loss"] + self.class_density * further["loss"]
        return parts

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        if self.which == "max-probability":
            return 1 - model(rows).softmax(1).max(1).values
        if self.which == "gradient-norm":
            rows = rows.detach().requires_grad_(True)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(model.energy(rows).sum(), rows)
            return slope.norm(dim=1)
        return model.energy(rows)

    def _sample(self, model: Any, count: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        energy = model.energy if labels is None else class_energy(model, labels)
        with frozen(model):
            return model.chains.sample(energy, count, labels=labels, generator=generator, **self.sampling)
