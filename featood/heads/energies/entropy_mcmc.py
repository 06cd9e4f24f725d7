"""Entropy-MCMC: a classifier trained to be uncertain at samples of high confidence away from the data."""

from __future__ import annotations

__all__ = ["EntropyMCMC"]

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featood.energies import ConfidentSamplesObjective
from featood.heads.energies._energy_head import PLAIN, SampledHead
from featood.heads.registry import register
from featood.options import option


@register(
    "entropy-mcmc",
    title="Classifier regularised at confident samples",
    paper="Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, "
    "ICLR (its sampler, on the entropy)",
    year=2020,
    url="https://arxiv.org/abs/1912.03263",
    needs=("features", "labels"),
)
class EntropyMCMC(ConfidentSamplesObjective, SampledHead):
    """Score a classifier of the features trained to be uncertain at samples on which it is confident.

    Langevin chains start far from the data and descend the entropy of the prediction; the loss is the cross-entropy of
    the features minus the entropy at the samples. Steps, noise and chains are the published ones for tables; the preset
    ``published`` has neither a base nor its energy as the score.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        **SampledHead.testing_options,
        "depth": 2,
        "lr": 3e-3,
    }

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": {**PLAIN, "which": "max-probability"}}

    which: str = option(
        "energy",
        "free energy, or 1 - largest probability",
        choices=("energy", "max-probability"),
    )
    sgld_steps: int = option(30, "Langevin steps between two updates", low=1)
    step_size: float = option(1.0, "Langevin step size", low=0)
    noise: float = option(0.1, "standard deviation of the Langevin noise", low=0)
    buffer_size: int = option(9000, "number of persistent chains in the replay buffer", low=1)
    spread: float = option(10.0, "initial states are in [-spread, spread]", low=0)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        if self.which == "energy":
            return model.energy(rows)
        return 1 - model(rows).softmax(1).max(1).values
