"""Samplers and objectives for energy functions: one principle, whatever the energy is of."""

from featood.energies.contrastive import contrastive_divergence
from featood.energies.joint import (
    class_energy,
    classification_loss,
    free_energy,
    joint_loss,
    prediction_entropy,
)
from featood.energies.noise_contrastive import (
    GaussianNoise,
    UniformNoise,
    conditional_noise_contrastive,
    noise_contrastive,
)
from featood.energies.replay import ReplayBuffer
from featood.energies.score_matching import sliced_score_matching, warn_if_piecewise_linear
from featood.energies.sgld import decay, frozen, sgld
from featood.energies.vera import VeraSampler, gradient_penalty, vera_loss

__all__ = [
    "GaussianNoise",
    "ReplayBuffer",
    "UniformNoise",
    "VeraSampler",
    "class_energy",
    "classification_loss",
    "conditional_noise_contrastive",
    "contrastive_divergence",
    "decay",
    "free_energy",
    "frozen",
    "gradient_penalty",
    "joint_loss",
    "noise_contrastive",
    "prediction_entropy",
    "sgld",
    "sliced_score_matching",
    "vera_loss",
    "warn_if_piecewise_linear",
]
