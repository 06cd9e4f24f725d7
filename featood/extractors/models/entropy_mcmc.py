"""Classifiers that are uncertain at samples of high confidence."""

from __future__ import annotations

__all__ = ["EntropyMCMC"]

from featood.energies import ConfidentSamplesObjective
from featood.extractors.models.energy_model import SampledModel
from featood.extractors.models.registry import register
from featood.options import option


@register(
    "entropy-mcmc",
    title="Classifier regularised at confident samples",
    paper="Grathwohl et al., Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One, "
    "ICLR (its sampler, on the entropy)",
    year=2020,
    url="https://arxiv.org/abs/1912.03263",
    needs=("labels",),
)
class EntropyMCMC(ConfidentSamplesObjective, SampledModel):
    """Learn a classifier that is uncertain at samples on which it was confident.

    Langevin chains start far from the images, uniformly in [-10, 10], and descend the entropy of the prediction; the
    loss is the cross-entropy of the images minus the entropy at the samples. Steps, noise and chains are those of the
    thesis's images (Elflein 2023), with 20 steps where it has 50. Score it with ``msp`` or ``energy``.
    """

    step_size: float = option(1.0, "Langevin step size", low=0)
    noise: float = option(0.01, "standard deviation of the Langevin noise", low=0)
    spread: float = option(10.0, "chains are initialised uniformly in [-spread, spread]", low=0)
    gradient_clip: float = option(
        0.0, "largest absolute value of each element of the sampler's gradient; 0 for no limit", low=0
    )
    value_clamp: float = option(
        0.0, "largest absolute value of each element of a sample; 0 for no limit", low=0
    )
