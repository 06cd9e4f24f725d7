"""JEM: a classifier that is also an energy-based model of its inputs."""

from __future__ import annotations

__all__ = ["JEM"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies import JointObjective
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
class JEM(JointObjective, SampledHead):
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
