"""Samplers and training objectives for arbitrary energy functions."""

from featood.energies.contrastive import contrastive_divergence
from featood.energies.flow_contrastive import flow_contrastive, importance_likelihood
from featood.energies.gibbs import gibbs_with_gradients
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
from featood.energies.perturbation import perturb
from featood.energies.replay import ReplayBuffer
from featood.energies.score_matching import sliced_score_matching, warn_if_piecewise_linear
from featood.energies.sgld import decay, frozen, sgld
from featood.energies.svgd import svgd
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
    "flow_contrastive",
    "free_energy",
    "frozen",
    "gibbs_with_gradients",
    "gradient_penalty",
    "importance_likelihood",
    "joint_loss",
    "noise_contrastive",
    "perturb",
    "prediction_entropy",
    "sgld",
    "sliced_score_matching",
    "svgd",
    "vera_loss",
    "warn_if_piecewise_linear",
]
